"""Which samplers add noise at their steps: what is read off each is what it does."""

import subprocess
import sys

from devtools.host import ROOT

# In a process of its own, since it becomes ComfyUI.
CODE = """
import torch

from benchmarks import host

host.enter()
import comfy.k_diffusion.sampling as sampling
import comfy.samplers

adds_noise = host.pack("nodes.host.sampler_noise").adds_noise
model, positive, negative = host.digits()
sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "normal", 4)
noise = torch.randn(2, 1, 16, 16)


def latent(sampler, drawn):
    # sampled, where all noise drawn at the steps is a constant
    sampling.default_noise_sampler = sampling.BrownianTreeNoiseSampler = lambda x, *args, **more: lambda *levels: drawn
    return comfy.samplers.sample(
        model, noise, positive, negative, 2.0, "cpu", sampler, sigmas, latent_image=0 * noise, disable_pbar=True, seed=1
    )


for name in comfy.samplers.SAMPLER_NAMES:
    sampler = comfy.samplers.sampler_object(name)
    one, other = (latent(sampler, torch.full_like(noise, value)) for value in (0.0, 0.5))
    print(name, adds_noise(sampler), not torch.equal(one, other))
made = comfy.samplers.ksampler
print("no_eta", adds_noise(made("euler_ancestral", {"eta": 0.0})), False)
print("churned", adds_noise(made("heun", {"s_churn": 1.0})), True)
print("foreign", adds_noise(comfy.samplers.KSAMPLER(lambda model, x, **options: x)), None)
"""


def test_every_sampler_of_comfyui_is_known_for_what_it_does():
    """Those whose function does not tell pass for unknown; only the one whose steps adapt is of that kind."""
    done = subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    known = {name: (said, true) for name, said, true in map(str.split, done.stdout.splitlines())}
    assert known.pop("dpm_adaptive") == ("None", "False")
    assert len(known) > 40 and known["euler"] == ("False", "False") and known["lcm"] == ("True", "True")
    assert {name: pair for name, pair in known.items() if pair[0] != pair[1]} == {}

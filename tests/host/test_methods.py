"""Every CFG method in a real ComfyUI: under each guider, on eps, v and flow, and as ComfyUI's own nodes do it."""

import re
import shutil

import numpy as np
import pytest
from graph import Graph, cfg_combine, custom_sampler, fresh, ksampler, read, said, schedule

import guidance_core as gc
from devtools.host import ROOT
from devtools.server import ComfyServer, PromptFailed
from guidance_core.params import params_of

SCALE = 5.5
METHODS = [name for name in gc.cfg_methods() if name != "standard"]
STRONG = {  # away from neutral on random models, whose predictions are small and alike
    "noisy_condition": {"noise": 0.5},
    "rescale": {"rescale": 1.0},
    "apg": {"norm_threshold": 0.5},
    "adaptive": {"gamma": -1.0},
    "dynamic_threshold": {"percentile": 0.8, "mimic_scale": 1.0},
    "regional": {"outside": 0.2},
    "feedback": {"mixing": 0.5, "target": "-cat"},
    "norm_cap": {"cap": 0.5},
}


def on(g, name, kind, latent_space=""):
    """The parameters of a method, its sockets connected to the probe's nodes."""
    chosen = {
        key: param.default for key, param in params_of(gc.cfg_methods()[name]).items() if param.kind is not object
    }
    for key, param in params_of(gc.cfg_methods()[name]).items():
        if param.socket == "model":
            chosen[key] = g.ProbeModel(kind=kind, seed=9, nonce=fresh())
        elif param.socket == "conditioning":
            chosen[key] = g.ProbeCondition(seed=4)
        elif param.socket == "mask":
            chosen[key] = g.SolidMask(value=0.7, width=64, height=48)
        elif param.socket == "classifier":
            chosen[key] = g.ProbeClassifier(channels=4, latent_space="", nan_below_log_snr=-1000.0, nonce=fresh())
    return chosen | STRONG.get(name, {})


def run_all(server, build, kind):
    """{name: reading, and what was said} of build(g, model) for each of several latents in one prompt."""
    g = Graph()
    model = g.ProbeModel(kind=kind, seed=0, nonce=fresh())
    nodes = {name: g.ProbeRead(latent=latent, nonce=fresh()) for name, latent in build(g, model).items()}
    result = server.run(g.prompt)
    return {name: read(result, node) for name, node in nodes.items()}, result, g


@pytest.mark.parametrize("kind", ["eps", "v", "flow"])
@pytest.mark.parametrize("guider", ["ksampler", "cfg", "dual_regular", "dual_nested", "perp_neg", "dual_model"])
def test_every_method_acts_under_every_guider(server, guider, kind):
    """Each gives a finite picture other than plain guidance; Perp-Neg Guider has Perp-Neg built in, and it is said."""

    def sampled(g, model, method, second, **parameters):
        patched = cfg_combine(g, model, SCALE, method, **parameters)
        if guider == "ksampler":
            return ksampler(g, patched, 1.0, steps=3)
        return custom_sampler(g, patched, guider, SCALE, steps=3, second=second)

    def build(g, model):
        second = g.ProbeModel(kind=kind, seed=3, nonce=fresh())
        made = {"standard": sampled(g, model, "standard", second)}
        return made | {name: sampled(g, model, name, second, **on(g, name, kind)) for name in METHODS}

    readings, result, _ = run_all(server, build, kind)
    plain = readings["standard"].latent
    for name in METHODS:
        latent = readings[name].latent
        assert np.isfinite(latent).all(), name
        if name == "perp_neg" and guider == "perp_neg":
            assert "Perp-Neg Guider does by itself what the method perp_neg does" in said(result)
            continue
        assert np.abs(latent - plain).max() > 1e-4 * np.abs(plain).max(), name


def close(ours, theirs):
    np.testing.assert_allclose(ours.latent, theirs.latent, atol=2e-4 * np.abs(theirs.latent).max())


def compared(server, ours, theirs, kind="eps"):
    """The two readings of two graphs on one model; they must not be plain guidance both."""
    readings, *_ = run_all(
        server,
        lambda g, m: {"ours": ours(g, m), "theirs": theirs(g, m), "plain": ksampler(g, m, SCALE)},
        kind,
    )
    assert np.abs(readings["theirs"].latent - readings["plain"].latent).max() > 1e-3
    return readings["ours"], readings["theirs"]


@pytest.mark.parametrize("kind", ["eps", "v"])
def test_tcfg_is_comfyuis_own(server, kind):
    close(
        *compared(
            server,
            lambda g, m: ksampler(g, cfg_combine(g, m, SCALE, "tcfg"), 1.0),
            lambda g, m: ksampler(g, g.TCFG(model=m), SCALE),
            kind,
        )
    )


@pytest.mark.parametrize("kind", ["eps", "v", "flow"])
def test_apg_is_comfyuis_own_at_one_scale_less(server, kind):
    """ComfyUI's APG applies scale, not scale - 1, to its projected difference: its 4.5 is the paper's 5.5."""
    parameters = {"eta": 0.3, "norm_threshold": 2.0, "momentum": -0.4}
    close(
        *compared(
            server,
            lambda g, m: ksampler(g, cfg_combine(g, m, SCALE, "apg", **parameters), 1.0),
            lambda g, m: ksampler(g, g.APG(model=m, **parameters), SCALE - 1),
            kind,
        )
    )


@pytest.mark.parametrize("kind", ["eps", "flow"])
@pytest.mark.parametrize("strength", [1.0, 0.4])
def test_cfg_norm_is_comfyuis_own_before_cfg(server, kind, strength):
    close(
        *compared(
            server,
            lambda g, m: ksampler(g, cfg_combine(g, m, SCALE, "cfg_norm", strength=strength), 1.0),
            lambda g, m: ksampler(g, g.CFGNorm(model=m, strength=strength, pre_cfg=True), SCALE),
            kind,
        )
    )


@pytest.mark.parametrize("kind", ["eps", "v", "flow"])
def test_perp_neg_is_the_perp_neg_guider(server, kind):
    def ours(g, m):
        empty = g.ProbeCondition(seed=3)
        return custom_sampler(g, cfg_combine(g, m, SCALE, "perp_neg", neg_scale=0.8, empty=empty), "cfg", 1.0)

    close(*compared(server, ours, lambda g, m: custom_sampler(g, m, "perp_neg", SCALE), kind))


@pytest.mark.parametrize("kind", ["eps", "v", "flow"])
@pytest.mark.parametrize("guider", ["cfg", "basic"])
def test_autoguidance_is_two_models_on_one_prompt(server, kind, guider):
    def ours(g, m):
        weak = g.ProbeModel(kind=kind, seed=9, nonce=1)
        return custom_sampler(g, cfg_combine(g, m, SCALE, "autoguidance", weak=weak), guider, 1.0)

    def theirs(g, m):
        weak = g.ProbeModel(kind=kind, seed=9, nonce=2)
        positive = g.ProbeCondition(seed=1)
        return custom_sampler(g, m, "dual_model", SCALE, second=weak, positive=positive, negative=positive)

    close(*compared(server, ours, theirs, kind))


@pytest.mark.parametrize("kind", ["eps", "v", "flow"])
def test_cfg_pp_is_the_cfg_pp_sampler(server, kind):
    """lambda 0.44 is the scale 5.5 of 12.5; ordinary Euler then takes the step of ComfyUI's euler_cfg_pp."""
    close(
        *compared(
            server,
            lambda g, m: ksampler(g, cfg_combine(g, m, SCALE, "cfg_pp", full_scale=12.5), 1.0),
            lambda g, m: ksampler(g, m, SCALE / 12.5, sampler="euler_cfg_pp"),
            kind,
        )
    )


def test_passes_of_methods_that_run_their_own(server):
    """Perp-Neg runs a third pass; autoguidance the weak model's in place of the negative; adaptive one once settled."""
    g = Graph()
    nodes = {}
    for name, parameters in (
        ("perp_neg", {}),
        ("autoguidance", {}),
        ("adaptive", {"gamma": -1.0}),
        ("adaptive", {"gamma": 1.0}),
    ):
        model = g.ProbeModel(kind="eps", seed=0, nonce=fresh())
        chosen = on(g, name, "eps") | parameters
        window = schedule(g, "interval", "step", start=0.0, end=3 / 5)
        latent = ksampler(g, cfg_combine(g, model, SCALE, name, window, **chosen), 1.0)
        second = {"second_model": chosen["weak"]} if name == "autoguidance" else {}
        nodes[name, parameters.get("gamma")] = g.ProbeRead(latent=latent, model=model, nonce=fresh(), **second)
    result = server.run(g.prompt)
    readings = {key: read(result, node) for key, node in nodes.items()}
    assert readings["perp_neg", None].passes == 4 * 3 + 2
    assert readings["autoguidance", None].passes == 6
    assert len(readings["autoguidance", None].second_calls) == 4
    assert readings["adaptive", -1.0].passes == 2 + 5  # settled after the first call
    assert readings["adaptive", 1.0].passes == 2 * 4 + 2
    for line in ("14 of 18 passes", "10 of 12 passes"):
        assert line in said(result)


def test_a_weak_model_that_is_the_model_itself_patched_is_refused(server):
    g = Graph()
    model = g.ProbeModel(kind="eps", seed=0, nonce=fresh())
    patched = g.ModelMergeSimple(model1=model, model2=g.ProbeModel(kind="eps", seed=1, nonce=fresh()), ratio=0.5)
    g.ProbeRead(latent=ksampler(g, cfg_combine(g, model, SCALE, "autoguidance", weak=patched)), nonce=fresh())
    with pytest.raises(PromptFailed, match="CFG Combine: the second model is this model itself"):
        server.run(g.prompt)


def refused(server, build) -> str:
    """The sentence with which build(g, model) fails."""
    g = Graph()
    g.ProbeRead(latent=build(g, g.ProbeModel(kind="eps", seed=0, nonce=fresh())), nonce=fresh())
    with pytest.raises(PromptFailed) as caught:
        server.run(g.prompt)
    return caught.value.exception_message


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (
            lambda g, m: ksampler(g, cfg_combine(g, m, SCALE, "autoguidance")),
            "CFG Combine: the method 'autoguidance' needs a model at weak: connect one.",
        ),
        (
            lambda g, m: ksampler(g, cfg_combine(g, m, SCALE, "perp_neg", neg_scale=1.0)),
            "CFG Combine: the method 'perp_neg' needs a conditioning at empty: connect one.",
        ),
        (
            lambda g, m: ksampler(
                g, cfg_combine(g, m, SCALE, "autoguidance", weak=g.ProbeModel(kind="flow", seed=1, nonce=fresh()))
            ),
            "or they mix noise in other ways: connect a model of the same family",
        ),
        (
            lambda g, m: ksampler(
                g,
                g.ModelMergeSimple(
                    model1=cfg_combine(g, m, SCALE, "autoguidance", weak=m),
                    model2=g.ProbeModel(kind="eps", seed=1, nonce=fresh()),
                    ratio=0.5,
                ),
            ),
            "CFG Combine: the second model is this model itself with other patches",
        ),
    ],
    ids=["no weak", "no empty", "other family", "patched after"],
)
def test_what_is_connected_must_be_there_and_fit(server, build, sentence):
    assert sentence in refused(server, build)


def test_conditions_that_end_early_are_absent_for_methods_too(server):
    """An empty prompt or a positive that ends leaves plain guidance by what there is, never guidance against zeros."""

    def ending(g, seed):
        return g.ConditioningSetTimestepRange(conditioning=g.ProbeCondition(seed=seed), start=0.0, end=0.4)

    def build(g, model):
        weak = g.ProbeModel(kind="eps", seed=9, nonce=fresh())
        empty = cfg_combine(g, model, SCALE, "perp_neg", neg_scale=1.0, empty=ending(g, 4))
        auto = cfg_combine(g, model, SCALE, "autoguidance", weak=weak)
        return {
            "plain": ksampler(g, model, SCALE),
            "empty ends": ksampler(g, empty, 1.0),
            "positive ends": ksampler(g, auto, 1.0, positive=ending(g, 1)),
            "nested without positive": custom_sampler(g, auto, "dual_nested", 1.5),
        }

    readings, result, _ = run_all(server, build, "eps")
    size = readings["plain"].latent.std()
    for name in ("empty ends", "positive ends", "nested without positive"):
        assert 0.2 * size < readings[name].latent.std() < 1.5 * size, name
    counted = re.findall(r"(\d+) of (\d+) passes", said(result))
    assert len(counted) == 3 and all(int(run) <= int(of) for run, of in counted), said(result)


def test_methods_without_meaning_together_are_refused_when_patched(server):
    g = Graph()
    model = g.ProbeModel(kind="eps", seed=0, nonce=fresh())
    model = cfg_combine(g, model, SCALE, "mambo_g", **on(g, "mambo_g", "eps"))
    model = cfg_combine(g, model, SCALE, "cfg_pp", **on(g, "cfg_pp", "eps"))
    g.ProbeRead(latent=ksampler(g, model), nonce=fresh())
    with pytest.raises(PromptFailed, match="CFG Combine: 'cfg_pp' and 'mambo_g' both decide the effective scale"):
        server.run(g.prompt)


def test_hooks_that_a_guider_does_not_run_are_named(server):
    def build(g, model):
        apg = g.APG(model=model, eta=1.0, norm_threshold=0.0, momentum=0.0)
        rescaled = g.RescaleCFG(model=model, multiplier=0.7)
        return {
            "dual": custom_sampler(g, cfg_combine(g, apg, SCALE), "dual_nested", SCALE),
            "perp": custom_sampler(g, cfg_combine(g, rescaled, SCALE), "perp_neg", SCALE),
            "slot": ksampler(g, cfg_combine(g, rescaled, SCALE, "tcfg"), 1.0),
        }

    *_, result, _ = run_all(server, build, "eps")
    assert "The pre-CFG hook of APG is not run by this guider (Guider_DualCFG)" in said(result)
    assert "The CFG function of RescaleCFG is not run by this guider (Guider_PerpNeg)" in said(result)
    assert "The CFG function of RescaleCFG is replaced by the method here" in said(result)


def test_a_report_tells_the_plan_and_what_ran(server):
    g = Graph()
    model = g.ProbeModel(kind="eps", seed=0, nonce=fresh())
    window = schedule(g, "interval", "step", start=2 / 5, end=1.0)
    model = g.APG(model=model, eta=1.0, norm_threshold=0.0, momentum=0.0)
    model = cfg_combine(g, model, 3.0, "rescale", rescale=0.7)
    model = cfg_combine(g, model, SCALE, "mambo_g", window, alpha=2.0)
    before = g.GuidanceKitGuidanceReport(model=model, steps=10, scheduler="normal")
    latent = ksampler(g, model, 1.0)
    after = g.GuidanceKitGuidanceReport(model=model, steps=10, scheduler="normal", latent=latent)
    plan, ran = (g.PreviewAny(source=node) for node in (before, after))
    g.SaveLatent(samples=latent, filename_prefix="report")
    result = server.run(g.prompt)
    plan, ran = (result.outputs[node.node]["text"][0] for node in (plan, ran))
    assert "CFG: scale 5.5, schedule interval by step from 0.4 to 1." in plan
    assert "Methods, in the order they act: MAMBO-G, Rescale." in plan
    assert "10 steps, 6 of them guided: 16 of 20 passes" in plan
    assert "pre-CFG hook of APG: not run by Guider_DualCFG, Guider_DualModel." in plan
    assert "call 1" not in plan
    assert "Ran under CFGGuider: 6 steps, 6 calls." in ran
    assert "10 of 12 passes, 17 % saved." in ran
    lines = [line for line in ran.splitlines() if line.startswith("call ")]
    assert len(lines) == 6
    assert all(("passes 2" in line) == (i >= 2) and ("by methods" in line) == (i >= 2) for i, line in enumerate(lines))
    assert all(result.images(node.node)[0].size == (360, 264) for node in (before, after))


NEW_METHOD = '''"""Half guidance."""

from dataclasses import dataclass

from ..params import number
from .base import Method, Phase


@dataclass(frozen=True)
class Half(Method):
    name = "half"
    title = "Half"
    doc = "Guides by a share of the difference."
    source = "none: for a test"
    rank = 77
    share: float = number(0.5, 0.0, 1.0, 0.01, "How much of the difference to use.")

    def start(self, run):
        return {Phase.DIFFERENCE: lambda p: p.with_difference(self.share * p.difference)}
'''


def test_a_new_method_is_one_file_and_the_node_has_it(tmp_path):
    """In a copy of the pack: its option, widget, tooltip and effect, with no other edit."""
    pack = tmp_path / "ComfyUI-GuidanceKit"
    pack.mkdir()
    shutil.copy(ROOT / "__init__.py", pack)
    for folder in ("nodes", "guidance_core"):
        shutil.copytree(ROOT / folder, pack / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (pack / "guidance_core" / "cfg" / "half.py").write_text(NEW_METHOD, encoding="utf-8")
    with ComfyServer(pack=pack, packs=[ROOT / "tests" / "host" / "probe"]) as server:
        combo = server.object_info()["GuidanceKitCFGCombine"]["input"]["required"]["method"][1]
        (option,) = [each for each in combo["options"] if each["key"] == "half"]
        kind, about = option["inputs"]["required"]["share"]
        assert (kind, about["default"], about["max"]) == ("FLOAT", 0.5, 1.0)
        assert about["tooltip"] == "How much of the difference to use."
        assert "half: Guides by a share of the difference." in combo["tooltip"]

        def build(g, m):
            half = cfg_combine(g, m, 5.0, "half", share=0.5)
            return {"half": ksampler(g, half, 1.0), "plain": ksampler(g, m, 3.0)}

        readings, *_ = run_all(server, build, "eps")
    close(readings["half"], readings["plain"])

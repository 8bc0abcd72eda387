"""Train a part of the emoji demo: `python -m guidance_core.demo.emoji.train --part vae`, then the other parts.

`python -m devtools.emoji_pictures` comes first, `vae` before `denoiser` and `classifier`. Interrupted, the same
command goes on where it stopped; `--write` only writes the weights that the state has now. Every draw is seeded.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...classifier.noisy import NoisyClassifier
from ...errors import GuidanceError
from . import train_classifiers, train_denoiser, train_judge, train_vae
from .data import HALF_A, HALF_B, HELD_OUT, WORK, Pictures, load_pictures
from .fit import Fit, N, Plan
from .judge import Guide, Judge, accuracy
from .latents import Bank, load_bank, preview
from .network import Denoiser
from .vae import Vae
from .weights import ABOUT, FOLDER, save

PARTS = ("vae", "denoiser", "classifier", "attributes", "guide", "judge")
Loss = Callable[[Any, torch.Generator], Tensor]


def prepare(part: str, pictures: Pictures, work: Path) -> tuple[Fit, Loss]:
    """A part's training, at the step that its state in `work` has reached, and its loss."""
    match part:
        case "vae":
            return started(part, Vae, train_vae.PLAN, work), train_vae.loss_for(pictures)
        case "denoiser":
            bank = bank_of(pictures, work)
            return started(part, Denoiser, train_denoiser.PLAN, work), train_denoiser.loss_for(bank)
        case "guide":
            return started(part, Guide, train_judge.GUIDE, work), train_judge.guide_loss(pictures.of(HALF_A))
        case _:
            return started(part, Judge, train_judge.JUDGE, work), train_judge.judge_loss(pictures.of(HALF_B))


def started(part: str, network: type[N], plan: Plan, work: Path) -> Fit[N]:
    torch.manual_seed(plan.seed)
    return Fit(network(), plan, work / f"{part}-training.safetensors")


def trained_vae(work: Path) -> Vae:
    """The VAE as the training in `work` has left it. Raises GuidanceError where it is not finished."""
    fit = started("vae", Vae, train_vae.PLAN, work)
    if fit.step < fit.plan.steps:
        raise GuidanceError("The VAE comes first: run 'python -m guidance_core.demo.emoji.train --part vae'.")
    return fit.average


def bank_of(pictures: Pictures, work: Path) -> Bank:
    return load_bank(pictures, trained_vae(work), work / "latents.safetensors")


def facts(part: str, fit: Fit, pictures: Pictures, work: Path) -> dict[str, str]:
    """What a part's card says about its training."""
    told = {"steps": str(fit.step), "seconds": f"{fit.seconds:.0f}", "seed": str(fit.plan.seed)}
    held_out = pictures.of(HELD_OUT)
    if isinstance(fit.average, Vae):
        bank = load_bank(pictures, fit.average, work / "latents.safetensors")
        told |= {"latent_scale": str(bank.scale), "latent_shift": str(bank.shift)}
        told["preview"] = json.dumps(preview(bank, fit.average))
    if part == "denoiser":
        told |= {"predicts": "v", "betas": "scaled_linear"}
    if part in ("guide", "judge"):
        told["held_out_accuracy"] = f"{accuracy(fit.average, held_out.unit, held_out.labels):.4f}"
    return told


def train_noisy(part: str, pictures: Pictures, arguments: argparse.Namespace) -> None:
    """Train a noisy classifier and write it in half precision."""
    bank = bank_of(pictures, arguments.work)
    for done in train_classifiers.train(part, bank, arguments.work):
        if done.step % 50 == 0:
            print(f"step {done.step} of {done.steps}, loss {done.loss:.4f}", flush=True)
    trained = done.best()
    info = trained.info | {key: ABOUT[key] for key in ("data", "data_licence")}
    classifier = NoisyClassifier(trained.network, trained.card, info=info).recording(
        author=ABOUT["author"], licence=ABOUT["licence"], latent_scale=bank.scale, latent_shift=bank.shift
    )
    classifier.network.half()
    classifier.save(arguments.out / f"{part}.safetensors")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m guidance_core.demo.emoji.train", description=__doc__)
    parser.add_argument("--part", choices=PARTS, required=True)
    parser.add_argument("--write", action="store_true", help="write the weights of the state as it is, train nothing")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder for the weights (beside this file)")
    parser.add_argument("--work", type=Path, default=WORK, help=f"folder of the pictures and of the state ({WORK})")
    parser.add_argument("--threads", type=int, default=1, help="processor cores to use (1)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    pictures = load_pictures(arguments.work)
    if arguments.part in ("classifier", "attributes"):
        train_noisy(arguments.part, pictures, arguments)
        return
    fit, loss_of = prepare(arguments.part, pictures, arguments.work)
    mean = None
    for done in () if arguments.write else fit.run(loss_of):
        mean = done.loss if mean is None else mean + 0.01 * (done.loss - mean)
        if done.step % 50 == 0:
            print(f"step {done.step} of {fit.plan.steps}, loss {mean:.4f}, {done.seconds:.0f} s", flush=True)
    file = arguments.out / f"{arguments.part}.safetensors"
    save(fit.average, file, arguments.part, facts(arguments.part, fit, pictures, arguments.work))
    print(f"{file.name}: step {fit.step}, trained for {fit.seconds / 60:.0f} minutes")


if __name__ == "__main__":
    main()

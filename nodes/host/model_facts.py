"""What a MODEL is, read off what it does: its noise path, its output space, its timestep percent, its latents."""

from collections.abc import Callable
from weakref import WeakKeyDictionary

import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...guidance_core.errors import GuidanceError
from ...guidance_core.frozen import frozen
from ...guidance_core.parameterizations import Parameterization
from ...guidance_core.paths import FLOW, VE, NoisePath
from ...guidance_core.run import Run

_paths: WeakKeyDictionary[object, NoisePath | None] = WeakKeyDictionary()  # as long as the models are there


def path_of(model: ModelPatcher) -> NoisePath | None:
    """The noise path on which ComfyUI samples this model, read off what it does; None for one that has no name here."""
    return path_on(model.get_model_object("model_sampling"))


def path_on(model_sampling: object) -> NoisePath | None:
    """path_of, from ComfyUI's object for the noise levels."""
    if model_sampling not in _paths:
        _paths[model_sampling] = _read_path(model_sampling)
    return _paths[model_sampling]


def _read_path(model_sampling: object) -> NoisePath | None:
    scaling, sigma, one, zero = model_sampling.noise_scaling, torch.tensor([0.5]), torch.ones(1), torch.zeros(1)
    levels = (float(scaling(sigma, zero, one)), float(scaling(sigma, one, zero)))  # alpha, sigma
    return {(1.0, 0.5): VE, (0.5, 0.5): FLOW}.get(levels)


@frozen
class ModelOutput(Parameterization):
    """The space of a model's own output, whatever it is: ComfyUI's conversion to denoised is linear in x and output."""

    model_sampling: object

    def coefficients(self, sigma, path):
        one, zero = torch.ones_like(sigma), torch.zeros_like(sigma)
        denoised = self.model_sampling.calculate_denoised
        return denoised(sigma, zero, one), -denoised(sigma, one, zero)


def percent_on(model_sampling: object) -> Callable[[float], float]:
    """sigma -> timestep percent, the inverse of percent_to_sigma of ComfyUI's object for the noise levels."""
    to_sigma = model_sampling.percent_to_sigma

    def percent(sigma: float) -> float:
        low, high = 0.0, 1.0
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (middle, high) if float(to_sigma(middle)) > sigma else (low, middle)
        return (low + high) / 2

    return percent


def run_of(model: ModelPatcher, sigmas: Tensor, seed: int | None = None, **more) -> Run:
    """What the core needs to know of a run of this MODEL."""
    sampling = model.get_model_object("model_sampling")
    return Run(
        path_on(sampling) or VE,
        tuple(sigmas.tolist()),
        seed=seed or 0,
        percent=percent_on(sampling),
        output=ModelOutput(sampling),
        **more,
    )


def latent_space(model: ModelPatcher) -> str:
    """The name of the latents that this model samples."""
    return type(model.get_model_object("latent_format")).__name__


def in_sampler_scale(model: ModelPatcher, latents: Tensor) -> Tensor:
    """Latents as the VAE gives them -> as the sampler sees them. Raises GuidanceError for latents of another model."""
    channels = model.get_model_object("latent_format").latent_channels
    if latents.shape[1] != channels:
        raise GuidanceError(
            f"the latents have {latents.shape[1]} channels, this model has {channels} ({latent_space(model)}): encode "
            f"the pictures with the model's own VAE."
        )
    return model.model.process_latent_in(latents)


def latent_statistics(model: ModelPatcher) -> dict:
    """Path, scale and shift of the model's latents, as a classifier's record has them; None where channels differ."""
    format = model.get_model_object("latent_format")
    shape = (1, format.latent_channels, *[1] * format.latent_dimensions)
    zero, one = (model.model.process_latent_in(torch.full(shape, value)).flatten() for value in (0.0, 1.0))
    path, scale = path_of(model), one - zero
    alike = bool((scale == scale[0]).all()) and bool((zero == zero[0]).all()) and float(scale[0]) != 0
    return {
        "path": path.name if path is not None else "",
        "latent_scale": float(scale[0]) if alike else None,
        "latent_shift": float(-zero[0] / scale[0]) if alike else None,
    }


def check_classifier(model: ModelPatcher, classifier) -> None:
    """Raise GuidanceError unless the classifier was made for this model's latents, or may be for a part of them.

    One of the same latents with other channels may be of a part, as the sound of a video: the run will tell.
    """
    if path_of(model) is None:
        kind = ", ".join(cls.__name__ for cls in type(model.get_model_object("model_sampling")).__mro__[1:3])
        raise GuidanceError(
            f"this model mixes data and noise in a way of its own ({kind}), which noisy classifiers do not know: "
            f"use models of the VE kind (SD 1.x, SDXL) or flow kind (SD3, Flux)."
        )
    latents = model.get_model_object("latent_format")
    name = latent_space(model)
    of_these = classifier.latent_space.lower() == name.lower()
    if classifier.channels != latents.latent_channels and not of_these:
        raise GuidanceError(
            f"the classifier was trained on {classifier.channels}-channel latents, this model has "
            f"{latents.latent_channels} ({name}): load a classifier made for {name} latents."
        )
    if classifier.latent_space and not of_these:
        raise GuidanceError(
            f"the classifier was trained on {classifier.latent_space} latents, this model has {name} latents: "
            f"load a classifier made for {name}."
        )

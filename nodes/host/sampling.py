"""Sampling as KSampler does it, for nodes that bring their own guidance."""

from collections.abc import Callable

import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io

from ...guidance_core.cfg import Pipeline
from ...guidance_core.errors import GuidanceError
from ...guidance_core.frozen import frozen
from ..ui.progress import Bar
from ..ui.widgets import widgets


@frozen
class Sampling:
    """What a KSampler's widgets say."""

    seed: int
    steps: int
    cfg: float
    sampler_name: str
    scheduler: str
    denoise: float


def sampling_inputs(cfg_default: float, cfg_tooltip: str) -> list[io.Input]:
    """The widgets of Sampling."""
    (cfg,) = widgets(Pipeline)
    cfg.id, cfg.default, cfg.tooltip = "cfg", cfg_default, f"{cfg_tooltip} {cfg.tooltip}"
    return [
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=0xFFFFFFFFFFFFFFFF,
            control_after_generate=True,
            tooltip="The number that the noise is made from: the same one gives the same picture.",
        ),
        io.Int.Input("steps", default=20, min=1, max=10000, tooltip="Steps from noise to picture; 20 to 30 is usual."),
        cfg,
        io.Combo.Input("sampler_name", options=comfy.samplers.KSampler.SAMPLERS, tooltip="How each step is taken."),
        io.Combo.Input(
            "scheduler", options=comfy.samplers.KSampler.SCHEDULERS, tooltip="How the noise levels are spaced."
        ),
        io.Float.Input(
            "denoise",
            default=1.0,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip="1 begins from noise; the lower, the more of the latent image is kept.",
        ),
    ]


def negative_for(pipeline: Pipeline, negative: list | None) -> list:
    """The negative to sample with, empty where none is given. Raises GuidanceError where CFG would act against it."""
    if negative is None and (pipeline.scale != 1 or pipeline.stages):
        raise GuidanceError(
            f"CFG at scale {pipeline.scale:g} leads away from a negative, and none is connected: connect "
            f"Null-Condition Encoder or a negative prompt, or set cfg to 1."
        )
    return negative or []


def sampled(
    model: ModelPatcher, latent: dict, positive, negative, how: Sampling, callback: Callable | None = None
) -> dict:
    """A LATENT as KSampler gives it: preview, progress, interrupt, noise mask and batch index included.

    callback: in place of the preview and progress of this one run.
    """
    image = comfy.sample.fix_empty_latent_channels(
        model, latent["samples"], latent.get("downscale_ratio_spacial"), latent.get("downscale_ratio_temporal")
    )
    samples = comfy.sample.sample(
        model,
        comfy.sample.prepare_noise(image, how.seed, latent.get("batch_index")),
        how.steps,
        how.cfg,
        how.sampler_name,
        how.scheduler,
        positive,
        negative,
        image,
        denoise=how.denoise,
        noise_mask=latent.get("noise_mask"),
        callback=callback or latent_preview.prepare_callback(model, how.steps),
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
        seed=how.seed,
    )
    kept = {key: value for key, value in latent.items() if not key.startswith("downscale_ratio_")}
    return kept | {"samples": samples}


def previews(model: ModelPatcher, bar: Bar, run: int, runs: int) -> Callable:
    """A callback that shows run number `run` of several, counted from 0, on their common progress bar."""
    previewer = latent_preview.get_previewer(model.load_device, model.model.latent_format)

    def callback(step, x0, x, total_steps):
        preview = previewer.decode_latent_to_preview_image("JPEG", x0) if previewer else None
        bar.show(run * total_steps + step + 1, runs * total_steps, preview)

    return callback

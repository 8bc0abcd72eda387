"""Classifier Guidance Sampler: a KSampler with a classifier's steering built in, and a picture of what it did."""

from dataclasses import replace

import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview
from comfy_api.latest import io, ui

from ..guidance_core.cfg import Pipeline
from ..guidance_core.classifier.term import ClassifierTerm
from ..guidance_core.scale import ScaleSchedule
from .adapter import with_plan
from .classifier_guidance import classifier_part, target_input
from .plan import CfgPart, plan_of
from .plot import trace_picture
from .types import NOISY_CLASSIFIER, SCALE_SCHEDULE
from .widgets import widgets

TITLE = "Classifier Guidance Sampler"


class ClassifierGuidanceSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        scale, *options = widgets(ClassifierTerm)
        scale.id = "classifier_scale"
        (cfg,) = widgets(Pipeline)
        cfg.id, cfg.default = "cfg", 1.0  # classifier guidance is often used alone
        cfg.tooltip = f"Classifier-free guidance beside the classifier. {cfg.tooltip}"
        return io.Schema(
            node_id="GuidanceKitClassifierGuidanceSampler",
            display_name=TITLE,
            category="model/sampling/guidance",
            description=(
                "KSampler that also steers by a noisy classifier. Gives the latent, and a picture of the run: how "
                "probable the classifier finds the target, the scales and the gradient's size at every step."
            ),
            search_aliases=["ksampler", "sampler", "guided sampler", "classifier", "guidance", "cfg", "label", "trace"],
            has_intermediate_output=True,
            inputs=[
                io.Model.Input("model", tooltip="The model to sample and to steer."),
                NOISY_CLASSIFIER.Input(
                    "classifier", tooltip="What knows the labels: trained on this model's kind of latents."
                ),
                io.Conditioning.Input("positive", tooltip="What the picture should show."),
                io.Conditioning.Input("negative", tooltip="What it should not show; not run where cfg is 1."),
                io.Latent.Input("latent_image", tooltip="An empty latent, or a picture to begin from."),
                target_input(),
                scale,
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="The number that the noise is made from: the same one gives the same picture.",
                ),
                io.Int.Input(
                    "steps", default=20, min=1, max=10000, tooltip="Steps from noise to picture; 20 to 30 is usual."
                ),
                cfg,
                io.Combo.Input(
                    "sampler_name", options=comfy.samplers.KSampler.SAMPLERS, tooltip="How each step is taken."
                ),
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
                *options,
                SCALE_SCHEDULE.Input(
                    "classifier_schedule", optional=True, tooltip="Strength of the classifier over the run."
                ),
                SCALE_SCHEDULE.Input("cfg_schedule", optional=True, tooltip="Strength of CFG over the run."),
            ],
            outputs=[
                io.Latent.Output(),
                io.Image.Output(
                    "trace", tooltip="How probable the target is, the scales and the gradient's size over the steps."
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        model,
        classifier,
        positive,
        negative,
        latent_image,
        target,
        classifier_scale,
        seed,
        steps,
        cfg,
        sampler_name,
        scheduler,
        denoise,
        entropy_aware,
        max_shift,
        classifier_schedule=None,
        cfg_schedule=None,
    ) -> io.NodeOutput:
        node_id = cls.hidden.unique_id
        part = classifier_part(
            model,
            classifier,
            target,
            classifier_schedule,
            TITLE,
            node_id,
            scale=classifier_scale,
            entropy_aware=entropy_aware,
            max_shift=max_shift,
        )
        plan = plan_of(model)
        if plan.cfg is not None:
            part = replace(
                part, note=f"{part.note}\nCFG Combine on the model sets cfg; the cfg here is not used.".strip()
            )
        own_cfg = CfgPart(Pipeline(cfg, cfg_schedule or ScaleSchedule()), TITLE, node_id)
        plan = replace(plan, cfg=plan.cfg or own_cfg, terms=(*plan.terms, part))
        guided, earlier = with_plan(model, plan), plan.journal.last
        latent = _sample(guided, latent_image, positive, negative, seed, steps, cfg, sampler_name, scheduler, denoise)
        ran = plan.journal.last if plan.journal.last is not earlier else None  # without steps there is no run
        trace = trace_picture(ran.events if ran is not None else [], part)
        return io.NodeOutput(latent, trace, ui=ui.PreviewImage(trace, cls=cls))


def _sample(model, latent, positive, negative, seed, steps, cfg, sampler_name, scheduler, denoise) -> dict:
    """As KSampler: preview, progress, interrupt, noise mask and batch index included."""
    image = comfy.sample.fix_empty_latent_channels(
        model, latent["samples"], latent.get("downscale_ratio_spacial"), latent.get("downscale_ratio_temporal")
    )
    samples = comfy.sample.sample(
        model,
        comfy.sample.prepare_noise(image, seed, latent.get("batch_index")),
        steps,
        cfg,
        sampler_name,
        scheduler,
        positive,
        negative,
        image,
        denoise=denoise,
        noise_mask=latent.get("noise_mask"),
        callback=latent_preview.prepare_callback(model, steps),
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
        seed=seed,
    )
    kept = {key: value for key, value in latent.items() if not key.startswith("downscale_ratio_")}
    return kept | {"samples": samples}

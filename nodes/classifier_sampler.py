"""Classifier Guidance Sampler: a KSampler with a classifier's steering built in, and a picture of what it did."""

from dataclasses import replace

from comfy_api.latest import io, ui

from ..guidance_core.cfg import Pipeline
from ..guidance_core.drawing.plot import picture
from ..guidance_core.scale import ScaleSchedule
from ..guidance_core.terms.classifier_guidance import ClassifierTerm
from .classifier_guidance import EXAMPLE, classifier_part, target_input
from .host.plan import CfgPart, plan_of, with_plan
from .host.sampling import Sampling, negative_for, sampled, sampling_inputs
from .host.types import SCALE_SCHEDULE, guiding_classifier
from .ui.checks import written
from .ui.messages import speaking_as
from .ui.trace_plot import as_image, on_node, trace_panels
from .ui.widgets import widgets

TITLE = "Classifier Guidance Sampler"


class ClassifierGuidanceSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        scale, *options = widgets(ClassifierTerm)
        scale.id = "classifier_scale"
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
                guiding_classifier(),
                io.Conditioning.Input("positive", tooltip="What the picture should show."),
                io.Conditioning.Input(
                    "negative",
                    optional=True,
                    tooltip="What it should not show; not needed, and not run, where cfg is 1.",
                ),
                io.Latent.Input("latent_image", tooltip="An empty latent, or a picture to begin from."),
                target_input(),
                scale,
                # the classifier is often used without CFG
                *sampling_inputs(1.0, "Classifier-free guidance, in addition to the classifier."),
                *options,
                SCALE_SCHEDULE.Input(
                    "classifier_schedule", optional=True, tooltip="Strength of the classifier over the run."
                ),
                SCALE_SCHEDULE.Input("cfg_schedule", optional=True, tooltip="Strength of CFG over the run."),
            ],
            outputs=[
                io.Latent.Output(tooltip="The sampled latent: decode it by the VAE."),
                io.Image.Output(
                    "trace", tooltip="How probable the target is, the scales and the gradient's size over the steps."
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, target=None) -> bool | str:
        return written(TITLE, "target", target, EXAMPLE)

    @classmethod
    def execute(
        cls,
        model,
        classifier,
        positive,
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
        negative=None,
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
        with speaking_as(TITLE):
            negative = negative_for(plan.cfg.pipeline, negative)
        guided, earlier = with_plan(model, plan), plan.journal.last
        how = Sampling(seed, steps, cfg, sampler_name, scheduler, denoise)
        latent = sampled(guided, latent_image, positive, negative, how)
        ran = plan.journal.last if plan.journal.last is not earlier else None  # without steps there is no run
        panels = trace_panels(ran.events if ran is not None else [], part)
        return io.NodeOutput(latent, as_image(picture(panels)), ui=ui.PreviewImage(as_image(on_node(panels)), cls=cls))

"""Guidance Sweep: one noise under many scales, schedules or methods, side by side on a labelled sheet."""

from dataclasses import replace

import comfy.model_management
import comfy.samplers
import torch
from comfy_api.latest import io, ui
from torch import Tensor

from ..guidance_core.cfg import Pipeline
from ..guidance_core.errors import GuidanceError
from ..guidance_core.frozen import frozen
from ..guidance_core.sweep import MOST
from ..guidance_core.terms.classifier_guidance import ClassifierTerm
from .classifier_guidance import classifier_part, target_input
from .host.judgement import judgement_by
from .host.plan import CfgPart, Journal, Plan, plan_of, with_plan
from .host.sampling import Sampling, previews, sampled, sampling_inputs
from .host.sweep_kept import Finished, finished_cells
from .host.types import any_classifier
from .ui.messages import headed, say, speaking_as
from .ui.progress import Bar
from .ui.report import planned
from .ui.sweep_axis import Axis, Guidance, axis_input, axis_of
from .ui.sweep_sheet import drawn, head_lines, is_grid, summary_lines, sweep_sheet
from .ui.trace_plot import as_image
from .ui.widgets import chosen, widgets

TITLE = "Guidance Sweep"
UNUSED = "CFG Combine on the model sets cfg; the cfg here is not used."
NO_JUDGE = "Connect a judge for numbers: what a classifier of pictures thinks of its own work is no measure."


class GuidanceSweep(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        (scale,) = widgets(ClassifierTerm, "scale")
        scale.id, scale.tooltip = "classifier_scale", f"With a classifier, where it is not swept. {scale.tooltip}"
        target = target_input()
        target.tooltip = f"With a classifier. {target.tooltip}"
        return io.Schema(
            node_id="GuidanceKitGuidanceSweep",
            display_name=TITLE,
            category="model/sampling/guidance",
            description=(
                "Samples the same noise under several scales, schedules or methods, and shows the pictures side by "
                "side on one labelled sheet: along a row, or in rows and columns. Guidance that is on the model stays."
            ),
            search_aliases=["sweep", "grid", "xy plot", "contact sheet", "compare", "cfg", "ksampler"],
            is_output_node=True,
            inputs=[
                io.Model.Input("model", tooltip="The model to sample."),
                io.Conditioning.Input("positive", tooltip="What the picture is to show."),
                io.Conditioning.Input("negative", tooltip="What it is not to show, or no condition."),
                io.Latent.Input("latent_image", tooltip="An empty latent, or a picture to begin from."),
                io.Vae.Input("vae", tooltip="Makes the pictures."),
                axis_input("columns", "What changes from column to column."),
                axis_input("rows", "What changes from row to row.", optional=True),
                *sampling_inputs(6.0, "Classifier-free guidance, where it is not swept."),
                target,
                scale,
                any_classifier("classifier", "Steers to the target.", optional=True),
                any_classifier(
                    "judge",
                    "Says under each picture how probable the target is. Without it the classifier that steers "
                    "judges its own work, which flatters it; one of pictures is not asked.",
                    optional=True,
                ),
            ],
            outputs=[
                io.Image.Output("sheet", tooltip="All pictures with their labels."),
                io.Image.Output("images", tooltip="The pictures alone, row by row; of video the first frame."),
                io.Latent.Output("latents", tooltip="Their latents, in the same order."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        model,
        positive,
        negative,
        latent_image,
        vae,
        seed,
        steps,
        cfg,
        sampler_name,
        scheduler,
        denoise,
        target,
        classifier_scale,
        columns=None,
        rows=None,
        classifier=None,
        judge=None,
    ) -> io.NodeOutput:
        node_id, plan = cls.hidden.unique_id, plan_of(model)
        how = Sampling(seed, steps, cfg, sampler_name, scheduler, denoise)
        with speaking_as(TITLE):
            if latent_image["samples"].is_nested:
                raise GuidanceError("latents that hold several things at once (video with sound) are not supported.")
            across, down = (
                axis_of(chosen(name, given), name) for name, given in (("columns", columns), ("rows", rows))
            )
            part = None
            if classifier is not None:
                part = classifier_part(model, classifier, target, None, TITLE, node_id, scale=classifier_scale)
            own = plan.cfg or CfgPart(Pipeline(cfg), TITLE, node_id)
            cells = _cells(plan, own, part, across, down)
            sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), scheduler, steps)
            for cell in cells:
                planned(model, cell.plan, sigmas)  # what cannot be sampled is refused before the first sample
            judgement = judgement_by(model, classifier, judge, target)

        sampled_from = {"positive": positive, "negative": negative, "latent": latent_image, **vars(how)}
        sampled_from |= {"columns": columns, "rows": rows}
        sampled_from |= {"classifier": classifier, "target": target, "classifier_scale": classifier_scale}
        with finished_cells(model, sampled_from) as finished:
            there = len(finished)
            _sample_rest(finished, model, cells, latent_image, positive, negative, how)
            verdicts = [judgement.of(model, each.samples) if judgement else "" for each in finished]
            pictures = [_decoded(vae, each.samples) for each in finished]
            head = head_lines(across, down, how, Guidance(own.pipeline, part), judgement, len(finished[0].samples))
            above = [cell.above for cell in cells]
            sheet = sweep_sheet(head, across, down, drawn(above, finished, pictures, verdicts))
            unused = plan.cfg is not None and "cfg scale" not in (across.name, down.name)
            notes = {UNUSED: unused, NO_JUDGE: classifier is not None and judgement is None}
            lines = summary_lines(finished, there, sheet.zoom)
            say(node_id, "\n".join([*lines, *(note for note, due in notes.items() if due)]))
            picture = as_image(sheet.pixels)
            latents = {"samples": torch.cat([each.samples for each in finished])}
            return io.NodeOutput(picture, torch.cat(pictures), latents, ui=ui.PreviewImage(picture, cls=cls))


@frozen
class SweepCell:
    """One cell: both of its values in words, what stands above its picture, and its guidance."""

    words: str
    above: str
    plan: Plan


def _cells(plan: Plan, own: CfgPart, part, across: Axis, down: Axis) -> list[SweepCell]:
    """Every cell, row by row. Raises GuidanceError for what cannot be."""
    if across.name == down.name:
        raise GuidanceError(f"columns and rows both go through '{across.name}': choose two different things.")
    columns, rows = len(across.values), len(down.values)
    if columns * rows > MOST:
        raise GuidanceError(
            f"{columns} columns and {rows} rows are {columns * rows} pictures: a sweep has {MOST} at most."
        )
    cells = []
    for j, (at_left, _) in enumerate(down.values):
        for i, (column, _) in enumerate(across.values):
            guidance = across.changed(down.changed(Guidance(own.pipeline, part), j), i)
            cfg = own if guidance.cfg is own.pipeline else replace(own, pipeline=guidance.cfg)
            terms = plan.terms if guidance.term is None else (*plan.terms, guidance.term)
            words = ", ".join(filter(None, [column, at_left]))
            above = column if is_grid(across, down) else words
            cells.append(SweepCell(words, above, Plan(cfg, terms, Journal())))
    return cells


def _sample_rest(
    finished: list[Finished], model, cells: list[SweepCell], latent: dict, positive, negative, how: Sampling
) -> None:
    """Sample the cells that are not finished, all from the same noise, with one progress bar over all cells."""
    bar = Bar()
    for i, cell in enumerate(cells[len(finished) :], len(finished)):
        comfy.model_management.throw_exception_if_processing_interrupted()
        callback = previews(model, bar, i, len(cells))
        with headed(f"Picture {i + 1} of {len(cells)}: {cell.words}"):
            samples = sampled(with_plan(model, cell.plan), latent, positive, negative, how, callback)["samples"]
        report = cell.plan.journal.last  # None where there was no run, as at denoise 0
        finished.append(Finished(samples, report.passes, report.expected) if report else Finished(samples))


def _decoded(vae, samples: Tensor) -> Tensor:
    """Pictures [B, H, W, 3] of latents; of video the first frame."""
    comfy.model_management.throw_exception_if_processing_interrupted()
    images = vae.decode(samples[:, :, :1] if samples.ndim == 5 else samples)
    images = images[:, 0] if images.ndim == 5 else images
    return images[..., :3].float().cpu()

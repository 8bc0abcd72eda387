"""Guidance Sweep: one noise under many scales, schedules or methods, side by side on a labelled sheet."""

from dataclasses import dataclass, replace

import comfy.model_management
import comfy.samplers
import comfy.utils
import numpy as np
import torch
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io, ui
from torch import Tensor

from ..guidance_core.cfg import Pipeline
from ..guidance_core.drawing.contact_sheet import Cell, contact_sheet, in_rows
from ..guidance_core.errors import GuidanceError
from ..guidance_core.paths import VE
from ..guidance_core.sweep import MOST
from ..guidance_core.terms.classifier_guidance import ClassifierTerm
from ..guidance_core.terms.targets import Target, parse_target
from .classifier_guidance import classifier_part, target_input
from .host.adapter import with_plan
from .host.model_facts import check_classifier, in_sampler_scale, path_of
from .host.plan import CfgPart, Journal, Plan, plan_of
from .host.sampling import Sampling, previews, sampled, sampling_inputs
from .host.sweep_kept import Finished, finished_cells
from .host.types import NOISY_CLASSIFIER, HostClassifier
from .ui.live import sure
from .ui.messages import headed, say, speaking_as
from .ui.report import planned
from .ui.sweep_axis import Axis, Guidance, axis_input, axis_of
from .ui.trace_plot import as_image
from .ui.widgets import chosen, widgets

TITLE = "Guidance Sweep"
UNUSED = "CFG Combine on the model sets cfg; the cfg here is not used."


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
                axis_input("columns", "What to go through."),
                axis_input("rows", "What to go through as well, for every column.", optional=True),
                *sampling_inputs(6.0, "Classifier-free guidance, where it is not swept."),
                target,
                scale,
                NOISY_CLASSIFIER.Input("classifier", optional=True, tooltip="Steers to the target."),
                NOISY_CLASSIFIER.Input(
                    "judge",
                    optional=True,
                    tooltip="Says under each picture how probable the target is. Without it the classifier that steers "
                    "judges its own work, which is kind to it.",
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
            judgement = _judgement(model, classifier, judge, target)

        sampled_from = {"positive": positive, "negative": negative, "latent": latent_image, **vars(how)}
        sampled_from |= {"columns": columns, "rows": rows}
        sampled_from |= {"classifier": classifier, "target": target, "classifier_scale": classifier_scale}
        with finished_cells(model, sampled_from) as finished:
            there = len(finished)
            _sample_rest(finished, model, cells, latent_image, positive, negative, how)
            verdicts = [judgement.of(model, each.samples) if judgement else "" for each in finished]
            pictures = [_decoded(vae, each.samples) for each in finished]
            drawn = [
                Cell(_bytes(images), cell.above, tuple(filter(None, [verdict, each.words])))
                for cell, each, images, verdict in zip(cells, finished, pictures, verdicts, strict=True)
            ]
            head = _head(across, down, how, Guidance(own.pipeline, part), judgement, len(finished[0].samples))
            if _is_grid(across, down):
                names = [words for words, _ in down.values]
                rows_of_cells = [drawn[i : i + len(across.values)] for i in range(0, len(drawn), len(across.values))]
                sheet = contact_sheet(head, rows_of_cells, names)
            else:
                sheet = contact_sheet(head, in_rows(drawn))
            unused = plan.cfg is not None and "cfg scale" not in (across.name, down.name)
            say(node_id, "\n".join(_summary(finished, there, sheet.zoom) + ([UNUSED] if unused else [])))
            picture = as_image(sheet.pixels)
            return io.NodeOutput(
                picture,
                torch.cat(pictures),
                {"samples": torch.cat([each.samples for each in finished])},
                ui=ui.PreviewImage(picture, cls=cls),
            )


@dataclass(frozen=True)
class SweepCell:
    """One cell: both of its values in words, what stands above its picture, and its guidance."""

    words: str
    above: str
    plan: Plan


def _is_grid(across: Axis, down: Axis) -> bool:
    return len(across.values) > 1 and len(down.values) > 1


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
            above = column if _is_grid(across, down) else words
            cells.append(SweepCell(words, above, Plan(cfg, terms, Journal())))
    return cells


def _sample_rest(
    finished: list[Finished], model, cells: list[SweepCell], latent: dict, positive, negative, how: Sampling
) -> None:
    """Sample the cells that are not finished, all from the same noise, with one progress bar over all cells."""
    bar = comfy.utils.ProgressBar(len(cells) * how.steps)
    for i, cell in enumerate(cells[len(finished) :], len(finished)):
        comfy.model_management.throw_exception_if_processing_interrupted()
        callback = previews(model, bar, i * how.steps)
        with headed(f"Picture {i + 1} of {len(cells)}: {cell.words}"):
            samples = sampled(with_plan(model, cell.plan), latent, positive, negative, how, callback)["samples"]
        report = cell.plan.journal.last  # None where there was no run, as at denoise 0
        finished.append(Finished(samples, report.passes, report.expected) if report else Finished(samples))


@dataclass(frozen=True, eq=False)
class Judgement:
    """Who says how probable the target is in a finished picture."""

    judge: HostClassifier
    target: Target
    words: str

    def of(self, model: ModelPatcher, samples: Tensor) -> str:
        """The mean over a batch of latents, without noise, at the cleanest level that the judge knows."""
        comfy.model_management.load_models_gpu([self.judge.patcher])
        classifier, path = self.judge.classifier, path_of(model) or VE
        x0 = in_sampler_scale(model, samples).to(self.judge.patcher.load_device, torch.float32)
        sigma = path.sigma_at(classifier.log_snr_range[1]).to(x0)
        logits = classifier(path.alpha(sigma) * x0, sigma, path)
        return sure(self.target.unweighted().log_prob(logits.float(), classifier.head), classifier.head)


def _judgement(model, classifier, judge, target: str) -> Judgement | None:
    chosen = judge or classifier
    if chosen is None:
        return None
    with speaking_as("judge"):
        check_classifier(model, chosen.classifier)
        parsed = parse_target(target, chosen.classifier.labels, chosen.classifier.head)
    by = "the classifier that guides" if chosen is classifier else "another classifier"
    return Judgement(chosen, parsed, f"Target: {' '.join(target.split())}, judged by {by}.")


def _decoded(vae, samples: Tensor) -> Tensor:
    """Pictures [B, H, W, 3] of latents; of video the first frame."""
    comfy.model_management.throw_exception_if_processing_interrupted()
    images = vae.decode(samples[:, :, :1] if samples.ndim == 5 else samples)
    images = images[:, 0] if images.ndim == 5 else images
    return images[..., :3].float().cpu()


def _bytes(images: Tensor) -> np.ndarray:
    return (255 * images.clamp(0, 1)).round().to(torch.uint8).numpy()


def _head(across, down, how: Sampling, base: Guidance, judgement: Judgement | None, batch: int) -> list[str]:
    """The lines over a sheet: what is swept, who judges, and what is the same everywhere."""
    swept = {across.name, down.name}
    lines = [f"Sweep: {across.name} across, {down.name} down" if down.name else f"Sweep: {across.name}"]
    if judgement is not None:
        lines.append(judgement.words + (f" Mean of {batch} pictures." if batch > 1 else ""))
    same = [f"{how.steps} steps", how.sampler_name, how.scheduler, f"seed {how.seed}"]
    if "cfg scale" not in swept:
        same.append(f"cfg scale {base.cfg.scale:g}")
    if base.term is not None and "classifier scale" not in swept:
        same.append(f"classifier scale {base.term.term.scale:g}")
    return [*lines, ", ".join(same)]


def _summary(finished: list[Finished], there: int, zoom: float) -> list[str]:
    passes, expected = sum(each.passes for each in finished), sum(each.expected for each in finished)
    lines = [f"{len(finished)} pictures: {passes} of {expected} passes run."]
    if there:
        lines.append(f"{there} of {len(finished)} pictures were there from the run that was stopped.")
    if zoom < 1:
        lines.append(f"The sheet shows them at {100 * zoom:.0f} % of their size; the output images has them whole.")
    return lines

"""Learn Null Condition: fits what "no condition" is to pictures of all kinds, on models that back-propagate."""

import torch
from comfy_api.latest import io

from ..guidance_core.errors import GuidanceError
from ..guidance_core.train.null import LearnedNull, NullSettings, learn_null
from .host.model_facts import in_sampler_scale, path_of
from .host.under_null import under_null
from .ui.messages import say, speaking_as
from .ui.progress import with_bar
from .ui.widgets import widgets

TITLE = "Learn Null Condition"
WORTH = 0.001  # of the loss, most of which no condition could take away; below it nothing was gained


class LearnNullCondition(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        settings = widgets(NullSettings)
        next(each for each in settings if each.id == "seed").control_after_generate = io.ControlAfterGenerate.fixed
        return io.Schema(
            node_id="GuidanceKitLearnNullCondition",
            display_name=TITLE,
            category="model/training",
            description=(
                "Learns the condition under which a model predicts pictures of all kinds best, which is what 'no "
                "condition' should be. The model stays as it is. For models with a UNet (SD 1.5, SDXL)."
            ),
            search_aliases=["null condition", "learn uncond", "null text", "train embedding", "unconditional"],
            inputs=[
                io.Model.Input("model", tooltip="The model whose null condition it will be."),
                io.Conditioning.Input(
                    "begin", tooltip="Where to begin: an empty prompt of this model is a good start."
                ),
                io.Latent.Input(
                    "latents",
                    tooltip="Pictures of all kinds: samples of this model for many prompts, or encoded pictures; some "
                    "dozens at least.",
                ),
                *settings,
            ],
            outputs=[
                io.Conditioning.Output(tooltip="The null condition: connect it as negative, or save it."),
                io.LossMap.Output("loss_map", tooltip="The losses, for Plot Loss Graph."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, model, begin: list, latents: dict, **settings) -> io.NodeOutput:
        with speaking_as(TITLE):
            if path_of(model) is None:
                raise GuidanceError(
                    "this model mixes data and noise in a way of its own, which cannot be learned from."
                )
            cond, extras = begin[0]
            if cond is None:
                raise GuidanceError("begin has no embedding to start from: connect an empty prompt of this model.")
            x0 = in_sampler_scale(model, latents["samples"])
            losses: list[float] = []
            with under_null(model, extras) as (denoiser, device), torch.inference_mode(False):
                x0, first = x0.clone().to(device), cond[:1].clone().to(device)
                levels = model.get_model_object("model_sampling").sigmas.clone()
                work = learn_null(denoiser, x0, first, levels, path_of(model), NullSettings(**settings))
                learned = with_bar(work, lambda step: losses.append(step.loss))
        say(cls.hidden.unique_id, _verdict(learned))
        return io.NodeOutput([[learned.null.cpu(), dict(extras)]], {"loss": losses})


def _verdict(learned: LearnedNull) -> str:
    gained = 1 - learned.after / learned.before
    figures = f"denoising loss {learned.before:.4f} at the beginning, {learned.after:.4f} now"
    if gained > WORTH:
        return f"Learned: {gained:.1%} less loss than where it began.\n{figures}"
    return f"Nothing gained: keep what it began with, or give more pictures and steps.\n{figures}"

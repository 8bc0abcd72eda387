"""What other packs bring: a guider with two scales of its own, and a model that runs no wrappers."""

import comfy.model_base
import comfy.samplers
from comfy_api.latest import io


class TwoScales(comfy.samplers.CFGGuider):
    """Guides the first channel more than the others: it sets its cfg at every call, and brings a CFG function."""

    def set_cfg(self, first, others):
        self.first, self.others, self.cfg = first, others, max(first, others)

    def predict_noise(self, x, timestep, model_options, seed):
        self.cfg = self.others

        def by_channel(args):
            cond, uncond = args["cond"], args["uncond"]
            out = uncond + (cond - uncond) * self.others
            out[:, :1] = uncond[:, :1] + (cond - uncond)[:, :1] * self.first
            return out

        return super().predict_noise(x, timestep, {**model_options, "sampler_cfg_function": by_channel}, seed)


class QuietModel(comfy.model_base.BaseModel):
    """Nothing around it sees when it runs."""

    def apply_model(self, *args, **kwargs):
        return self._apply_model(*args, **kwargs)


class ProbeForeignGuider(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ProbeForeignGuider",
            inputs=[
                io.Model.Input("model"),
                io.Conditioning.Input("positive"),
                io.Conditioning.Input("negative"),
                io.Float.Input("first"),
                io.Float.Input("others"),
            ],
            outputs=[io.Guider.Output()],
        )

    @classmethod
    def execute(cls, model, positive, negative, first, others):
        guider = TwoScales(model)
        guider.set_conds(positive, negative)
        guider.set_cfg(first, others)
        return io.NodeOutput(guider)

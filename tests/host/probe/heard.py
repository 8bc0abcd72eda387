"""What a network is told at each of its calls: the conditions as they reach it."""

import json

from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io


class ProbeHeard(io.ComfyNode):
    """A MODEL whose network keeps (which conditions, tokens, pooled) of its calls."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ProbeHeard",
            inputs=[io.Model.Input("model"), io.Int.Input("nonce", default=0)],
            outputs=[io.Model.Output()],
        )

    @classmethod
    def execute(cls, model: ModelPatcher, nonce: int):
        network = model.model.diffusion_model
        network.heard = []
        network.register_forward_pre_hook(_hear, with_kwargs=True)
        return io.NodeOutput(model)


def _hear(network, args, kwargs):
    told = (kwargs.get("context"), kwargs.get("y"))
    tensors = [None if each is None else each.float().cpu().tolist() for each in told]
    network.heard.append((list(kwargs["transformer_options"]["cond_or_uncond"]), *tensors))


class ProbeHeardRead(io.ComfyNode):
    """What a ProbeHeard's network was told since then."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ProbeHeardRead",
            is_output_node=True,
            not_idempotent=True,
            inputs=[io.Latent.Input("latent"), io.Model.Input("model"), io.Int.Input("nonce", default=0)],
            outputs=[],
        )

    @classmethod
    def execute(cls, latent, model, nonce):
        heard = model.model.diffusion_model.heard
        return io.NodeOutput(ui={"text": [json.dumps(heard)]})

"""VAEs of the host's own kinds with random weights, what they are to the bit, and a judge that can run short."""

import dataclasses
import hashlib

import comfy.model_management
import comfy.sd
import torch
from comfy.ldm.models.autoencoder import AutoencoderKL
from comfy.taesd.taesd import TAESD
from comfy_api.latest import io
from torch import nn

COPIES = 4  # that a judge of pictures is shown of each
CONTRAST = 0.4  # the deviation of decoded pictures in [-1, 1]


def full(channels):
    """The parameters of an AutoencoderKL like Stable Diffusion's, small."""
    shape = {"double_z": True, "z_channels": channels, "resolution": 32, "in_channels": 3, "out_ch": 3, "ch": 32}
    shape |= {"ch_mult": [1, 1, 1, 1], "num_res_blocks": 1, "attn_resolutions": [], "dropout": 0.0}
    return {"embed_dim": channels, "ddconfig": shape}


def filled(network, channels, last):
    """Its weights at random, the last layer's so that pictures of random latents are neither flat nor clipped."""
    generator = torch.Generator().manual_seed(2)
    for name, weight in network.named_parameters():
        if weight.ndim > 1:
            weight.copy_(torch.randn(weight.shape, generator=generator) / weight[0].numel() ** 0.5)
        elif weight.ndim == 1:
            weight.fill_("norm" in name and name.endswith("weight"))
    if isinstance(network, TAESD):  # whose pictures are about [0, 1] inside
        last.bias.fill_(0.5)
    last.weight /= network.decode(torch.randn(4, channels, 8, 8, generator=generator)).std() / CONTRAST
    return network.state_dict()


class ProbeDecoder(io.ComfyNode):
    """A TAESD or a full VAE as ComfyUI loads it."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ProbeDecoder",
            inputs=[
                io.Combo.Input("kind", options=["taesd", "full"]),
                io.Int.Input("channels", default=4),
                io.Int.Input("nonce", default=0),
            ],
            outputs=[io.Vae.Output()],
        )

    @classmethod
    def execute(cls, kind, channels, nonce):
        if kind == "taesd":
            network = TAESD(latent_channels=channels)
            return io.NodeOutput(comfy.sd.VAE(sd=filled(network, channels, network.taesd_decoder[-1])))
        network = AutoencoderKL(**full(channels))
        weights = filled(network, channels, network.decoder.conv_out)
        vae = comfy.sd.VAE(sd=weights, config={"params": full(channels)})
        vae.latent_channels = channels
        return io.NodeOutput(vae)


class ProbeVaeBits(io.ComfyNode):
    """A digest of a VAE's weights and of what it decodes a latent to: the same text is the same to the bit."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ProbeVaeBits",
            inputs=[io.Vae.Input("vae"), io.Latent.Input("latent"), io.Int.Input("nonce", default=0)],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, vae, latent, nonce):
        weights = vae.first_stage_model.state_dict()
        bits = hashlib.sha256(b"".join(weights[name].float().cpu().numpy().tobytes() for name in sorted(weights)))
        bits.update(vae.decode(latent["samples"]).float().numpy().tobytes())
        kept = sorted({f"{w.is_inference()} {w.requires_grad} {w.dtype}" for w in vae.first_stage_model.parameters()})
        return io.NodeOutput(ui={"text": [f"{bits.hexdigest()} {kept}"]})


class Watched(nn.Module):
    """A network that counts its calls, presses Cancel at one, and runs out of memory beyond so many pictures."""

    def __init__(self, network, most, interrupt_at):
        super().__init__()
        self.network, self.most, self.interrupt_at = network, most, interrupt_at
        self.calls, self.count = [], 0

    def forward(self, pixels):
        self.count += 1
        if self.count == self.interrupt_at:
            comfy.model_management.interrupt_current_processing()
        if 0 < self.most * COPIES < len(pixels) or self.most < 0:
            raise comfy.model_management.OOM_EXCEPTION("Tried to allocate 1 GiB")
        self.calls.append(len(pixels) // COPIES)
        return self.network(pixels)


class ProbeWatched(io.ComfyNode):
    """A judge of clean pictures for which memory holds `most` of them: 0 is any number, -1 none."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ProbeWatched",
            inputs=[
                io.Custom("CLEAN_CLASSIFIER").Input("classifier"),
                io.Int.Input("most", default=0, min=-1),
                io.Int.Input("interrupt_at", default=0),
                io.Int.Input("nonce", default=0),
            ],
            outputs=[io.Custom("CLEAN_CLASSIFIER").Output()],
        )

    @classmethod
    def execute(cls, classifier, most, interrupt_at, nonce):
        return io.NodeOutput(dataclasses.replace(classifier, network=Watched(classifier.network, most, interrupt_at)))


class ProbeWatchedCalls(io.ComfyNode):
    """How many pictures each call of a watched judge was shown, once a latent is there."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ProbeWatchedCalls",
            inputs=[
                io.Custom("CLEAN_CLASSIFIER").Input("classifier"),
                io.Latent.Input("latent"),
                io.Int.Input("nonce", default=0),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, classifier, latent, nonce):
        return io.NodeOutput(ui={"text": [",".join(map(str, classifier.network.calls))]})

"""The kinds of model that are known inside. Imported where a model is weakened, as nobody else needs it."""

from comfy.ldm.chroma.model import Chroma
from comfy.ldm.flux.model import Flux
from comfy.ldm.hunyuan_video.model import HunyuanVideo
from comfy.ldm.lightricks.model import LTXVModel
from comfy.ldm.lumina.model import NextDiT
from comfy.ldm.modules.diffusionmodules.mmdit import MMDiT
from comfy.ldm.qwen_image.model import QwenImageTransformer2DModel
from comfy.ldm.wan.model import WanModel
from torch import nn

from .base import Architecture
from .transformers import Ltx, Lumina, Transformer
from .unet import Digits, UNet

TWO_STACKS = dict(double="double_blocks", single="single_blocks")
ARCHITECTURES: tuple[Architecture, ...] = (
    UNet(),
    Digits(),
    Transformer("SD3", MMDiT, {"double": "joint_blocks"}),
    Transformer("Flux", Flux, TWO_STACKS),
    Transformer("Chroma", Chroma, TWO_STACKS),
    Transformer("Qwen-Image", QwenImageTransformer2DModel, {"double": "transformer_blocks"}),
    Lumina("Lumina 2 and Z-Image", NextDiT),
    Transformer("Wan", WanModel, {"double": "blocks"}, cross=True, video=True),
    Ltx("LTX-Video", LTXVModel, {"double": "transformer_blocks"}, cross=True, video=True),
    Transformer("Hunyuan Video", HunyuanVideo, TWO_STACKS, video=True),
)


def architecture_of(network: nn.Module) -> Architecture | None:
    """What a diffusion model is; None for one that is not known here."""
    return next((kind for kind in ARCHITECTURES if kind.knows(network)), None)

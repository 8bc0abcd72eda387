"""Draws the README's first picture, the icon and the banner from real samples: `python -m devtools.make_artwork`."""

import sys

import torch
from PIL import Image, ImageDraw
from torch import Tensor

import guidance_core as gc
from devtools.first_picture import first_picture, font
from devtools.host import ROOT
from guidance_core import demo
from guidance_core.demo.pictures import INK, PAPER
from guidance_core.drawing.plot import TEXT

FIRST_PICTURE = ROOT / "docs" / "images" / "guidance.png"
ICON, BANNER = ROOT / "docs" / "images" / "icon.png", ROOT / "docs" / "images" / "banner.png"

STEPS, SEED, SCALE = 25, 3, 4.0


def coloured(tones: Tensor, zoom: int) -> Image.Image:
    """Tones [H, W] in [0, 1] in the colours of the demo, each value `zoom` pixels wide, without crisp edges."""
    paper, ink = torch.tensor(PAPER), torch.tensor(INK)
    pixels = paper + tones.clamp(0, 1)[..., None] * (ink - paper)
    return Image.fromarray(pixels.mul(255).round().byte().numpy()).resize(
        (tones.shape[1] * zoom, tones.shape[0] * zoom), Image.Resampling.NEAREST
    )


def steered() -> Tensor:
    """Ten samples [10, H, W] in [0, 1], steered to the ten digits from one noise."""
    digits, labels = demo.load(), torch.arange(10)
    noise = torch.randn(10, *digits.shape, generator=torch.Generator().manual_seed(SEED))
    guided = gc.classifier_guided(digits.uncond, digits.classifier, labels, SCALE)
    return digits.to_image(gc.sample(guided, noise, gc.trailing(digits.sigmas, STEPS), "ddim"))


def noised(image: Tensor, amount: Tensor, generator: torch.Generator) -> Tensor:
    """A sample [H, W] in [0, 1] as it looks with a share of noise [W] in each column."""
    x0 = 2 * image - 1
    noise = torch.randn(x0.shape, generator=generator)
    return ((1 - amount**2).sqrt() * x0 + amount * noise + 1) / 2


def icon(sample: Tensor) -> Image.Image:
    """A digit that comes out of the noise, 400 pixels square."""
    size = sample.shape[-1]
    amount = torch.linspace(0.95, -0.9, size).clamp(min=0)
    return coloured(noised(sample, amount, torch.Generator().manual_seed(1)), 400 // size)


def banner(samples: Tensor) -> Image.Image:
    """Ten digits from noise to picture under the name, 21 to 9."""
    image = Image.new("RGB", (1680, 720), tuple(round(255 * each) for each in PAPER))
    draw = ImageDraw.Draw(image)
    ink = tuple(round(255 * each) for each in INK)
    draw.text((80, 190), "Guidance Kit", fill=ink, font=font(120), anchor="lm")
    draw.text((86, 320), "classifier guidance, CFG and schedules for ComfyUI", fill=TEXT, font=font(44), anchor="lm")
    generator = torch.Generator().manual_seed(0)
    row = torch.cat(list(samples), -1)
    amount = torch.linspace(1.0, -0.5, row.shape[-1]).clamp(min=0)
    strip = coloured(noised(row, amount, generator), 10)
    image.paste(strip.resize((1520, 152), Image.Resampling.LANCZOS), (80, 470))
    return image


def main() -> int:
    """Draw all three."""
    FIRST_PICTURE.parent.mkdir(parents=True, exist_ok=True)
    first_picture().save(FIRST_PICTURE, optimize=True)
    samples = steered()
    icon(samples[3]).save(ICON, optimize=True)
    banner(samples).save(BANNER, optimize=True)
    print(f"Wrote {FIRST_PICTURE.name}, {ICON.name} and {BANNER.name} into {FIRST_PICTURE.parent}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Draws the README's first picture, the icon and the banner from real samples: `python -m devtools.make_artwork`."""

import sys
from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

import guidance_core as gc
from devtools.host import ROOT
from guidance_core import demo
from guidance_core.demo.pictures import INK, PAPER, crisp
from guidance_core.drawing.plot import AMBER, BACKGROUND, BLUE, GREEN, TEXT, Line, Panel, picture

FIRST_PICTURE = ROOT / "docs" / "images" / "guidance.png"
ICON, BANNER = ROOT / "docs" / "images" / "icon.png", ROOT / "docs" / "images" / "banner.png"

STEPS, SEED = 25, 3
TILE, GAP, LABEL, PLOT = 88, 4, 160, 380
INTERVAL = gc.ScaleSchedule("interval", start=3.0, end=0.4, axis="sigma")
BRIGHT = (240, 240, 245)


def coloured(tones: Tensor, zoom: int) -> Image.Image:
    """Tones [H, W] in [0, 1] in the colours of the demo, each value `zoom` pixels wide, without crisp edges."""
    paper, ink = torch.tensor(PAPER), torch.tensor(INK)
    pixels = paper + tones.clamp(0, 1)[..., None] * (ink - paper)
    return Image.fromarray(pixels.mul(255).round().byte().numpy()).resize(
        (tones.shape[1] * zoom, tones.shape[0] * zoom), Image.Resampling.NEAREST
    )


def digit(image: Tensor, size: int) -> Image.Image:
    """A sample [H, W] in [0, 1] as the demo's VAE shows it."""
    smooth = torch.nn.functional.interpolate(image[None, None], scale_factor=8, mode="bicubic")[0, 0]
    return coloured(crisp(smooth), 1).resize((size, size), Image.Resampling.LANCZOS)


def font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size=size)


class Runs:
    """The digits model, ten runs from one noise, and what was seen on the way."""

    def __init__(self):
        self.demo = demo.load()
        self.noise = torch.randn(10, *self.demo.shape, generator=torch.Generator().manual_seed(SEED))
        self.labels = torch.arange(10)
        self.sigmas = gc.trailing(self.demo.sigmas, STEPS)

    def by_classifier(self, scale: float) -> tuple[Tensor, list[float]]:
        """Samples [10, H, W], and the mean probability of the target at every step."""
        guided = gc.classifier_guided(self.demo.uncond, self.demo.classifier, self.labels, scale)
        seen = []

        def watched(x: Tensor, sigma: Tensor) -> Tensor:
            logits = self.demo.classifier(x, sigma, gc.VE)
            seen.append(float(logits.softmax(-1)[self.labels, self.labels].mean()))
            return guided(x, sigma)

        return self._sampled(watched), seen

    def by_cfg(self, scale: float, schedule: gc.ScaleSchedule) -> tuple[Tensor, list[float], int]:
        """Samples [10, H, W], CFG's scale at every step, and the passes that were run."""
        passes = 0

        def counted(denoiser):
            def run(x: Tensor, sigma: Tensor) -> Tensor:
                nonlocal passes
                passes += 1
                return denoiser(x, sigma)

            return run

        cond, uncond = counted(self.demo.cond(self.labels)), counted(self.demo.uncond)
        x0 = self._sampled(gc.cfg_guided(cond, uncond, scale, schedule))
        strength = schedule.over(gc.Run(sigmas=tuple(self.sigmas.tolist())))
        return x0, [1 + (scale - 1) * strength(float(sigma)) for sigma in self.sigmas[:-1]], passes

    def _sampled(self, denoiser) -> Tensor:
        return self.demo.to_image(gc.sample(denoiser, self.noise, self.sigmas, "ddim"))


def band(title: str, rows: Sequence[tuple[str, Tensor]], panel: Panel) -> Image.Image:
    """A title, rows of ten samples with a label each, and a plot of what guidance did beside them."""
    height = 50 + len(rows) * (TILE + GAP) + 8
    image = Image.new("RGB", (LABEL + 10 * (TILE + GAP) + PLOT + 20, height), BACKGROUND)
    draw = ImageDraw.Draw(image)
    draw.text((20, 26), title, fill=BRIGHT, font=font(22), anchor="lm")
    for i, (label, samples) in enumerate(rows):
        top = 50 + i * (TILE + GAP)
        draw.multiline_text((20, top + TILE / 2), label, fill=TEXT, font=font(16), anchor="lm", spacing=6)
        for j, sample in enumerate(samples):
            image.paste(digit(sample, TILE), (LABEL + j * (TILE + GAP), top))
    plot = Image.fromarray(picture([panel], width=PLOT, height=height - 50))
    image.paste(plot, (image.width - PLOT - 10, 46))
    return image


def first_picture(runs: Runs) -> Image.Image:
    """What the pack is for, in one picture."""
    ticks = ((0.0, "noise"), (1.0, "picture"))
    scales = ((0.0, "off", TEXT), (1.0, "scale 1", AMBER), (4.0, "scale 4", GREEN))
    steered = [(name, colour, *runs.by_classifier(scale)) for scale, name, colour in scales]
    lines = [Line(seen, colour, name) for name, colour, _, seen in steered]
    above = band(
        "A classifier steers the model from the same noise to zero, one, two ... nine",
        [(f"classifier\n{name}", samples) for name, _, samples, _ in steered],
        Panel("probability of the target", lines, 0.0, 1.0, ticks),
    )
    everywhere, constant, all_passes = runs.by_cfg(4.0, gc.ScaleSchedule())
    inside, scheduled, fewer = runs.by_cfg(4.0, INTERVAL)
    below = band(
        "CFG follows a schedule, and passes that do nothing are not run",
        [(f"CFG 4\n{all_passes} passes", everywhere), (f"CFG in an interval\n{fewer} passes", inside)],
        Panel("CFG scale", [Line(constant, TEXT, "constant"), Line(scheduled, BLUE, "interval")], 0.0, 5.0, ticks),
    )
    image = Image.new("RGB", (above.width, above.height + below.height + 10), BACKGROUND)
    image.paste(above, (0, 4))
    image.paste(below, (0, above.height + 6))
    return image


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
    runs = Runs()
    FIRST_PICTURE.parent.mkdir(parents=True, exist_ok=True)
    first_picture(runs).save(FIRST_PICTURE, optimize=True)
    samples, _ = runs.by_classifier(4.0)
    icon(samples[3]).save(ICON, optimize=True)
    banner(samples).save(BANNER, optimize=True)
    print(f"Wrote {FIRST_PICTURE.name}, {ICON.name} and {BANNER.name} into {FIRST_PICTURE.parent}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The README's first picture, drawn from the bundled emoji: one noise under CFG, a classifier, and a schedule."""

from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

import guidance_core as gc
from guidance_core.demo import emoji
from guidance_core.drawing.plot import AMBER, BACKGROUND, BLUE, GREEN, TEXT, Line, Panel, picture

STEPS, SEED, SAMPLER = 16, 1, "dpmpp_2m"
SCALE, HIGH, PUSH = 3.0, 12.0, 6.0
CONSTANT = gc.ScaleSchedule()
INTERVAL = gc.ScaleSchedule("interval", start=5.42, end=0.6, axis="sigma")
TILE, GAP, LABEL, PLOT, HEAD = 80, 4, 150, 360, 78
BRIGHT = (240, 240, 245)


class Runs:
    """The emoji model, one run from one noise for all of its classes, and what was seen on the way."""

    def __init__(self):
        self.demo = emoji.load()
        self.noise = torch.randn(len(self.demo.labels), *self.demo.shape, generator=torch.Generator().manual_seed(SEED))
        self.labels = torch.arange(len(self.demo.labels))
        self.sigmas = gc.trailing(self.demo.sigmas, STEPS)

    def by_cfg(self, scale: float, schedule: gc.ScaleSchedule = CONSTANT) -> tuple[Tensor, list[float], int]:
        """Images [11, 3, 64, 64], CFG's scale at every step, and the passes that were run."""
        passes = 0

        def counted(denoiser):
            def run(x: Tensor, sigma: Tensor) -> Tensor:
                nonlocal passes
                passes += 1
                return denoiser(x, sigma)

            return run

        cond, uncond = counted(self.demo.cond(self.labels)), counted(self.demo.uncond)
        images = self._sampled(gc.cfg_guided(cond, uncond, scale, schedule))
        strength = schedule.over(gc.Run(sigmas=tuple(self.sigmas.tolist())))
        return images, [1 + (scale - 1) * strength(float(sigma)) for sigma in self.sigmas[:-1]], passes

    def coloured(self, target: str, scale: float) -> tuple[Tensor, list[float]]:
        """Images under CFG and a classifier of attributes, and how probable that finds its target at every step."""
        cfg = gc.cfg_guided(self.demo.cond(self.labels), self.demo.uncond, SCALE)
        attributes = self.demo.attributes
        guided = gc.classifier_guided(cfg, attributes, gc.parse_target(target, attributes.labels), scale)
        place, seen = attributes.labels.index(target), []

        def watched(x: Tensor, sigma: Tensor) -> Tensor:
            seen.append(float(attributes(x, sigma, gc.VE).sigmoid()[:, place].mean()))
            return guided(x, sigma)

        return self._sampled(watched), seen

    @torch.no_grad()
    def _sampled(self, denoiser) -> Tensor:
        return self.demo.to_image(gc.sample(denoiser, self.noise, self.sigmas, SAMPLER))


def band(title: str, names: Sequence[str], rows: Sequence[tuple[str, Tensor]], panel: Panel) -> Image.Image:
    """A title, the columns' names, rows of samples with a label each, and a plot of what guidance did beside them."""
    height = HEAD + len(rows) * (TILE + GAP) + 8
    image = Image.new("RGB", (LABEL + len(names) * (TILE + GAP) + PLOT + 20, height), BACKGROUND)
    draw = ImageDraw.Draw(image)
    draw.text((20, 26), title, fill=BRIGHT, font=font(22), anchor="lm")
    for j, name in enumerate(names):
        draw.text((LABEL + j * (TILE + GAP) + TILE / 2, HEAD - 14), name, fill=TEXT, font=font(15), anchor="mm")
    for i, (label, samples) in enumerate(rows):
        top = HEAD + i * (TILE + GAP)
        draw.multiline_text((20, top + TILE / 2), label, fill=TEXT, font=font(16), anchor="lm", spacing=6)
        for j, sample in enumerate(samples):
            image.paste(tile(sample), (LABEL + j * (TILE + GAP), top))
    plot = Image.fromarray(picture([panel], width=PLOT, height=height - HEAD + 24))
    image.paste(plot, (image.width - PLOT - 10, HEAD - 26))
    return image


def tile(sample: Tensor) -> Image.Image:
    """An image [3, H, W] in [0, 1], as large as the others."""
    pixels = sample.movedim(0, -1).mul(255).round().byte().numpy()
    return Image.fromarray(pixels).resize((TILE, TILE), Image.Resampling.LANCZOS)


def font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size=size)


def first_picture() -> Image.Image:
    """What the pack is for, in one picture."""
    runs, ticks = Runs(), ((0.0, "noise"), (1.0, "picture"))
    names = runs.demo.labels
    off, _, _ = runs.by_cfg(1.0)
    plain, before = runs.coloured("blue", 0.0)
    blue, after = runs.coloured("blue", PUSH)
    green, _ = runs.coloured("green", PUSH)
    rows = [("CFG off", off), (f"CFG {SCALE:g}", plain)]
    rows += [
        (f"CFG {SCALE:g} and\nclassifier: {colour}", images) for colour, images in (("blue", blue), ("green", green))
    ]
    lines = [Line(before, TEXT, "CFG alone"), Line(after, BLUE, "with classifier")]
    above = band(
        "CFG makes the class clear; a classifier adds what no class says",
        names,
        rows,
        Panel("probability of blue", lines, 0.0, 1.0, ticks),
    )
    burnt, constant, all_passes = runs.by_cfg(HIGH)
    inside, scheduled, fewer = runs.by_cfg(HIGH, INTERVAL)
    below = band(
        "Too high a scale burns; in the interval where it matters it burns less, for fewer passes",
        names,
        [(f"CFG {HIGH:g}\n{all_passes} passes", burnt), (f"in an interval\n{fewer} passes", inside)],
        Panel("CFG scale", [Line(constant, AMBER, "constant"), Line(scheduled, GREEN, "interval")], 0.0, 14.0, ticks),
    )
    image = Image.new("RGB", (above.width, above.height + below.height + 10), BACKGROUND)
    image.paste(above, (0, 4))
    image.paste(below, (0, above.height + 6))
    return image

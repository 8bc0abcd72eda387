"""What a judge of clean pictures costs at SD1.5's size, part by part, against going back through the model as well."""

from collections.abc import Iterator

import comfy.taesd.taesd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import guidance_core as gc
from guidance_core.classifier.copies import Shifted

from . import host
from .measure import Row, Side, Spread, Target, interleaved, ratio
from .peak import NOT_MEASURED, STATUS, peak_of

TITLE = "What a judge of clean pictures costs"
INTRO = (
    "One gradient of a ViT-B/16 of 224 x 224 pictures, which sees an SD1.5 latent through TAESD's decoder in 4 moved "
    "copies, beside one pass of an SD1.5-sized UNet (CFG runs two). Random weights, which cost what trained ones do. "
    "*Through the model*: the same gradient taken in x, back through the UNet (DPS), which holds its pass. *At the "
    "prediction*: what the nodes do. Peak memory is of fresh processes."
)
COPIES = 4


class Setting:
    """A UNet and a judge with its decoder, and what they are timed at. width: of the UNet; side: of the latents."""

    def __init__(self, width: int, side: int, quick: bool):
        model, (condition, *_), _ = host.sd15(width)
        self.model, self.condition = model.model, condition[0]
        self.decoder = comfy.taesd.taesd.TAESD(latent_channels=4).eval().requires_grad_(False)
        host.randomised(self.decoder.taesd_decoder)
        self.judge = _vit(2 if quick else 12)
        self.x, self.sigma = torch.randn(1, 4, side, side), torch.ones(1)

    @property
    def sides(self) -> dict[str, Side]:
        """What is timed: a pass, and the gradients that guidance takes with a judge."""
        return {"pass": self._pass, "decode": self._decode, "term": self._term, "through": self._through}

    def _pass(self) -> Tensor:
        with torch.no_grad():
            return self._denoised(self.x)

    def _decode(self) -> Tensor:
        """There and back, as the gradient needs it."""
        with torch.enable_grad():
            leaf = self.x.clone().requires_grad_()
            return torch.autograd.grad(self.decoder.decode(leaf).sum(), leaf)[0]

    def _term(self) -> Tensor:
        """The gradient at a prediction that counts as a constant."""
        return gc.log_prob_grad(self._clean(lambda x0: x0), self.x, self.sigma, torch.zeros(1).long())[0]

    def _through(self) -> Tensor:
        """The pass and the gradient in one."""
        return gc.log_prob_grad(self._clean(self._denoised), self.x, self.sigma, torch.zeros(1).long())[0]

    def _denoised(self, x: Tensor) -> Tensor:
        return self.model.apply_model(x, self.sigma, c_crossattn=self.condition)

    def _clean(self, before) -> gc.CleanClassifier:
        def pictures(x: Tensor) -> Tensor:
            return F.interpolate(self.decoder.decode(before(x)), (224, 224), mode="bilinear", antialias=True)

        return gc.clean_classifier(self.judge, [str(i) for i in range(10)], "single", pictures, Shifted(COPIES))


def _vit(layers: int) -> nn.Module:
    """A ViT-B/16 of so many layers, from pictures to logits."""
    from transformers import ViTConfig, ViTForImageClassification

    network = ViTForImageClassification(ViTConfig(num_hidden_layers=layers, num_labels=10)).eval()

    class Logits(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network.requires_grad_(False)

        def forward(self, pictures: Tensor) -> Tensor:
            return self.network(pictures).logits

    return Logits()


def entries(quick: bool) -> Iterator[Row | str]:
    """Shares of a pass, part by part, and peak memory."""
    width, side, rounds = (64, 16, 2) if quick else (320, 64, 3)
    sides = Setting(width, side, quick).sides
    times = dict(zip(sides, interleaved(*sides.values(), rounds=rounds), strict=True))
    seconds = {name: Spread.of(each).median for name, each in times.items()}
    made = f"{rounds} rounds, turn by turn; the pass {seconds['pass'] * 1e3:.4g} ms"
    judging = [whole - decode for whole, decode in zip(times["term"], times["decode"], strict=True)]
    guided = [own + term for own, term in zip(times["pass"], times["term"], strict=True)]
    at = f"{side}x{side}, batch 1"
    for name, part, most in (
        ("decoding there and back", times["decode"], None),
        (f"the judge there and back, {COPIES} copies", judging, None),
        ("the whole gradient", times["term"], Target(high=1.0)),
        ("a guided step at the prediction", guided, Target(high=2.0)),
        ("a guided step through the model", times["through"], None),
    ):
        yield Row(f"{name}, in passes of the model, {at}", ratio(part, times["pass"]), target=most, detail=made)
    yield Row(
        f"a guided step at the prediction / through the model, {at}",
        ratio(guided, times["through"]),
        target=Target(high=0.75),
        detail=made,
    )
    if not STATUS.exists():
        yield NOT_MEASURED
        return
    yield from _peaks(width, side, at, 1 if quick else 2)


def _peaks(width: int, side: int, at: str, rounds: int) -> Iterator[Row]:
    """Peak memory of both gradients above that of a pass, and their ratio."""
    kinds = ("pass", "term", "through")
    peaks = {kind: [peak_of("benchmarks.clean_peak", kind, width, side) for _ in range(rounds)] for kind in kinds}
    alone = Spread.of(peaks["pass"]).median
    made = f"above a peak of {alone:.0f} MB of a pass; fresh processes, {rounds} of each kind"
    added = {kind: [peak - alone for peak in peaks[kind]] for kind in kinds}
    for kind, name in (("term", "at the prediction"), ("through", "through the model")):
        yield Row(f"peak memory added by the gradient {name}, {at}", Spread.of(added[kind]), "MB", None, made)
    yield Row(
        f"peak memory added at the prediction / through the model, {at}",
        ratio(added["term"], added["through"]),
        target=Target(high=0.5),
        detail=made,
    )

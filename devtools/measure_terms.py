"""Measures what helps without a negative on the bundled digits, at CFG 1 and at 4: three seeds, one judge."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from statistics import mean, stdev

import torch
from torch import Tensor, nn

from guidance_core import ScaleSchedule, cfg_guided, demo, sample, trailing, v_denoiser, varied
from guidance_core.demo.data import load_digits
from guidance_core.demo.judge import frechet_distance
from guidance_core.demo.network import Attend, mean_queries, own_values
from guidance_core.denoisers import Denoiser
from guidance_core.frozen import frozen
from guidance_core.parameterizations import V
from guidance_core.shapes import Keyframes
from guidance_core.sliding_windows import put_together, windows
from guidance_core.terms import Term
from guidance_core.terms.higs import Higs
from guidance_core.terms.momentum_guidance import MomentumGuidance
from guidance_core.terms.self_guidance import SelfGuidance
from guidance_core.terms.tangential import TangentialGuidance
from guidance_core.variety import Variety
from guidance_core.variety.cads import Cads
from guidance_core.variety.seed_variance import SeedVariance

SEEDS, STEPS, BATCH = (0, 1, 2), 10, 100
LATE = ScaleSchedule(Keyframes("0:1, 0.4:1, 0.8:0", "linear"))  # the digits decide late what they are
PLACES = ("down", "middle", "up")  # of the network's self-attentions
Count = Callable[[Denoiser], Denoiser]  # a denoiser whose passes are counted
Weak = Callable[[demo.Demo, Tensor, Count], Denoiser]  # of the digits under labels


@frozen
class Setting:
    """What is added to plain guidance: a term, a variety of the condition, or a weaker self to lead away from."""

    name: str
    term: Term | None = None
    variety: Variety | None = None
    weak: Weak | None = None
    weak_scale: float = 1.0


def attending(attend: Attend) -> Weak:
    """The digits with other self-attention at all three places."""
    return lambda digits, labels, count: count(digits.weakened(labels, dict.fromkeys(PLACES, attend)))


def in_windows(digits: demo.Demo, labels: Tensor, count: Count) -> Denoiser:
    """The digits as the network sees them in four windows of 12 x 12."""
    network = count(v_denoiser(digits.network, digits.sigmas))

    def predict(x: Tensor, sigma: Tensor) -> Tensor:
        return put_together(lambda at: network(x[(..., *at)], sigma, y=labels), x, windows(x.shape[-2:], 0.75))

    return predict


def shuffled(digits: demo.Demo, labels: Tensor, count: Count) -> Denoiser:
    """The digits with the places before their first attention in another order, drawn at each pass."""
    cond = count(digits.cond(labels))

    def predict(x: Tensor, sigma: Tensor) -> Tensor:
        draw = torch.Generator().manual_seed(int(1000 * float(sigma[0])))

        def entering(_: nn.Module, given: tuple) -> tuple:
            places = given[0].flatten(2)
            order = torch.randperm(places.shape[-1], generator=draw)
            return (places[..., order].reshape(given[0].shape), *given[1:])

        hook = digits.network.down_attention.register_forward_pre_hook(entering)
        try:
            return cond(x, sigma)
        finally:
            hook.remove()

    return predict


SETTINGS = (
    Setting("off"),
    Setting("mg", MomentumGuidance()),
    Setting("higs", Higs()),
    Setting("tag", TangentialGuidance()),
    Setting("self_guidance, PAG", weak=attending(own_values)),
    Setting("self_guidance, SEG", weak=attending(mean_queries)),
    Setting("cads", variety=Cads(0.5, LATE)),
    Setting("seed_variance", variety=SeedVariance(4.0, LATE)),
)


@frozen
class Table:
    """Which settings are measured at a CFG scale, and on how many samples of each seed."""

    cfg: float
    samples: int = 100
    settings: tuple[Setting, ...] = SETTINGS


MORE = (  # at CFG 1 alone
    Setting("self_guidance, SEG at 3", weak=attending(mean_queries), weak_scale=3.0),
    Setting("self_guidance, TPG", weak=shuffled, weak_scale=0.25),
    Setting("self_guidance, SWG", weak=in_windows, weak_scale=0.25),
)
NEARER = [each for each in (*SETTINGS, *MORE) if each.name in ("off", "mg", "higs", "self_guidance, SEG at 3")]
TABLES = (
    Table(1.0, settings=(*SETTINGS, *MORE)),
    Table(4.0),
    Table(1.0, 2000, tuple(NEARER)),  # what comes nearer at 100 samples, by less than these can tell
)


@frozen
class Row:
    """A setting at one CFG scale and seed: the judge's verdicts, and passes of the network for one sample."""

    name: str
    cfg: float
    seed: int
    accuracy: float
    diversity: float
    frechet: float
    passes: float
    samples: int = 100


def guided(setting: Setting, digits: demo.Demo, labels: Tensor, cfg: float, count: Count) -> Denoiser:
    """A setting's denoiser for a batch; every pass of the network is counted."""
    terms = [setting.term] if setting.term else []
    if setting.weak:
        terms = [SelfGuidance(setting.weak(digits, labels, count), setting.weak_scale)]
    cond = count(digits.cond(labels))
    if setting.variety:
        network = count(v_denoiser(digits.network, digits.sigmas))
        cond = varied(network, setting.variety, y=digits.network.label(labels))
    return cfg_guided(cond, count(digits.uncond), cfg, output=V, terms=terms)


@torch.no_grad()
def measured(setting: Setting, digits: demo.Demo, cfg: float, seed: int, samples: int) -> Row:
    """A setting's row, sampled in batches, the ten classes in turn."""
    passes, results = [], []
    noise = torch.randn(samples, *digits.shape, generator=torch.Generator().manual_seed(seed))
    labels = torch.arange(samples) % len(digits.labels)

    def count(denoiser: Denoiser) -> Denoiser:
        def counting(x: Tensor, sigma: Tensor, **condition: Tensor) -> Tensor:
            passes.append(len(x))
            return denoiser(x, sigma, **condition)

        return counting

    for batch, (some, wanted) in enumerate(zip(noise.split(BATCH), labels.split(BATCH), strict=True)):
        denoiser = guided(setting, digits, wanted, cfg, count)
        results.append(sample(denoiser, some, trailing(digits.sigmas, STEPS), "ddim", seed=1000 * seed + batch))
    images = digits.to_image(torch.cat(results))
    real = digits.judge.features(load_digits()[1].images)
    return Row(
        setting.name,
        cfg,
        seed,
        digits.judge.accuracy(images, labels),
        digits.judge.diversity(images, labels),
        frechet_distance(digits.judge.features(images), real),
        sum(passes) / samples,
        samples,
    )


def rows(kept: Path | None = None) -> Iterator[Row]:
    """Every row, table by table; those in the file `kept` are not measured again, and new ones are added to it."""
    lines = kept.read_text(encoding="utf-8").splitlines() if kept and kept.exists() else []
    known = {(row.name, row.cfg, row.seed, row.samples): row for row in (Row(**json.loads(line)) for line in lines)}
    digits = demo.load()
    for table in TABLES:
        for seed in SEEDS:
            for setting in table.settings:
                key = (setting.name, table.cfg, seed, table.samples)
                if key not in known:
                    known[key] = measured(setting, digits, table.cfg, seed, table.samples)
                    if kept:
                        with kept.open("a", encoding="utf-8") as file:
                            file.write(json.dumps(asdict(known[key])) + "\n")
                yield known[key]


@frozen
class Spread:
    """The mean over the seeds, and their standard deviation."""

    mean: float
    std: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        """The spread of some values, of one none."""
        return cls(mean(values), stdev(values) if len(values) > 1 else 0.0)

    def beyond(self, other: "Spread") -> bool:
        """Whether it is below another by more than twice the greater of the two deviations."""
        return other.mean - self.mean > 2 * max(self.std, other.std)

"""Guidance as denoiser -> denoiser: CFG and classifier guidance, which compose freely and know nothing of samplers."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from torch import Tensor

from .cfg import Method, Pipeline, methods_of
from .classifier.clean import CleanClassifier
from .denoisers import Denoiser
from .errors import GuidanceError
from .frozen import frozen
from .parameterizations import Parameterization
from .paths import VE, NoisePath
from .run import Run
from .scale import ScaleSchedule, as_schedule, effective_scale
from .tensors import check_tensor, per_sample
from .terms.base import Guidance, Term
from .terms.classifier_guidance import ClassifierTerm
from .terms.clean_guidance import CleanTerm
from .terms.gradient import Classifier
from .terms.judged import JudgedTerm
from .terms.self_guidance import SelfGuidance
from .terms.targets import Target
from .variety import Variety

Both = Callable[..., tuple[Tensor, Tensor]]  # (x, sigma [B], **condition) -> (cond, uncond), denoised


class Guided(ABC):
    """A guided denoiser. `start(run)` opens a run with fresh state; calling it directly is a run of one call."""

    path: NoisePath

    @abstractmethod
    def start(self, run: Run) -> Denoiser:
        """The denoiser for one run. Raises GuidanceError when the run is on another path."""

    def __call__(self, x: Tensor, sigma: Tensor | float, **condition) -> Tensor:
        return self.start(Run(self.path))(x, per_sample(sigma, x), **condition)

    def _on_path(self, run: Run) -> Run:
        if run.path != self.path:
            raise GuidanceError(
                f"This denoiser is on the {self.path.name} path, the run on {run.path.name}: use one path."
            )
        return run


def start(denoiser: Denoiser, run: Run) -> Denoiser:
    """Open a run of a denoiser, guided or plain."""
    return denoiser.start(run) if isinstance(denoiser, Guided) else denoiser


@frozen
class CfgGuided(Guided):
    """Classifier-free guidance of a conditional by an unconditional denoiser."""

    cond: Denoiser
    uncond: Denoiser
    pipeline: Pipeline
    path: NoisePath = VE
    output: Parameterization | None = None
    both: Both | None = None
    terms: tuple[Term, ...] = ()

    def start(self, run):
        run = self._on_path(run)
        cond, uncond = _Once(start(self.cond, run)), start(self.uncond, run)
        about = replace(
            run,
            output=run.output or self.output,
            denoiser_of=lambda source: start(run.denoiser_of(source), run),
            conditional=cond,
        )
        pipeline, (before, after) = self.pipeline.start(about), _split(self.terms, about)

        def guided(x: Tensor, sigma: Tensor, condition: dict) -> Tensor:
            cond.begin(condition)
            pipeline.begin(x, sigma)
            scale, add = pipeline.scale_of(sigma), partial(_added, before, x=x, sigma=sigma)
            passes = pipeline.passes(scale)
            if not passes.cond:
                return add(uncond(x, sigma, **condition))
            if passes.uncond and self.both is not None:
                cond.value, uncond_value = self.both(x, sigma, **condition)
                return pipeline.combine(cond.value, uncond_value, x, sigma, scale, add)
            c = cond(x, sigma)
            u = uncond(x, sigma, **condition) if passes.uncond else None
            return pipeline.combine(c, u, x, sigma, scale, add)

        def denoiser(x, sigma, **condition):
            sigma = per_sample(sigma, x)
            return _added(after, guided(x, sigma, condition), x, sigma)

        return denoiser


class _Once:
    """A denoiser that runs at most once a call, under the call's condition."""

    def __init__(self, denoiser: Denoiser):
        self._denoiser = denoiser
        self._condition: dict = {}
        self.value: Tensor | None = None

    def begin(self, condition: dict) -> None:
        """Forget the call before."""
        self._condition, self.value = condition, None

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        if self.value is None:
            self.value = self._denoiser(x, sigma, **self._condition)
        return self.value


def _split(terms: Sequence[Term], run: Run) -> tuple[list[Guidance], list[Guidance]]:
    """Runs of terms: those that are added before CFG's result is adjusted, and those after it."""
    before = [term.start(run) for term in terms if term.before_result]
    return before, [term.start(run) for term in terms if not term.before_result]


def _added(terms: Sequence[Guidance], denoised: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
    """denoised with each term added in turn; denoised itself where none acts."""
    for term in terms:
        denoised = term(denoised, x, sigma)
    return denoised


@frozen
class ClassifierGuided(Guided):
    """A denoiser with a term added to its result."""

    denoiser: Denoiser
    term: Term
    path: NoisePath = VE

    def start(self, run):
        run = self._on_path(run)
        inner, term = start(self.denoiser, run), self.term.start(run)

        def denoiser(x, sigma, **condition):
            sigma = per_sample(sigma, x)
            return term(inner(x, sigma, **condition), x, sigma)

        return denoiser


def cfg_guided(
    cond_denoiser: Denoiser,
    uncond_denoiser: Denoiser,
    scale: float,
    schedule: ScaleSchedule | None = None,
    method: str | Method | Sequence[str | Method] = "standard",
    path: NoisePath = VE,
    output: Parameterization | None = None,
    both: Both | None = None,
    terms: Sequence[Term] = (),
    **params,
) -> Guided:
    """Classifier-free guidance: 1 + (scale - 1) * schedule is the weight; passes whose weight is 0 are not run.

    method: a name, with the method's own params; a Method (`cfg.Apg(eta=0.2)`); or several of these, which act in the
    order of their phases and ranks, however they are given.
    output: the space the networks predict in, for methods that work there (eps on VE, velocity on flow by default).
    both: (x, sigma [B], **condition) -> (cond, uncond), where one batch of the two is quicker than two passes; it is
    called in their place where both are needed.
    terms: what is added, each at its own scale and schedule: before the methods that adjust the result or after all of
    CFG, as the term says.
    Raises GuidanceError for an unknown method, a parameter out of range, and methods that have no meaning together.
    """
    pipeline = Pipeline(scale, as_schedule(schedule), methods_of(method, params))
    return CfgGuided(cond_denoiser, uncond_denoiser, pipeline, path, output, both, tuple(terms))


def self_guided(
    denoiser: Denoiser, weak: Denoiser, scale: float = 2.0, schedule: ScaleSchedule | None = None, path: NoisePath = VE
) -> Guided:
    """Self-guidance without CFG: denoised + scale * schedule * (denoised - weak).

    weak: a weaker version of the denoiser, not run where scale * schedule is 0.
    """
    return cfg_guided(denoiser, denoiser, 1.0, path=path, terms=[SelfGuidance(weak, scale, as_schedule(schedule))])


def classifier_guided(
    denoiser: Denoiser,
    classifier: Classifier | CleanClassifier,
    target: Target | Tensor,
    scale: float = 1.0,
    schedule: ScaleSchedule | None = None,
    path: NoisePath = VE,
    **options,
) -> Guided:
    """Classifier guidance: denoised + scale * schedule * sigma^2 / alpha * grad log p(target | x).

    classifier: callable (x, sigma, path) -> logits [B, K]. target: labels [B] or a Target. options: those of
    ClassifierTerm. On the whole flow path the factor diverges as sigma -> 1; guide on an interval there.
    A clean classifier judges denoised in the place of x, with the factor sigma^2 / (alpha^2 + sigma^2): CleanTerm.
    """
    kind: type[JudgedTerm] = CleanTerm if isinstance(classifier, CleanClassifier) else ClassifierTerm
    term = kind(classifier, target, scale, as_schedule(schedule), **options)
    return ClassifierGuided(denoiser, term, path)


def combine(
    cond: Tensor,
    uncond: Tensor,
    x: Tensor,
    sigma: Tensor | float,
    scale: float,
    method: str | Method | Sequence[str | Method] = "standard",
    path: NoisePath = VE,
    output: Parameterization | None = None,
    seed: int = 0,
    **params,
) -> Tensor:
    """One CFG combination of denoised predictions [B, C, ...], without state: as the first call of a run.

    method, params, output: as for cfg_guided. Raises GuidanceError as it does, and for a sigma that is none of the
    path's where a method reads it.
    """
    for name, given in (("cond", cond), ("uncond", uncond), ("x", x)):
        check_tensor(name, given)
    if not cond.shape[1:] == uncond.shape[1:] == x.shape[1:]:
        shapes = ", ".join(str(list(each.shape)) for each in (cond, uncond, x))
        raise GuidanceError(f"cond, uncond and x must have one shape, [B, C, ...], got {shapes}.")
    pipeline = Pipeline(scale, methods=methods_of(method, params))
    run = Run(path, output=output, seed=seed)
    sigma = per_sample(sigma, x)
    if any(each.reads_level for each in pipeline.methods):
        for level in sigma.tolist():
            path.check(level)
    return pipeline.start(run).combine(cond, uncond, x, sigma, effective_scale(scale, 1.0))


@frozen(eq=False)
class Varied(Guided):
    """A denoiser under conditions with noise in them. conditions: what it takes by name, each [B or 1, ..., D]."""

    denoiser: Denoiser
    variety: Variety
    conditions: dict[str, Tensor]
    path: NoisePath = VE

    def start(self, run):
        run = self._on_path(run)
        inner, vary = start(self.denoiser, run), self.variety.start(run)

        def denoiser(x, sigma, **condition):
            sigma, given = per_sample(sigma, x), enumerate(self.conditions.items())
            each = {name: vary(value.expand(len(x), *value.shape[1:]), sigma, i) for i, (name, value) in given}
            return inner(x, sigma, **each, **condition)

        return denoiser


def varied(denoiser: Denoiser, variety: Variety, path: NoisePath = VE, **conditions: Tensor) -> Guided:
    """A denoiser whose conditions differ a little from sample to sample, so that its pictures differ more.

    conditions: by the names under which the denoiser takes them, each [B, ..., D] or one for all: an embedding of a
    prompt or of a class. Use it as the conditional denoiser of cfg_guided; at CFG 1 it works by itself.
    """
    return Varied(denoiser, variety, conditions, path)

"""Where and how strongly to guide with a classifier, judged by what it knows of the label at each noise level."""

from collections.abc import Sequence
from itertools import groupby

from ..classifier.measurements import WEAK_SCALE, Bin, Suggestion
from ..paths import FLOW, VE
from .metrics import Evaluation, calibration_noise

LEAST = 0.003  # about what 1000 draws can tell from nothing
SATURATED = 0.995
WORST_CALIBRATION = 0.1
MOST_SCALE = 10.0  # what ADM's unconditional model needed on ImageNet (arXiv:2105.05233)


def knowledge(b: Bin, chance_loss: float) -> float:
    """How much of the uncertainty about the label a bin's answers take away: 0 for a guess, 1 when perfect.

    1 - loss / chance_loss; of scores it is R^2.
    """
    return 1 - b.loss / max(chance_loss, 1e-12)


def suggest(evaluation: Evaluation) -> Suggestion:
    """Judge an evaluation by rules that can be checked by hand on its bins.

    Range: the widest run of bins whose knowledge is at least LEAST, and whose calibration error is at most
    WORST_CALIBRATION beyond what chance makes of so few draws; elsewhere the gradient points nowhere or has the wrong
    length. Cut from its clean end are the bins that know SATURATED of the label or more, where nothing is left to
    steer; not if all do.
    Scale: one over the mean knowledge in the range, at most MOST_SCALE: a rule of thumb. 1 is exact Bayes, and enough
    for labels that are plain in any noise; the longer a classifier knows only a part of the label, the more of the
    sample is drawn before it can steer, and the harder it has to.
    """
    useful = [_fault(b, evaluation) == "" for b in evaluation.bins]
    if not any(useful):
        return Suggestion(0.0, None, _why_not(evaluation))
    runs = [
        [b for b, _ in run]
        for use, run in groupby(zip(evaluation.bins, useful, strict=True), lambda pair: pair[1])
        if use
    ]
    run = max(runs, key=lambda run: run[-1].log_snr_high - run[0].log_snr_low)
    kept = _without_saturated_end(run, evaluation.chance_loss)
    mean = sum(knowledge(b, evaluation.chance_loss) for b in kept) / len(kept)
    ends = (round(kept[0].log_snr_low, 4), round(kept[-1].log_snr_high, 4))
    scale = round(min(1 / mean, MOST_SCALE), 2)
    return Suggestion(scale, ends, _why(evaluation, run, kept, mean, scale, ends))


def _without_saturated_end(run: Sequence[Bin], chance_loss: float) -> list[Bin]:
    kept = list(run)
    while kept and knowledge(kept[-1], chance_loss) >= SATURATED:
        kept.pop()
    return kept or list(run)


def _why(
    e: Evaluation, run: Sequence[Bin], kept: Sequence[Bin], mean: float, scale: float, ends: tuple[float, float]
) -> str:
    low, high = ends
    sigmas = [(path.name, float(path.sigma_at(high)), float(path.sigma_at(low))) for path in (VE, FLOW)]
    ranges = " and ".join(f"{least:.3g} to {most:.3g} on {name}" for name, least, most in sigmas)
    worst = max(b.calibration_error for b in kept)
    said = [
        f"Guide between log-SNR {low:g} and {high:g} (sigma {ranges}).",
        f"There the classifier knows more of the label than a guess does ({e.head.accuracy_name} "
        f"{kept[0].accuracy:.0%} rising to {kept[-1].accuracy:.0%}, chance {e.chance:.0%}), and is about as sure as it "
        f"is right (calibration error at most {worst:.2f}).",
    ]
    if kept[0] is not e.bins[0]:
        said.append(f"In more noise, {_fault(e.bins[e.bins.index(kept[0]) - 1], e)}.")
    if len(kept) < len(run):
        said.append("With less noise it is certain, and nothing is left to steer.")
    elif kept[-1] is not e.bins[-1]:
        said.append(f"With less noise, {_fault(e.bins[e.bins.index(kept[-1]) + 1], e)}.")
    capped = f"the most that is suggested, where one over that is {1 / mean:.0f}"
    so = "one over that" if 1 / mean <= MOST_SCALE else capped
    if scale > WEAK_SCALE:
        said.append("That is little: train longer, or on more examples.")
    begin = "begin" if scale <= WEAK_SCALE else "if that does not help, begin"
    said.append(f"On average it knows {mean:.0%} of the label; {begin} with scale {scale:g}, {so}.")
    said.append(e.head.scale_meaning)
    return " ".join(said)


def _why_not(e: Evaluation) -> str:
    best = max(e.bins, key=lambda b: knowledge(b, e.chance_loss))
    return (
        f"Do not guide with this classifier: even at its best, between log-SNR {best.log_snr_low:g} and "
        f"{best.log_snr_high:g}, {_fault(best, e)}. Train it longer or on more examples, and check that these latents "
        f"are in the scale it was trained on."
    )


def _fault(b: Bin, e: Evaluation) -> str:
    """What keeps a bin from being guided in, in words; "" for nothing."""
    if knowledge(b, e.chance_loss) < LEAST:
        return f"it knows no more than a guess ({e.head.accuracy_name} {b.accuracy:.0%}, chance {e.chance:.0%})"
    if b.calibration_error - calibration_noise(e.reliability[e.bins.index(b)]) > WORST_CALIBRATION:
        return f"its probabilities are off (calibration error {b.calibration_error:.2f})"
    return ""

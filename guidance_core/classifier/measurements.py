"""What a classifier's card holds of its measurements: bins of noise levels, temperatures, and how to guide with it."""

from ..frozen import frozen
from ..paths import NoisePath
from ..scale import ScaleSchedule
from .values import LOG_SNR, LOG_SNR_RANGE, TEMPERATURE, declared, number, optional, text

MAX_CONFUSION = 64
"""Labels beyond which no confusion matrix is kept."""

Knots = tuple[tuple[float, float], ...]
"""(log-SNR, temperature), rising in log-SNR."""


@frozen
class Bin:
    """Over noise levels between two log-SNRs: accuracy, expected calibration error, loss and fitted temperature.

    accuracy: the share of right answers, of independent labels the mean over them; of scores R^2, the share of their
    variance that is explained. calibration_error: 0 for scores. loss: -log p(y | x) in nats as the head has it, of
    independent labels the mean over them. temperature: what divides the logits here.
    """

    log_snr_low: float = declared(LOG_SNR)
    log_snr_high: float = declared(LOG_SNR)
    accuracy: float = declared(number(-1e9, 1))
    calibration_error: float = declared(number(0, 1))
    loss: float = declared(number(0, 1e9))
    temperature: float = declared(TEMPERATURE, 1.0)


WEAK_SCALE = 5.0  # a classifier that needs more than this knows less than a fifth of the label


@frozen
class Suggestion:
    """A scale and the log-SNRs to guide between, with the reasons in words; scale 0 and no range: do not guide."""

    scale: float = declared(number(0, 100))
    log_snr_range: tuple[float, float] | None = declared(optional(LOG_SNR_RANGE))
    reason: str = declared(text(2000))

    @property
    def weak(self) -> bool:
        """Whether it knows too little of the label: no range to guide in, or a scale that makes up for that."""
        return self.log_snr_range is None or self.scale > WEAK_SCALE

    def verdict(self, path: NoisePath) -> str:
        """Good or weak, and what to do, in a line; with the noise levels of a path."""
        sigmas = self.sigmas(path)
        if sigmas is None or self.weak:
            return "WEAK: train longer, or on more examples"
        low, high = sigmas
        return f"GOOD: scale {self.scale:g}, sigma {high:.2g} to {low:.2g}"

    @property
    def summary(self) -> str:
        """What to do, in one sentence."""
        if self.log_snr_range is None:
            return "Do not guide with this classifier."
        low, high = self.log_snr_range
        return f"Begin with scale {self.scale:g}; guide between log-SNR {low:g} and {high:g}."

    def sigmas(self, path: NoisePath) -> tuple[float, float] | None:
        """The range as (sigma_lo, sigma_hi) on a path."""
        if self.log_snr_range is None:
            return None
        low, high = self.log_snr_range
        return float(path.sigma_at(high)), float(path.sigma_at(low))

    def schedule(self) -> ScaleSchedule:
        """The range as a schedule: full strength inside, off outside."""
        if self.log_snr_range is None:
            return ScaleSchedule(high=0.0)
        return ScaleSchedule("interval", *self.log_snr_range, axis="log_snr")

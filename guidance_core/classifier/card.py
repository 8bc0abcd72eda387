"""The card of a noisy classifier: everything its file says about it, each field declared once with how it is kept."""

from collections.abc import Sequence
from dataclasses import field, replace
from typing import Any

from ..frozen import frozen
from ..paths import FLOW, VE, VP
from ..version import __version__
from .card_values import BINS, CONFUSION, HEAD, KNOTS, LABELS, PARAMETERS, PLAIN, PNG, PRIOR
from .heads import Head, as_head
from .measurements import Bin, Knots, Suggestion
from .values import LOG_SNR_RANGE, NAME, declared, number, one_of, record_of, table, text

CREATED_WITH = f"Guidance Kit {__version__}"


@frozen
class Record:
    """How a classifier was made, how it measured, and whose it is. Only `temperatures` and `prior` change what it
    answers.

    path: the name of the path of the models it was made for ("VE", "VP" or "flow", "" for any); its own input is always
    in the VP frame. latent_scale, latent_shift: what turns raw VAE output into the latents it was trained on,
    (raw - shift) * scale. data_hash: of the training data. training: settings by name. bins, chance, chance_loss: see
    Evaluation. confusion: counts over the suggested range, rows truth, columns answers. temperatures: (log-SNR, what
    divides the logits there). prior: the probability of each label before anything is seen, where it is another than
    that of the balanced classes of its training. preview: a small PNG.
    """

    path: str = declared(one_of(("", VE.name, VP.name, FLOW.name)), "")
    latent_scale: float | None = declared(number(-1e6, 1e6), None)
    latent_shift: float | None = declared(number(-1e6, 1e6), None)
    data_hash: str = declared(NAME, "")
    training: dict[str, str | float | int | bool] = declared(table(PLAIN), factory=dict)
    bins: tuple[Bin, ...] = declared(BINS, ())
    chance: float | None = declared(number(0, 1), None)
    chance_loss: float | None = declared(number(0, 1e9), None)
    confusion: tuple[tuple[int, ...], ...] | None = declared(CONFUSION, None)
    temperatures: Knots = declared(KNOTS, ())
    prior: tuple[float, ...] = declared(PRIOR, ())
    suggestion: Suggestion | None = declared(record_of(Suggestion), None)
    licence: str = declared(text(), "")
    author: str = declared(NAME, "")
    preview: bytes = declared(PNG, b"")
    created_with: str = declared(NAME, CREATED_WITH, always=True, unsaid="")


@frozen
class Card:
    """Everything a file says of its classifier.

    labels: K names. latent_space: the name of the latents it was trained on ("" when unknown). log_snr_range: the noise
    levels it was trained on; beyond them it is asked at the nearest end. parameters: the keyword arguments that rebuild
    a network of this architecture. info: free text. head: what the logits mean, a Head or its name.
    """

    labels: Sequence[str] = declared(LABELS, required=True)
    latent_space: str = declared(NAME, "", always=True)
    log_snr_range: tuple[float, float] = declared(LOG_SNR_RANGE, (-10.0, 10.0), required=True)
    architecture: str = declared(NAME, "latent_encoder", required=True)
    parameters: dict[str, Any] = declared(PARAMETERS, factory=dict, required=True)
    info: dict[str, str] = declared(table(text()), factory=dict, always=True)
    head: Head = declared(HEAD, as_head("single"), always=True)
    record: Record = field(default_factory=Record)

    def __post_init__(self) -> None:
        object.__setattr__(self, "head", as_head(self.head))

    @property
    def channels(self) -> int | None:
        """Latent channels that its network expects; None when that was not said."""
        return self.parameters.get("channels")

    def recording(self, **changes: Any) -> "Card":
        """The same card with these fields of its record changed."""
        return replace(self, record=replace(self.record, **changes))

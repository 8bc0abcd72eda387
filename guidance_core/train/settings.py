"""The settings of a training run, declared once for the library, the command line and the node."""

import torch

from ..classifier.heads import Head, as_head, heads
from ..classifier.latent_encoder import SIZES
from ..errors import GuidanceError
from ..frozen import frozen
from ..params import Checked, choice, flag, integer, number

OTHER = "other"  # the label of negatives that are sampled from the model itself (see negatives.py)
PRIOR = 0.01  # how much of what the model samples is of each label but that one
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@frozen
class TrainSettings(Checked):
    """The settings of train_classifier that are plain values."""

    head: str = choice(
        "single", tuple(heads()), f"What labels are: {'; '.join(f'{head}, {head.title}' for head in heads().values())}."
    )
    size: str = choice("small", tuple(SIZES), "The network: small for simple data, base or large for real pictures.")
    steps: int = integer(2000, 1, 10_000_000, "How many batches to learn from.")
    batch: int = integer(64, 1, 65536, "Pictures in a batch, over all processes together.")
    learning_rate: float = number(1e-3, 1e-7, 1.0, 1e-5, "The highest learning rate: it rises, then falls to 0.")
    hold_out: float = number(0.0, 0.0, 0.5, 0.05, "Share of the pictures kept aside to validate with; 0 is none.")
    patience: int = integer(
        0, 0, 10_000, "Stop after this many validations in a row without improvement; 0 never stops early."
    )
    balance: bool = flag(True, "Draw every class equally often, so that large classes do not drown small ones.")
    seed: int = integer(0, 0, 2**64 - 1, "Seed of all that is random: the same number gives the same training.")
    evaluate_every: int = integer(100, 1, 1_000_000, "Steps from one validation to the next.", advanced=True)
    checkpoint_every: int = integer(500, 1, 1_000_000, "Steps from one checkpoint to the next.", advanced=True)
    weight_decay: float = number(0.05, 0.0, 1.0, 0.01, "How strongly the weights are pulled towards 0.", advanced=True)
    entropy_penalty: float = number(
        0.1, 0.0, 10.0, 0.05, "Keeps the classifier from being too sure (ECT, arXiv:2206.11474).", advanced=True
    )
    label_smoothing: float = number(
        0.0,
        0.0,
        0.9,
        0.01,
        "For labels that may be wrong: this share of each is spread evenly over all labels.",
        advanced=True,
    )
    ema: float = number(
        0.999,
        0.0,
        0.999999,
        0.0001,
        "Decay of the moving average of the weights: higher averages over more steps.",
        advanced=True,
    )
    precision: str = choice(
        "auto", ("auto", *PRECISIONS), "Arithmetic: auto is bf16 or fp16 on an NVIDIA GPU, else fp32.", advanced=True
    )

    accumulate: int = integer(
        1,
        1,
        1024,
        "Parts that a batch is computed in, to need less memory; so many processes or fewer make the same bits.",
        advanced=True,
    )

    def __post_init__(self) -> None:
        if isinstance(self.head, Head):
            object.__setattr__(self, "head", self.head.name)
        super().__post_init__()
        if self.patience and not self.hold_out:
            raise GuidanceError("Stopping early (patience) needs a validation: hold_out must be above 0.")
        head = as_head(self.head)
        if self.label_smoothing and not head.smooths:
            raise GuidanceError(
                f"{head.title.capitalize()} are not smoothed: label_smoothing must be 0 with the head '{head}'."
            )

    @property
    def fewest(self) -> int:
        """The different pictures that a class must have."""
        return 4 if self.hold_out else 2

    def dtype_on(self, device: torch.device) -> torch.dtype:
        """What the precision is on a device. Raises GuidanceError where the device cannot do it."""
        if self.precision == "auto":
            if device.type != "cuda":
                return torch.float32
            return torch.bfloat16 if torch.cuda.get_device_capability(device)[0] >= 8 else torch.float16
        if self.precision == "fp16" and device.type != "cuda":
            raise GuidanceError(f"precision 'fp16' needs an NVIDIA GPU, and the device is {device}: choose 'auto'.")
        return PRECISIONS[self.precision]

"""What nodes say while a run goes on: the scale and the passes of CFG, and how sure a classifier is of its target."""

from torch import Tensor

from ..host.plan import CfgEvent, PartEvent

INTERVAL = 0.2  # seconds between two texts on a node


def sureness(log_prob: Tensor, head: str) -> Tensor:
    """How sure a classifier is of its target: its probability in percent, or the score itself of one that rates. [B]

    log_prob: of the target with every weight 1.
    """
    log_prob = log_prob.detach().float().cpu()
    return log_prob if head == "regression" else 100 * log_prob.exp()


def sure(log_prob: Tensor, head: str) -> str:
    """The mean of that over the batch, in words."""
    value = float(sureness(log_prob, head).mean())
    return f"score {value:.3g}" if head == "regression" else f"target {value:.1f} %"


def call_now(call: CfgEvent, passes: int, expected: int) -> str:
    """CFG at one call, and its passes so far."""
    scale = f"CFG scale {call.scale:.3g}"
    if call.by_methods not in (None, call.scale):
        scale += f" ({call.by_methods:.3g} by methods)"
    return f"{scale}, {passes} passes run, {expected - passes} saved"


def term_now(event: PartEvent | None) -> str:
    """A classifier term at one call."""
    if event is None:
        return "classifier off at this step"
    return f"{sure(event.log_prob, event.part.term.classifier.head)}, classifier scale {event.scale:.3g}"

"""What nodes say while a run goes on: the scale and the passes of CFG, and how sure a classifier is of its target."""

from torch import Tensor

from ...guidance_core.classifier.heads import Head
from ..host.plan import CfgEvent, PartEvent, TermPart

INTERVAL = 0.2  # seconds between two texts on a node


def shown(log_prob: Tensor, head: Head) -> Tensor:
    """How sure a classifier is of its target, as its head shows it. [B]

    log_prob: of the target with every weight 1.
    """
    return head.shown(log_prob.detach().float().cpu())


def sure(log_prob: Tensor, head: Head) -> str:
    """The mean of that over the batch, in words."""
    return head.in_words(float(shown(log_prob, head).mean()))


def call_now(call: CfgEvent, passes: int, expected: int) -> str:
    """CFG at one call, and its passes so far."""
    scale = f"CFG scale {call.scale:.3g}"
    if call.by_methods not in (None, call.scale):
        scale += f" ({call.by_methods:.3g} by methods)"
    return f"{scale}, {passes} passes run, {expected - passes} saved"


def term_now(part: TermPart, event: PartEvent | None) -> str:
    """A term at one call."""
    if event is None:
        return f"{part.name} off at this step" if not part.judged else "classifier off at this step"
    if part.judged:
        return f"{believed(event)}, classifier scale {event.event.scale:.3g}"
    return f"{part.name}: scale {event.event.scale:.3g}"


def at_the_end(first: PartEvent, last: PartEvent, throughout: bool) -> str:
    """How sure a classifier was of its target at the last step that it guided, and at the first; see believed.

    throughout: whether those are the last and the first of the run.
    """
    head = last.part.term.classifier.head
    before, now = (float(shown(each.event.log_prob, head).mean()) for each in (first, last))
    words = head.at_the_end(now, None if first is last else before, throughout)
    return f"In the guide's own eyes, {words}" if last.part.clean else words[0].upper() + words[1:]


def believed(event: PartEvent) -> str:
    """How sure a classifier is of its target; one of clean data praises what only fools it, and speaks for itself."""
    words = sure(event.event.log_prob, event.part.term.classifier.head)
    return f"in the guide's own eyes {words}" if event.part.clean else words

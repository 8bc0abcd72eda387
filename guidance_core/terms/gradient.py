"""The gradient of a classifier's log-probability in the noisy sample; autograd modes are handled here alone."""

import sys
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from ..classifier.clean import CleanClassifier
from ..classifier.heads import Head, as_head
from ..classifier.noisy import NoisyClassifier
from ..errors import GuidanceError
from ..frozen import frozen
from ..paths import VE, NoisePath
from ..tensors import expand, per_sample
from .targets import LabelTarget, Target, as_target


class Classifier(Protocol):
    """(x [B, C, ...], sigma [B], path) -> logits [B, K], which depend on x; a NoisyClassifier is one."""

    def __call__(self, x: Tensor, sigma: Tensor, path: NoisePath, /) -> Tensor: ...


_ACCELERATOR_ERROR = getattr(torch, "AcceleratorError", ())  # of no class before torch had it
_OUT_OF_MEMORY_CODE = 2  # of CUDA and HIP alike


@frozen
class TargetGradient:
    """grad like x (float32 at least) of log_prob [B] of the target, entropy [B] of p(y | x) and its largest value.

    unweighted: [B], log_prob with every weight 1. passes: how many it took, more than one where memory did not hold
    the whole batch.
    """

    grad: Tensor
    log_prob: Tensor
    unweighted: Tensor
    entropy: Tensor
    max_entropy: float
    passes: int = 1


def leave_inference_mode(module: nn.Module) -> None:
    """Replace weights that were made under torch.inference_mode, which autograd refuses, by ordinary copies."""
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            if parameter.is_inference():
                setattr(part, name, nn.Parameter(parameter.clone(), requires_grad=False))
        for name, buffer in part.named_buffers(recurse=False):
            if buffer.is_inference():
                setattr(part, name, buffer.clone())


@frozen
class Judge:
    """What a gradient is taken of. logits: (x, sigma [B], which samples of the batch these are) -> logits [B, K].

    head: what they mean. modules: those among it, whose weights autograd must be able to use.
    """

    logits: Callable[[Tensor, Tensor, Sequence[int]], Tensor]
    head: Head
    modules: tuple[nn.Module, ...] = ()


def judge_of(classifier: Classifier, path: NoisePath) -> Judge:
    """A classifier as a judge; the logits of a plain callable are of labels that exclude each other."""
    parts: tuple[object, ...] = (classifier,)
    head = as_head("single")
    if isinstance(classifier, NoisyClassifier):
        parts, head = (classifier.network,), as_head(classifier.head)
    elif isinstance(classifier, CleanClassifier):
        parts, head = (classifier.network, classifier.to_input), as_head(classifier.head)
    modules = tuple(part for part in parts if isinstance(part, nn.Module))

    def logits(x: Tensor, sigma: Tensor, samples: Sequence[int]) -> Tensor:
        try:
            return classifier(x, sigma, path)
        except Exception as error:  # which passes on as it is: it is the classifier's own
            if sys.version_info >= (3, 11) and not isinstance(error, GuidanceError):
                error.add_note(
                    f"The classifier was called with x {list(x.shape)}, sigma {list(sigma.shape)} and a path."
                )
            raise

    return Judge(logits, head, modules)


def target_gradient(
    judge: Judge, x: Tensor, sigma: Tensor | float, target: Target | LabelTarget, samples: Sequence[int]
) -> TargetGradient:
    """One forward and backward pass of the judge at x. Works under no_grad and inference_mode; x is not touched.

    Raises GuidanceError when the logits do not depend on x.
    """
    with torch.inference_mode(False), torch.enable_grad():
        for module in judge.modules:
            leave_inference_mode(module)
        leaf = x.detach().clone().to(torch.promote_types(x.dtype, torch.float32)).requires_grad_()
        logits = judge.logits(leaf, per_sample(sigma, leaf).to(leaf.dtype).clone(), samples)
        if not (isinstance(logits, Tensor) and logits.ndim == 2 and len(logits) == len(leaf)):
            given = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise GuidanceError(f"A classifier must answer x {list(x.shape)} with logits [{len(x)}, K], got {given}.")
        if not logits.requires_grad:
            raise GuidanceError(
                "The classifier's logits do not depend on x: it must not detach them or run under no_grad."
            )
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        log_prob = target.log_prob(logits, judge.head)
        # the sum over the batch, never the mean: a mean would divide each sample's gradient by the batch size
        (grad,) = torch.autograd.grad(log_prob.sum(), leaf)
        logits = logits.detach()
        unweighted, entropy = target.unweighted().log_prob(logits, judge.head), judge.head.entropy(logits)
    return TargetGradient(grad, log_prob.detach(), unweighted, entropy, judge.head.max_entropy(logits.shape[1]))


def gradient_of_run(judge: Judge, target: Target | LabelTarget) -> Callable[[Tensor, Tensor | float], TargetGradient]:
    """(x, sigma) -> target_gradient, for one run: where memory runs out the batch is halved, and stays so for the run.

    Raises GuidanceError when memory does not suffice for one sample at a time.
    """
    most = None  # samples that fit at once; None: all of them, as far as is known

    def gradient(x: Tensor, sigma: Tensor | float) -> TargetGradient:
        nonlocal most
        sigma, at_once = per_sample(sigma, x), min(most or len(x), len(x))
        while (result := _in_parts(judge, x, sigma, target, at_once)) is None:
            if at_once == 1:
                raise GuidanceError(
                    f"memory ran out in the classifier's gradient, even for one sample of {list(x.shape[1:])} at a "
                    f"time: sample smaller pictures, use a smaller classifier, or free memory that others hold."
                )
            most = at_once = (at_once + 1) // 2
        return result

    return gradient


def _in_parts(
    judge: Judge, x: Tensor, sigma: Tensor, target: Target | LabelTarget, at_once: int
) -> TargetGradient | None:
    """target_gradient of so many samples at a time; None when memory ran out."""
    spans = [range(i, min(i + at_once, len(x))) for i in range(0, len(x), at_once)]
    try:
        parts = [
            target_gradient(
                judge,
                x[span.start : span.stop],
                sigma[span.start : span.stop],
                target if len(spans) == 1 else target.of(span),
                span,
            )
            for span in spans
        ]
    except RuntimeError as error:
        if not _out_of_memory(error):
            raise
        return None  # and only now is what the failed pass held let go of: the error's traceback keeps it
    names = ("grad", "log_prob", "unweighted", "entropy")
    grad, log_prob, unweighted, entropy = (torch.cat([getattr(part, name) for part in parts]) for name in names)
    return TargetGradient(grad, log_prob, unweighted, entropy, parts[0].max_entropy, len(parts))


def _out_of_memory(error: RuntimeError) -> bool:
    """Whether memory ran out, as an allocator says it, a device (by its code or in words), or MPS."""
    said = str(error).lower()
    if isinstance(error, _ACCELERATOR_ERROR):
        return getattr(error, "error_code", None) == _OUT_OF_MEMORY_CODE or "out of memory" in said
    return isinstance(error, torch.cuda.OutOfMemoryError) or "mps backend out of memory" in said


def log_prob_grad(
    classifier: Classifier, x: Tensor, sigma: Tensor | float, target: Target | Tensor, path: NoisePath = VE
) -> tuple[Tensor, Tensor]:
    """grad_x log p(target | x) like x, and log p(target | x) [B], at noise level sigma.

    classifier: callable (x, sigma [B], path) -> logits [B, K], or a NoisyClassifier. target: int labels [B], or a
    Target. A batch for which memory does not suffice is taken in smaller ones.
    Raises GuidanceError for a target that is neither, or that has labels the classifier lacks.
    """
    result = gradient_of_run(judge_of(classifier, path), as_target(target))(x, sigma)
    return result.grad.to(x.dtype), result.log_prob


def shift_denoised(
    denoised: Tensor, grad: Tensor, sigma: Tensor | float, path: NoisePath = VE, scale: float | Tensor = 1.0
) -> Tensor:
    """denoised + scale * sigma^2 / alpha * grad: classifier guidance in denoised space (arXiv:2105.05233).

    scale: one number, or one a sample [B]. At pure noise (alpha = 0: flow at sigma 1) x says nothing of the class, and
    nothing is added.
    """
    grad = grad.to(torch.promote_types(grad.dtype, torch.float32))  # sigma^2 is beyond half precision
    sigma = per_sample(sigma, grad)
    factor = bayes_factor(sigma.to(torch.promote_types(sigma.dtype, torch.float32)), path)
    return denoised + (expand(scale, grad) * expand(factor, grad) * grad).to(denoised.dtype)


def bayes_factor(sigma: Tensor, path: NoisePath) -> Tensor:
    """sigma^2 / alpha, by which a gradient in x is a change of denoised; 0 where alpha is 0. sigma [B] -> [B]."""
    alpha = path.alpha(sigma)
    return torch.where(alpha > 0, sigma**2 / alpha, torch.zeros_like(alpha))

"""The gradient of a classifier's log-probability in the noisy sample; autograd modes are handled here alone."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import GuidanceError
from ..paths import VE, Path
from ..tensors import expand, per_sample
from .heads import HEADS
from .noisy import NoisyClassifier
from .targets import Target, as_target

Classifier = Callable[[Tensor, Tensor, Path], Tensor]


@dataclass(frozen=True)
class TargetGradient:
    """grad like x (float32 at least), log_prob [B] of the target, entropy [B] of p(y | x) and its largest value."""

    grad: Tensor
    log_prob: Tensor
    entropy: Tensor
    max_entropy: float


def leave_inference_mode(module: nn.Module) -> None:
    """Replace weights that were made under torch.inference_mode, which autograd refuses, by ordinary copies."""
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            if parameter.is_inference():
                setattr(part, name, nn.Parameter(parameter.clone(), requires_grad=False))
        for name, buffer in part.named_buffers(recurse=False):
            if buffer.is_inference():
                setattr(part, name, buffer.clone())


def target_gradient(
    classifier: Classifier, x: Tensor, sigma: Tensor | float, target: Target, path: Path
) -> TargetGradient:
    """One forward and backward pass of the classifier at x. Works under no_grad and inference_mode; x is not touched.

    Logits mean what a NoisyClassifier's head says; those of a plain callable are of labels that exclude each other.
    Raises GuidanceError when the logits do not depend on x.
    """
    network, head = classifier, "single"
    if isinstance(classifier, NoisyClassifier):
        network, head = classifier.network, classifier.head
    with torch.inference_mode(False), torch.enable_grad():
        if isinstance(network, nn.Module):
            leave_inference_mode(network)
        leaf = x.detach().clone().to(torch.promote_types(x.dtype, torch.float32)).requires_grad_()
        logits = classifier(leaf, per_sample(sigma, leaf).to(leaf.dtype).clone(), path)
        if not logits.requires_grad:
            raise GuidanceError(
                "The classifier's logits do not depend on x: it must not detach them or run under no_grad."
            )
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        log_prob = target.log_prob(logits, head)
        # the sum over the batch, never the mean: a mean would divide each sample's gradient by the batch size
        (grad,) = torch.autograd.grad(log_prob.sum(), leaf)
        entropy = HEADS[head].entropy(logits.detach())
    return TargetGradient(grad, log_prob.detach(), entropy, HEADS[head].max_entropy(logits.shape[1]))


def log_prob_grad(
    classifier: Classifier, x: Tensor, sigma: Tensor | float, target: Target | Tensor, path: Path = VE
) -> tuple[Tensor, Tensor]:
    """grad_x log p(target | x) like x, and log p(target | x) [B], at noise level sigma.

    classifier: callable (x, sigma [B], path) -> logits [B, K], or a NoisyClassifier. target: int labels [B], or a
    Target. Raises GuidanceError for a target that is neither, or that has labels the classifier lacks.
    """
    result = target_gradient(classifier, x, sigma, as_target(target), path)
    return result.grad.to(x.dtype), result.log_prob


def shift_denoised(
    denoised: Tensor, grad: Tensor, sigma: Tensor | float, path: Path = VE, scale: float | Tensor = 1.0
) -> Tensor:
    """denoised + scale * sigma^2 / alpha * grad: classifier guidance in denoised space (arXiv:2105.05233).

    scale: one number, or one a sample [B]. At pure noise (alpha = 0: flow at sigma 1) x says nothing of the class, and
    nothing is added.
    """
    return denoised + shift(grad, sigma, path, scale).to(denoised.dtype)


def shift(grad: Tensor, sigma: Tensor | float, path: Path, scale: float | Tensor) -> Tensor:
    """scale * sigma^2 / alpha * grad in float32 at least, and 0 where alpha is 0."""
    grad = grad.to(torch.promote_types(grad.dtype, torch.float32))  # sigma^2 is beyond half precision
    sigma = per_sample(sigma, grad)
    sigma = sigma.to(torch.promote_types(sigma.dtype, torch.float32))
    alpha = path.alpha(sigma)
    factor = torch.where(alpha > 0, sigma**2 / alpha, torch.zeros_like(alpha))
    return expand(scale, grad) * expand(factor, grad) * grad

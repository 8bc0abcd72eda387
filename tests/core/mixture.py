"""The oracle: a labelled Gaussian mixture, whose denoised predictions and classifier are exact at every noise level."""

import torch

from guidance_core.tensors import per_sample

SHAPE = (2, 2, 1)
DIM = 4


class Mixture:
    """Components N(m, C) with weights and labels; samples have shape [B, 2, 2, 1], everything in float64."""

    def __init__(self, seed: int = 0, classes: int = 3, components: int = 6):
        g = torch.Generator().manual_seed(seed)
        self.classes = classes
        self.labels = torch.arange(components) % classes
        weights = torch.rand(components, generator=g, dtype=torch.float64) + 0.5
        self.weights = weights / weights.sum()
        self.means = 1.5 * torch.randn(components, DIM, generator=g, dtype=torch.float64)
        root = 0.3 * torch.randn(components, DIM, DIM, generator=g, dtype=torch.float64)
        self.covariances = root @ root.mT + 0.05 * torch.eye(DIM, dtype=torch.float64)

    def noise(self, batch: int, seed: int) -> torch.Tensor:
        return torch.randn(batch, *SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    def data(self, batch: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Clean samples [B, 2, 2, 1] and their labels."""
        g = torch.Generator().manual_seed(seed)
        k = torch.multinomial(self.weights, batch, replacement=True, generator=g)
        root = torch.linalg.cholesky(self.covariances[k])
        z = torch.randn(batch, DIM, 1, generator=g, dtype=torch.float64)
        return (self.means[k] + (root @ z)[..., 0]).reshape(batch, *SHAPE), self.labels[k]

    def _components(self, x, sigma, path):
        """log joint [B, N] of x with each component, and each component's posterior mean [B, N, D]."""
        sigma = per_sample(sigma, x)
        alpha = path.alpha(sigma)[:, None, None, None]
        eye = torch.eye(DIM, dtype=torch.float64)
        noisy = alpha**2 * self.covariances[None] + sigma[:, None, None, None] ** 2 * eye
        residual = x.flatten(1)[:, None] - alpha[..., 0] * self.means[None]
        solved = torch.linalg.solve(noisy, residual[..., None])
        quadratic = (residual[..., None, :] @ solved)[..., 0, 0]
        log_joint = self.weights.log() - 0.5 * (quadratic + torch.logdet(noisy))
        return log_joint, self.means + (alpha * self.covariances[None] @ solved)[..., 0]

    def classifier(self, x, sigma, path):
        """Exact logits log p(x, y) [B, K]."""
        log_joint, _ = self._components(x, sigma, path)
        return torch.stack([log_joint[:, self.labels == y].logsumexp(1) for y in range(self.classes)], 1)

    def denoiser(self, path, labels=None):
        """E[x0 | x], or E[x0 | x, y] for int labels [B], by Tweedie."""

        def denoised(x, sigma):
            log_joint, means = self._components(x, sigma, path)
            if labels is not None:
                log_joint = log_joint.masked_fill(self.labels[None] != labels[:, None], -torch.inf)
            return (log_joint.softmax(1)[..., None] * means).sum(1).reshape(x.shape)

        return denoised

"""How far two clouds of features lie apart: Frechet distance, precision and recall, in any number of processes."""

from collections.abc import Iterable

import torch
from torch import Tensor

from ..distributed import Process
from ..errors import GuidanceError
from ..frozen import frozen

ROWS = 512  # of distances, computed at once


@frozen(eq=False)
class Moments:
    """Of `count` features [F]: their sum [F], and the sum of their outer products [F, F], in double precision."""

    count: int
    total: Tensor
    outer: Tensor

    @classmethod
    def of(cls, features: Tensor) -> "Moments":
        """features [N, F]."""
        x = features.double()
        return cls(len(x), x.sum(0), x.T @ x)

    @classmethod
    def merged(cls, parts: Iterable["Moments"], process: Process) -> "Moments":
        """Of all parts that the processes have, one at least each."""
        count, total, outer = 0, torch.tensor(0.0), torch.tensor(0.0)
        for part in parts:
            count, total, outer = count + part.count, total + part.total, outer + part.outer
        counted = process.all_reduce(torch.tensor(count, device=total.device))
        return cls(int(counted), process.all_reduce(total), process.all_reduce(outer))

    @property
    def mean(self) -> Tensor:
        return self.total / self.count

    @property
    def covariance(self) -> Tensor:
        return (self.outer - self.count * torch.outer(self.mean, self.mean)) / (self.count - 1)


def frechet(a: Moments, b: Moments) -> float:
    """Frechet distance between two clouds, taken as Gaussians (FID's formula, arXiv:1706.08500)."""
    return _frechet(a.mean, a.covariance, b.mean, b.covariance)


def frechet_distance(features_a: Tensor, features_b: Tensor) -> float:
    """The same of features [N, F]."""
    a, b = features_a.double(), features_b.double()
    return _frechet(a.mean(0), torch.cov(a.T), b.mean(0), torch.cov(b.T))


def _frechet(mean_a: Tensor, cov_a: Tensor, mean_b: Tensor, cov_b: Tensor) -> float:
    values, vectors = torch.linalg.eigh(cov_a)
    root_a = vectors * values.clamp(min=0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root_a @ cov_b @ root_a).clamp(min=0).sqrt().sum()  # trace of sqrt(cov_a cov_b)
    return float((mean_a - mean_b).square().sum() + cov_a.trace() + cov_b.trace() - 2 * cross)


def precision_and_recall(
    real: Tensor, samples: Tensor, neighbours: int = 3, process: Process | None = None
) -> tuple[float, float]:
    """(share of samples that lie where real ones do, share of real ones that lie where samples do).

    real, samples: features [N, F] and [M, F]. A set lies where one of its points is no nearer to its k-th neighbour in
    it (arXiv:1904.06991). Raises GuidanceError for sets of k points or fewer.
    """
    process = process or Process()
    if min(len(real), len(samples)) <= neighbours:
        raise GuidanceError(
            f"Precision and recall need more than {neighbours} of each, got {len(real)} and {len(samples)}."
        )
    reach = {name: _reach(points, neighbours, process) for name, points in (("real", real), ("samples", samples))}
    inside = [_inside(samples, real, reach["real"], process), _inside(real, samples, reach["samples"], process)]
    return inside[0] / len(samples), inside[1] / len(real)


def _reach(points: Tensor, neighbours: int, process: Process) -> Tensor:
    """The distance of each point to its k-th neighbour, [N]; each process finds its share."""
    found = torch.zeros(len(points), device=points.device)
    part = process.part_of(len(points))
    for start in range(part.start, part.stop, ROWS):
        rows = slice(start, min(start + ROWS, part.stop))
        distances = torch.cdist(points[rows].float(), points.float(), compute_mode="donot_use_mm_for_euclid_dist")
        found[rows] = distances.kthvalue(neighbours + 1, 1).values  # the nearest of all is the point itself
    return process.all_reduce(found)


def _inside(points: Tensor, others: Tensor, reach: Tensor, process: Process) -> int:
    """How many points lie within the reach of one of the others."""
    count = torch.tensor(0, device=points.device)
    for rows in points[process.part_of(len(points))].split(ROWS):
        distances = torch.cdist(rows.float(), others.float(), compute_mode="donot_use_mm_for_euclid_dist")
        count += (distances <= reach).any(1).sum()
    return int(process.all_reduce(count))

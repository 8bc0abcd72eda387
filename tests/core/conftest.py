"""Fixtures that the core tests share."""

import pytest
import torch
from mixture import Mixture

import guidance_core as gc

torch.set_num_threads(1)  # the tensors are tiny: a second thread only makes them wait


@pytest.fixture(scope="session")
def mixture():
    return Mixture()


@pytest.fixture(params=(gc.VE, gc.VP, gc.FLOW), ids=lambda path: path.name)
def path(request):
    return request.param


@pytest.fixture
def randn():
    """randn(*shape, seed=0, dtype=float64): the same numbers for the same seed."""

    def draw(*shape, seed=0, dtype=torch.float64):
        return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)

    return draw


@pytest.fixture
def counted():
    """counted(function): the same function, with the sigma of each call in its list `calls`."""

    def wrap(function):
        def counting(x, sigma, *rest, **condition):
            counting.calls.append(float(torch.as_tensor(sigma).flatten()[0]))
            return function(x, sigma, *rest, **condition)

        counting.calls = []
        return counting

    return wrap

"""Learning a null condition: of a model whose best one is known, it is found, and the model is not touched."""

import pytest
import torch

import guidance_core as gc
from guidance_core.progress import run_to_end
from guidance_core.tensors import expand
from guidance_core.train.null import NullSettings, learn_null

MEAN = torch.tensor([0.5, -1.0, 2.0, 0.0]).reshape(1, 4, 1, 1)
SIGMAS = torch.linspace(0.1, 0.9, 50)


def model(path):
    """The exact denoiser of x0 ~ N(null, 1): its best null condition is the data's mean."""

    def denoiser(x, sigma, null):
        alpha, s = expand(path.alpha(sigma), x), expand(sigma, x)
        mean = null.reshape(1, 4, 1, 1)
        return mean + alpha / (alpha**2 + s**2) * (x - alpha * mean)

    return denoiser


@pytest.mark.parametrize("path", [gc.VE, gc.FLOW], ids=["VE", "flow"])
def test_the_mean_of_the_data_is_found_from_zeros(path, randn):
    x0 = MEAN + randn(64, 4, 4, 4)
    seen = []
    settings = NullSettings(steps=150, batch=16, learning_rate=0.1)
    found = run_to_end(learn_null(model(path), x0, torch.zeros(1, 1, 4), SIGMAS, path, settings), seen.append)
    torch.testing.assert_close(found.null.flatten(), x0.mean((0, 2, 3)).float(), atol=0.08, rtol=0)
    assert found.after < 0.9 * found.before and found.null.shape == (1, 1, 4) and not found.null.requires_grad
    assert [step.done for step in seen] == list(range(1, 151)) and seen[-1].loss < seen[0].loss


def test_it_is_the_same_again_works_under_inference_mode_and_touches_nothing(randn):
    with torch.inference_mode():
        x0, begin = MEAN + randn(8, 4, 4, 4), torch.ones(1, 1, 4)
        before = x0.clone(), begin.clone()
        settings = NullSettings(steps=3, batch=4)
        one, two = (run_to_end(learn_null(model(gc.VE), x0, begin, SIGMAS, settings=settings)) for _ in range(2))
        assert torch.equal(one.null, two.null) and one.after == two.after
        assert torch.equal(x0, before[0]) and torch.equal(begin, before[1])
    other = run_to_end(learn_null(model(gc.VE), x0, begin, SIGMAS, settings=NullSettings(steps=3, batch=4, seed=1)))
    assert not torch.equal(one.null, other.null)


def test_a_model_that_does_not_answer_to_it_is_refused(randn):
    work = learn_null(lambda x, sigma, null: 0.5 * x, randn(4, 4, 4, 4), torch.ones(1, 1, 4), SIGMAS)
    with pytest.raises(gc.GuidanceError, match="does not depend on the null condition"):
        run_to_end(work)
    with pytest.raises(gc.GuidanceError, match=r"learning_rate must be in \[1e-05, 1\], got 2"):
        NullSettings(learning_rate=2.0)
    with pytest.raises(gc.GuidanceError, match="begin must be a torch tensor, got list"):
        run_to_end(learn_null(model(gc.VE), randn(4, 4, 4, 4), [0.0], SIGMAS))

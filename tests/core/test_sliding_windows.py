"""Windows of a sample cover it whole, and what is computed in each is put together again."""

import pytest
import torch

from guidance_core.sliding_windows import STEP, put_together, windows


@pytest.mark.parametrize("sides", [(64, 64), (16, 40), (9, 7), (3, 5)])
@pytest.mark.parametrize("share", [0.25, 0.625, 0.95])
def test_windows_cover_the_sample_and_put_it_together(sides, share):
    x = torch.randn(2, 4, 3, *sides)
    places = windows(sides, share)
    assert torch.allclose(put_together(lambda at: x[(..., *at)], x, places), x, atol=1e-6)
    for at in places:
        for side, part in zip(sides, at, strict=True):
            assert 0 <= part.start < part.stop <= side and (part.stop - part.start) in (side, *range(0, side, STEP))


def test_they_are_the_four_of_the_paper():
    assert windows((64, 64), 0.625) == [
        (slice(down, down + 40), slice(across, across + 40)) for down in (0, 24) for across in (0, 24)
    ]


def test_where_they_overlap_the_mean_counts():
    places, x = windows((8, 8), 0.5), torch.zeros(1, 1, 8, 8)
    overlapping = [*places, (slice(0, 4), slice(0, 4))]
    values = iter([1.0, 1.0, 1.0, 1.0, 3.0])
    whole = put_together(lambda at: torch.full_like(x[(..., *at)], next(values)), x, overlapping)
    assert (whole[..., :4, :4] == 2).all() and whole.sum() == 16 * 2 + 48

"""Per-sample arithmetic: closed forms, torch's own reductions sample by sample, and seeded noise."""

import pytest
import torch

import guidance_core as gc
from guidance_core.tensors import (
    SALT,
    dot,
    draw_of,
    excess,
    expand,
    norm,
    per_sample,
    project,
    quantile,
    ratio,
    sample_axes,
    seeded_noise,
    std,
)

SHAPES = [(3, 2, 4, 5), (3, 2, 2, 4, 5), (3, 7)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_expand_gives_each_sample_its_value(shape, randn):
    x = randn(*shape, dtype=torch.float32)
    value = expand(torch.tensor([1.0, 2.0, 3.0]).double(), x)
    assert (value.shape, value.dtype) == ((3, *[1] * (len(shape) - 1)), torch.float32)
    assert (x * value)[2].equal(3 * x[2])
    for number in (0.5, torch.tensor(0.5)):
        assert (expand(number, x).shape, float(expand(number, x))) == ((), 0.5)


@pytest.mark.parametrize(
    ("dtype", "value", "want"),
    [
        (torch.float16, 0.3, torch.float32),
        (torch.float64, 0.3, torch.float64),
        (torch.float16, 2, torch.float32),
        (torch.float64, torch.tensor(0.3), torch.float32),
        (torch.float32, torch.tensor([0.3]).double(), torch.float64),
        (torch.bfloat16, torch.tensor([1, 2, 3]), torch.float32),
    ],
    ids=str,
)
def test_a_noise_level_becomes_one_a_sample_in_full_precision(dtype, value, want, randn):
    level = per_sample(value, randn(3, 2, 4, 4, dtype=dtype))
    assert (level.shape, level.dtype) == ((3,), want)
    assert level.tolist() == torch.as_tensor(value, dtype=want).expand(3).tolist()


@pytest.mark.parametrize("count", [0, 2, 4])
def test_another_count_of_levels_is_refused(count, randn):
    with pytest.raises(gc.GuidanceError, match=f"Got {count} noise levels for a batch of 3; give one, or one a sample"):
        per_sample(torch.ones(count), randn(3, 2, 4, 4))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_reductions_are_torchs_own_of_each_sample(shape, randn):
    a, b = randn(*shape), randn(*shape, seed=1)
    pairs = list(zip(a, b, strict=True))
    torch.testing.assert_close(dot(a, b), torch.stack([(x * y).sum() for x, y in pairs]))
    torch.testing.assert_close(norm(a), torch.stack([(x * x).sum().sqrt() for x in a]))
    torch.testing.assert_close(std(a), torch.stack([x.std() for x in a]))


def test_no_samples_are_refused():
    with pytest.raises(gc.GuidanceError, match=r"There are no samples: x has the shape \[0, 2, 4\]"):
        per_sample(0.5, torch.zeros(0, 2, 4))


def test_ratio_is_zero_where_nothing_divides():
    a, b = torch.tensor([6.0, 5.0, 0.0, -3.0]), torch.tensor([2.0, 0.0, 0.0, -0.5])
    assert ratio(a, b).tolist() == [3, 0, 0, 6]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_projection_leaves_what_is_perpendicular(shape, randn):
    a, onto = randn(*shape), randn(*shape, seed=1)
    onto[1] = 0
    part = project(a, onto)
    torch.testing.assert_close(dot(a - part, onto), torch.zeros(3).double(), atol=1e-12, rtol=0)
    torch.testing.assert_close(project(part, onto), part)
    torch.testing.assert_close(project(onto * 3, onto), onto * 3)
    assert float(part[1].abs().max()) == 0
    assert float(part[0].abs().max()) > 0


@pytest.mark.parametrize("size", [1, 2, 7, 100])
@pytest.mark.parametrize("q", [0.0, 0.25, 0.5, 0.995, 1.0])
def test_quantile_is_torchs_own(size, q, randn):
    a = randn(2, 3, size)
    torch.testing.assert_close(quantile(a, q), a.quantile(q, dim=-1))


def test_quantile_takes_more_values_than_torchs_own():
    assert float(quantile(torch.arange(2.0**24 + 2).flip(0), 0.5)) == pytest.approx(2.0**23, abs=2)


@pytest.mark.parametrize(("seed", "of_seed"), [(11, 11 * 1_000_003), (2**63, 0), (2**64 - 1, 2**63 - 1_000_003)])
def test_seeded_noise_is_that_of_a_generator_named_by_seed_draw_and_place(seed, of_seed):
    """Written out, because a release that changed it would change everyone's pictures; up to a host's largest seed."""
    x = torch.zeros(3, 2, 4, dtype=torch.float64)
    rows = seeded_noise(x, seed, [5, 5, 2**32 - 1])
    for i, draw in enumerate((5, 5, 2**32 - 1)):
        generator = torch.Generator().manual_seed((SALT + of_seed + draw * 7_919 + i) % 2**63)
        assert torch.equal(rows[i], torch.randn(2, 4, generator=generator).double())
    assert SALT == 0x5EEDC0DE


def test_seeded_noise_of_a_sample_depends_on_nothing_else():
    x = torch.zeros(4, 2, 4)
    rows = seeded_noise(x, 3, [7, 7, 7, 8])
    assert torch.equal(seeded_noise(x[:2], 3, [7, 7]), rows[:2])
    assert torch.equal(seeded_noise(x + 5, 3, [7, 7, 7, 8]), rows)
    assert len({tuple(row.flatten().tolist()) for row in rows}) == 4
    begin = torch.randn(2, 4, generator=torch.Generator().manual_seed(3))
    assert not torch.equal(seeded_noise(x[:1], 3, [0])[0], begin), "the noise that a run of this seed begins with"


def test_excess_is_the_share_by_which_one_is_longer(randn):
    """Over the axes asked for, which stay; with all digits where the two are nearly one."""
    a, b = randn(3, 2, 4, 5, seed=1), randn(3, 2, 4, 5, seed=2)
    for axes in (sample_axes(a), (1,)):
        lengths = [each.square().sum(axes, keepdim=True).sqrt() for each in (a, b)]
        torch.testing.assert_close(excess(a, b, a - b, axes), (lengths[0] - lengths[1]) / lengths[0])
    assert sample_axes(a) == (1, 2, 3)
    tiny = torch.full_like(a, 1e-20) * a
    got = excess(a, a, tiny, sample_axes(a)).flatten()
    torch.testing.assert_close(got, torch.full((3,), 1e-20, dtype=got.dtype), rtol=1e-9, atol=0)
    assert not excess(0 * a, b, -b, sample_axes(a)).any()


def test_a_draw_is_the_level_in_single_precision():
    assert draw_of(1.0) == 0x3F800000
    assert draw_of(1.0 + 1e-9) == draw_of(1.0) != draw_of(1.0 + 1e-6)

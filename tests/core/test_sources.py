"""Examples on their way: sources, groups of copies, the split, draws by weight, varied and noised batches."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import guidance_core as gc
from guidance_core.data.augment import AUGMENTS, augmentation
from guidance_core.data.sources import joined
from guidance_core.distributed import Process
from guidance_core.train.data import NoisyData, Subset, first_of_each, split


def source(count=6, dtype=torch.float32, **more):
    latents = torch.randn(count, 2, 4, 6, generator=torch.Generator().manual_seed(0)).to(dtype)
    return gc.TensorSource(latents, torch.arange(count) % 3, **more)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_examples_come_in_the_order_asked_for_in_single_precision(dtype):
    one = source(dtype=dtype)
    assert (len(one), one.shape) == (6, (2, 4, 6))
    got = one.load(torch.tensor([4, 0, 4]))
    assert got.dtype == torch.float32
    assert torch.equal(got, one.latents[[4, 0, 4]].float())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_identical_latents_are_one_group_and_nothing_else_is(dtype):
    one = source(dtype=dtype)
    assert len(one.groups.unique()) == 6
    one.latents[5] = one.latents[1]
    twins = gc.TensorSource(one.latents, one.targets)
    assert twins.groups[5] == twins.groups[1]
    assert len(twins.groups.unique()) == 5


def test_given_groups_join_with_identical_latents():
    latents = source().latents.clone()
    latents[2] = latents[0]
    groups = gc.TensorSource(latents, torch.arange(6) % 3, torch.tensor([7, 7, 8, 8, 9, 10])).groups
    assert len(groups[:4].unique()) == 1  # 0 and 2 are the same, 1 belongs to 0 and 3 to 2
    assert len(groups.unique()) == 3


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=20))
@settings(max_examples=200, deadline=None)
def test_joined_groups_are_the_connected_parts(pairs):
    got = joined([a for a, _ in pairs], [b for _, b in pairs]).tolist()
    reach = [{i} for i in range(len(pairs))]
    for _ in pairs:
        for i, (a, b) in enumerate(pairs):
            for j, (c, d) in enumerate(pairs):
                if a == c or b == d:
                    reach[i] = reach[j] = reach[i] | reach[j]
    for i in range(len(pairs)):
        assert {j for j in range(len(pairs)) if got[j] == got[i]} == reach[i]


def test_a_fingerprint_knows_every_part():
    plain = source().fingerprint()
    assert plain == source().fingerprint()
    others = [source(5), source(dtype=torch.float64), source(same_picture=torch.tensor([0, 0, 1, 2, 3, 4]))]
    latents = source().latents
    others.append(gc.TensorSource(latents.flip(0), source().targets))
    others.append(gc.TensorSource(latents, source().targets.flip(0)))
    touched = latents.clone()
    touched[3, 1, 2, 5] += 1e-6
    others.append(gc.TensorSource(touched, source().targets))
    assert len({plain, *(other.fingerprint() for other in others)}) == len(others) + 1


@pytest.mark.parametrize(
    ("latents", "targets", "groups", "sentence"),
    [
        (torch.zeros(3, 4, 4), torch.zeros(3), None, r"Latents must be .*got \[3, 4, 4\]"),
        (torch.zeros(3, 1, 4, 4), torch.zeros(2), None, r"3 latents and labels of shape \[2\]"),
        (torch.zeros(3, 1, 4, 4), torch.zeros(3, 2, 2), None, r"labels of shape \[3, 2, 2\]"),
        (torch.zeros(3, 1, 4, 4), torch.zeros(3), torch.zeros(4), r"3 latents and groups of shape \[4\]"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(latents, targets, groups, sentence):
    with pytest.raises(gc.GuidanceError, match=sentence):
        gc.TensorSource(latents, targets, groups)


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=80),
    st.floats(0.05, 0.5),
    st.integers(0, 5),
)
@settings(max_examples=150, deadline=None)
def test_a_split_parts_groups_and_serves_every_stratum(groups, share, seed):
    groups = torch.tensor(groups)
    strata = torch.arange(len(groups)) % 3
    training, held = split(groups, strata, share, torch.Generator().manual_seed(seed))
    assert sorted([*training.tolist(), *held.tolist()]) == list(range(len(groups)))
    assert not set(groups[training].tolist()) & set(groups[held].tolist())
    first = first_of_each(groups)
    for stratum in strata[first].unique():
        members = set(groups[first[strata[first] == stratum]].tolist())
        out = members & set(groups[held].tolist())
        assert len(out) == max(round(share * len(members)), int(len(members) >= 4)) < len(members)


def test_a_split_is_of_its_seed():
    groups, strata = torch.arange(60), torch.zeros(60)
    one, same, other = (split(groups, strata, 0.3, torch.Generator().manual_seed(seed))[1] for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_draws_follow_their_weights():
    among, weights = torch.tensor([3, 5, 8, 9]), torch.tensor([0.0, 1.0, 2.0, 5.0], dtype=torch.float64)
    draws = Subset(among, weights).draw(40_000, torch.Generator().manual_seed(0))
    shares = torch.tensor([(draws == i).float().mean() for i in among])
    assert shares[0] == 0
    torch.testing.assert_close(shares.double(), weights / 8, rtol=0, atol=0.01)


@pytest.mark.parametrize("augment", [None, *AUGMENTS.values()], ids=lambda a: a.__name__ if a else "plain")
@pytest.mark.parametrize("world", [2, 3])
def test_the_parts_of_all_processes_are_the_batch(augment, world):
    indices, log_snr = torch.tensor([0, 3, 3, 5, 1]), torch.linspace(-4, 4, 5)

    def batch(process=Process()):  # noqa: B008
        data = NoisyData(source(), torch.arange(6), (-10.0, 10.0), torch.device("cpu"), process)
        return data.noised(indices, log_snr, torch.Generator().manual_seed(7), augment)

    parts = [batch(Process(rank, world)) for rank in range(world)]
    for together, *each in zip(batch(), *parts, strict=True):
        assert torch.equal(torch.cat(each), together)
    assert torch.equal(batch()[2], indices)


def test_noise_is_of_the_level_asked_for():
    """In the VP frame: alpha^2 + sigma^2 = 1, alpha^2 / sigma^2 = exp(log-SNR)."""
    ones = gc.TensorSource(torch.ones(2, 1, 200, 200), torch.tensor([0, 1]))
    data = NoisyData(ones, ones.labels, (-10.0, 10.0), torch.device("cpu"), Process())
    x, log_snr, _ = data.noised(torch.tensor([0, 1]), torch.tensor([-1.0, 2.0]), torch.Generator().manual_seed(0))
    mean, var = x.mean((1, 2, 3)), x.var((1, 2, 3))
    torch.testing.assert_close(mean**2 + var, torch.ones(2), rtol=0, atol=0.03)
    torch.testing.assert_close((mean**2 / var).log(), log_snr, rtol=0, atol=0.05)


@pytest.fixture(params=[(3, 2, 16, 24), (3, 2, 4, 16, 24)], ids=["image", "video"])
def numbered(request):
    """Every number once, so that each tells where it came from."""
    count = torch.Size(request.param).numel()
    return torch.arange(count, dtype=torch.float32).reshape(request.param)


def varied(name, x0, seed):
    return AUGMENTS[name](x0, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", AUGMENTS)
def test_variations_only_move_and_leave_out(name, numbered):
    """Every position's channels, and all frames, are those of one position of the same sample."""
    places = {
        tuple(place) for place in numbered.movedim((-2, -1), (1, 2)).flatten(1, 2).flatten(2).flatten(0, 1).tolist()
    }
    changed = 0
    for seed in range(6):
        after = varied(name, numbered, seed)
        assert after.shape[:-2] == numbered.shape[:-2]
        rows = after.movedim((-2, -1), (1, 2)).flatten(1, 2).flatten(2).flatten(0, 1).tolist()
        assert {tuple(row) for row in rows} <= places
        changed += not torch.equal(after, numbered)
        assert torch.equal(after, varied(name, numbered, seed))
    assert changed


def test_flips_mirror_half_of_the_samples():
    x0 = torch.arange(200.0).reshape(100, 1, 1, 2)
    after = varied("flip", x0, 0)
    mirrored = (after == x0.flip(-1)).flatten(1).all(1)
    assert bool((mirrored | (after == x0).flatten(1).all(1)).all())
    assert 30 < int(mirrored.sum()) < 70


def test_shifts_repeat_the_edge_and_reach_an_eighth(numbered):
    moves = set()
    for seed in range(30):
        after = varied("shift", numbered, seed)[..., 8, :]  # a row; its columns tell the sideways move
        for one, row in zip(numbered, after, strict=True):
            width = one.shape[-1]
            moved = (row.flatten()[width // 2] - one.flatten()[0]) % width - width // 2
            moves.add(int(moved))
            columns = (torch.arange(width) + int(moved)).clamp(0, width - 1)
            assert torch.equal((row.flatten()[:width] - one.flatten()[0]) % width, columns.float())
    assert moves == set(range(-3, 4))


def test_crops_are_windows_of_one_size_a_batch(numbered):
    sizes, room = set(), set()
    for seed in range(60):
        after = varied("crop", numbered, seed)
        height, width = after.shape[-2:]
        sizes.add((height, width))
        for one, window in zip(numbered, after, strict=True):
            corner = int((window.flatten()[0] - one.flatten()[0]) % (16 * 24))
            top, left = divmod(corner, 24)
            assert torch.equal(window, one[..., top : top + height, left : left + width])
            room.add((top, 16 - height - top, left, 24 - width - left))
    assert [max(side) for side in zip(*room, strict=True)] == [4, 4, 6, 6]  # what is left out, on each side
    assert {size[0] for size in sizes} == set(range(12, 17))
    assert {size[1] for size in sizes} == set(range(18, 25))


def test_named_variations_follow_one_another(numbered):
    both = augmentation(["flip", "crop"])(numbered, torch.Generator().manual_seed(3))
    generator = torch.Generator().manual_seed(3)
    assert torch.equal(both, AUGMENTS["crop"](AUGMENTS["flip"](numbered, generator), generator))
    assert augmentation([]) is None

"""Null conditions: the dropout that teaches them, and their files."""

import pytest
import safetensors.torch
import torch

import guidance_core as gc
from guidance_core.null import FORMAT, NullCondition, load_null_condition


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_a_share_p_of_the_samples_is_dropped(p):
    y = torch.arange(20000) % 10
    dropped = gc.drop_condition(y, 10, p, seeded())
    assert float((dropped == 10).float().mean()) == pytest.approx(p, abs=0.01)
    assert torch.equal(dropped[dropped != 10], y[dropped != 10])


def test_all_or_nothing_at_the_ends():
    y = torch.arange(1000)
    assert torch.equal(gc.drop_condition(y, -1, 0, seeded()), y)
    assert torch.equal(gc.drop_condition(y, -1, 1, seeded()), torch.full((1000,), -1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_an_embedding_is_dropped_whole(dtype, randn):
    y, null = randn(500, 7, 4, dtype=dtype), randn(7, 4, seed=1)
    out = gc.drop_condition(y, null, 0.3, seeded())
    gone = (out == null.to(dtype)).flatten(1).all(1)
    kept = (out == y).flatten(1).all(1)
    assert out.dtype == dtype
    assert bool((gone ^ kept).all())
    assert 100 < int(gone.sum()) < 200


def test_the_draw_depends_on_the_generator_and_the_batch_alone(randn):
    labels = gc.drop_condition(torch.zeros(300, dtype=torch.long), 1, 0.3, seeded(5)) == 1
    embeddings = gc.drop_condition(randn(300, 4), torch.zeros(4), 0.3, seeded(5)).abs().sum(1) == 0
    assert torch.equal(labels, embeddings)
    other = gc.drop_condition(torch.zeros(300, dtype=torch.long), 1, 0.3, seeded(6)) == 1
    assert not torch.equal(labels, other)


def test_the_condition_is_left_as_it_is():
    y = torch.arange(50)
    gc.drop_condition(y, 99, 0.9, seeded())
    assert torch.equal(y, torch.arange(50))


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_a_probability_out_of_range_is_refused(p):
    with pytest.raises(gc.GuidanceError, match=rf"dropout probability must be in \[0, 1\], got {p}"):
        gc.drop_condition(torch.arange(3), 0, p)


@pytest.mark.parametrize("pooled", [None, torch.arange(4.0)[None]])
def test_a_learned_null_condition_comes_back_from_its_file(pooled, tmp_path, randn):
    null = NullCondition(randn(1, 7, 4), pooled)
    null.save(tmp_path / "null.safetensors")
    loaded = load_null_condition(tmp_path / "null.safetensors")
    assert torch.equal(loaded.cond, null.cond)
    assert loaded.pooled is None if pooled is None else torch.equal(loaded.pooled, pooled)


def test_what_is_no_null_condition_file_is_refused(tmp_path, randn):
    with pytest.raises(gc.GuidanceError, match="no null condition file 'none' in"):
        load_null_condition(tmp_path / "none")
    NullCondition(randn(7, 4)).save(tmp_path / "flat")
    with pytest.raises(gc.GuidanceError, match=r"'flat' holds no tensor 'cond' of shape \[1, tokens, width\]"):
        load_null_condition(tmp_path / "flat")


COND, POOLED = torch.ones(1, 7, 4), torch.ones(1, 4)


@pytest.mark.parametrize(
    ("null", "sentence"),
    [
        (NullCondition(COND * float("nan")), "'wrong' holds a 'cond' that is not finite real numbers"),
        (NullCondition(COND.long()), "'cond' that is not finite real numbers"),
        (NullCondition(COND[None, None]), r"no tensor 'cond' of shape \[1, tokens, width\]"),
        (NullCondition(COND.expand(2, -1, -1)), "no tensor 'cond' of shape"),
        (NullCondition(COND[:, :0]), "no tensor 'cond' of shape"),
        (NullCondition(COND, POOLED * float("inf")), "'pooled_output' that is not finite real numbers"),
        (NullCondition(COND, POOLED.int()), "'pooled_output' that is not finite real numbers"),
        (NullCondition(COND, POOLED[None, None, None]), r"'pooled_output' of shape \[1, 1, 1, 1, 4\]"),
        (NullCondition(COND, POOLED.expand(3, -1)), r"'pooled_output' of shape \[3, 4\], it must be \[1, width\]"),
    ],
)
def test_a_null_condition_that_no_model_could_take_is_refused(null, sentence, tmp_path):
    null.save(tmp_path / "wrong")
    with pytest.raises(gc.GuidanceError, match=sentence):
        load_null_condition(tmp_path / "wrong")


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.complex64])
def test_a_null_condition_of_unusual_numbers_is_refused(dtype, tmp_path):
    safetensors.torch.save_file({"cond": COND.to(dtype)}, tmp_path / "wrong", {"format": FORMAT})
    with pytest.raises(gc.GuidanceError, match="'cond' that is not finite real numbers"):
        load_null_condition(tmp_path / "wrong")

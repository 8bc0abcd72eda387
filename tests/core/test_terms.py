"""Terms: laws that every kind keeps with its parameters switched on."""

from dataclasses import FrozenInstanceError, replace

import pytest
import torch
from term_examples import JUDGES, LABELS, guided, term_of, uncapped

import guidance_core as gc
from guidance_core.guiders import ClassifierGuided
from guidance_core.terms import terms

SHAPES = [(3, 4, 6, 5), (3, 4, 2, 6, 5)]
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
SIGMA = 0.7


@pytest.fixture(params=terms())
def name(request):
    return request.param


@pytest.fixture(params=JUDGES)
def judged(request):
    return request.param


@pytest.fixture
def given(randn):
    """given(shape, dtype): denoised, x and sigma [B]."""

    def make(shape=SHAPES[0], dtype=torch.float64, sigma=SIGMA):
        denoised, noise = randn(*shape, seed=1), randn(*shape, seed=2)
        x = (1 - sigma) * denoised + sigma * noise
        level = torch.full((shape[0],), sigma, dtype=torch.promote_types(dtype, torch.float32))
        return denoised.to(dtype), x.to(dtype), level

    return make


def started(term, path=gc.VE, **run):
    return term.start(gc.Run(path, **run))


def test_every_term_says_what_it_is(name):
    cls = terms()[name]
    assert cls.name == name
    assert all(getattr(cls, word).strip() for word in ("title", "doc", "source"))


def test_a_term_is_frozen(name):
    with pytest.raises(FrozenInstanceError):
        term_of(name).scale = 1.0


@pytest.mark.parametrize("shape", SHAPES, ids=len)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_shape_and_dtype_are_kept_and_inputs_untouched(name, shape, dtype, given, path):
    inputs = given(shape, dtype)
    before = [t.clone() for t in inputs]
    out = guided(term_of(name), *inputs, gc.Run(path))
    assert (out.shape, out.dtype) == (inputs[0].shape, dtype)
    assert bool(out.isfinite().all()) and not out.requires_grad
    assert not torch.equal(out, inputs[0]), "a term that does nothing keeps every law"
    assert all(torch.equal(t, b) and not t.requires_grad for t, b in zip(inputs, before, strict=True))


def test_batch_mates_do_not_matter(name, given):
    denoised, x, sigma = given()
    whole = guided(term_of(name), denoised, x, sigma)
    other = guided(term_of(name), *(torch.cat([t[:1], 5 * t[1:]]) for t in (denoised, x)), sigma)
    torch.testing.assert_close(other[:1], whole[:1], rtol=1e-12, atol=1e-12)
    alone = guided(term_of(name), denoised[:1], x[:1], sigma[:1])
    torch.testing.assert_close(alone, whole[:1], rtol=1e-12, atol=1e-12)


def test_video_of_one_frame_is_the_image(name, given):
    denoised, x, sigma = given()
    image = guided(term_of(name), denoised, x, sigma)
    video = guided(term_of(name), denoised[:, :, None], x[:, :, None], sigma)
    torch.testing.assert_close(video[:, :, 0], image)


def test_scale_zero_is_off_to_the_bit(name, given):
    denoised, x, sigma = given()
    assert torch.equal(guided(term_of(name, scale=0.0), denoised, x, sigma), denoised)


def test_a_negative_scale_pushes_the_other_way(name, given):
    denoised, x, sigma = given()
    towards, away = (guided(uncapped(name, scale), denoised, x, sigma) - denoised for scale in (1, -1))
    torch.testing.assert_close(away, -towards)
    assert bool((towards.flatten(1).norm(dim=1) > 0).all())


def test_a_schedule_multiplies_the_scale(name, given):
    ramp = gc.ScaleSchedule("linear", 2 * SIGMA, 0.0, axis="sigma")
    scheduled = guided(uncapped(name, 2.0, schedule=ramp), *given())
    torch.testing.assert_close(scheduled, guided(uncapped(name, 1.0), *given()))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_every_autograd_mode_gives_the_same(name, mode, given):
    want = guided(term_of(name), *given())
    with mode():
        assert torch.equal(guided(term_of(name), *given()), want)


def test_runs_repeat_bit_for_bit_and_do_not_leak(name, given):
    """Two runs of one term opened together, each called twice in turn, are what each is alone."""
    term, (denoised, x, sigma) = term_of(name), given()
    alone = started(term, seed=3)
    want = [alone(denoised, x, sigma), alone(-denoised, x, 0.5 * sigma)]
    one, two = started(term, seed=3), started(term, seed=4)
    got = []
    for at, level in ((denoised, sigma), (-denoised, 0.5 * sigma)):
        two(2 * at, x, level)
        got.append(one(at, x, level))
    assert all(torch.equal(g, w) for g, w in zip(got, want, strict=True))


def test_each_call_at_which_a_term_acts_is_recorded(name, given):
    events = []
    guided(term_of(name), *given(), gc.Run(record=events.append))
    assert (events[-1].sigma, events[-1].scale) == (pytest.approx(SIGMA), 2.0)


def test_a_judges_evaluation_is_recorded(judged, given):
    events = []
    started(term_of(judged), record=events.append)(*given())
    (event,) = events
    assert event.passes == 1 and event.log_prob.shape == event.grad_norm.shape == (3,)


def test_targets_that_the_judge_lacks_are_refused(judged, given):
    term = replace(term_of(judged), target=torch.tensor([0, 3, 1]))
    with pytest.raises(gc.GuidanceError, match="label"):
        started(term)(*given())


def test_memory_that_runs_out_halves_the_batch_and_changes_nothing(judged, given, monkeypatch):
    want = started(term_of(judged))(*given())
    from term_examples import Brightness

    whole, asked = Brightness.forward, []

    def short(self, x0):
        asked.append(len(x0))
        if len(x0) > 8:
            raise torch.cuda.OutOfMemoryError("Tried to allocate 1 GiB")
        return whole(self, x0)

    monkeypatch.setattr(Brightness, "forward", short)
    denoised, x, sigma = (torch.cat([t] * 3) for t in given())
    term = term_of(judged)
    got = started(term)(denoised, x, sigma)
    assert len(asked) > 1
    monkeypatch.undo()
    assert torch.equal(got, started(term)(denoised, x, sigma))
    torch.testing.assert_close(got[:3], want, rtol=1e-12, atol=1e-12)


def test_a_term_guides_a_denoiser(name, given):
    denoised, x, sigma = given()
    sampled = ClassifierGuided(lambda x, s: denoised, term_of(name))
    assert torch.equal(sampled(x, sigma), started(term_of(name))(denoised, x, sigma))


def test_every_label_can_be_steered_to(judged, given):
    denoised, x, sigma = given()
    events = []
    for label in LABELS:
        term = term_of(judged, 0.05, target=label, max_shift=0.0, entropy_aware=False)
        run = started(term, record=events.append)
        at = denoised
        for _ in range(3):
            at = run(at, x if judged != "classifier" else x + (at - denoised), sigma)
        before, *_, after = events[-3:]
        assert bool((after.log_prob > before.log_prob).all()), label

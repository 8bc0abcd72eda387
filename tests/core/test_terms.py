"""Terms: laws that every kind keeps with its parameters switched on."""

from dataclasses import FrozenInstanceError

import pytest
import torch
from term_examples import noised, term_of

import guidance_core as gc
from guidance_core.terms import terms

SHAPES = [(3, 4, 6, 5), (3, 4, 2, 6, 5)]
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
SIGMA = 0.7


@pytest.fixture(params=terms())
def name(request):
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
    """A run of a term that has begun: it was called once before, with less of everything and more noise."""
    guided = term.start(gc.Run(path, conditional=noised, **run))

    def called(denoised, x, sigma):
        guided(0.5 * denoised, 0.7 * x, 1.2 * sigma)
        return guided(denoised, x, sigma)

    return called


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
    out = started(term_of(name), path)(*inputs)
    assert (out.shape, out.dtype) == (inputs[0].shape, dtype)
    assert bool(out.isfinite().all()) and not out.requires_grad
    assert not torch.equal(out, inputs[0]), "a term that does nothing keeps every law"
    assert all(torch.equal(t, b) and not t.requires_grad for t, b in zip(inputs, before, strict=True))


def test_batch_mates_do_not_matter(name, given):
    denoised, x, sigma = given()
    whole = started(term_of(name))(denoised, x, sigma)
    other = started(term_of(name))(*(torch.cat([t[:1], 5 * t[1:]]) for t in (denoised, x)), sigma)
    torch.testing.assert_close(other[:1], whole[:1], rtol=1e-12, atol=1e-12)
    alone = started(term_of(name))(denoised[:1], x[:1], sigma[:1])
    torch.testing.assert_close(alone, whole[:1], rtol=1e-12, atol=1e-12)


def test_video_of_one_frame_is_the_image(name, given):
    denoised, x, sigma = given()
    image = started(term_of(name))(denoised, x, sigma)
    video = started(term_of(name))(denoised[:, :, None], x[:, :, None], sigma)
    torch.testing.assert_close(video[:, :, 0], image)


def test_scale_zero_is_off_to_the_bit(name, given):
    denoised, x, sigma = given()
    assert torch.equal(started(term_of(name, scale=0.0))(denoised, x, sigma), denoised)


def test_a_negative_scale_pushes_the_other_way(name, given):
    denoised, x, sigma = given()
    towards, away = (started(term_of(name, scale, max_shift=0.0))(denoised, x, sigma) - denoised for scale in (1, -1))
    torch.testing.assert_close(away, -towards)
    assert bool((towards.flatten(1).norm(dim=1) > 0).all())


def test_a_schedule_multiplies_the_scale(name, given):
    half = gc.ScaleSchedule("constant", 100.0, 0.0, high=0.5, axis="sigma")
    scheduled = started(term_of(name, 4.0, schedule=half, max_shift=0.0))(*given())
    torch.testing.assert_close(scheduled, started(term_of(name, 2.0, max_shift=0.0))(*given()))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_every_autograd_mode_gives_the_same(name, mode, given):
    want = started(term_of(name))(*given())
    with mode():
        assert torch.equal(started(term_of(name))(*given()), want)


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


def test_each_addition_is_recorded(name, given):
    events = []
    started(term_of(name), record=events.append)(*given())
    assert (events[-1].sigma, events[-1].scale) == (pytest.approx(SIGMA), 2.0)


def test_where_it_adds_nothing_it_gives_what_it_was_given(name, given):
    """Object for object, by which what comes after knows that nothing was added; and nothing is recorded."""
    denoised, x, sigma = given()
    events = []
    outside = gc.ScaleSchedule("interval", 90.0, 80.0, axis="sigma")
    guided = term_of(name, schedule=outside).start(gc.Run(conditional=noised, record=events.append))
    assert guided(denoised, x, sigma) is denoised and not events


@pytest.mark.parametrize("method", [[], [gc.cfg.Rescale(rescale=1.0)]], ids=["plain", "rescaled"])
def test_a_term_guides_beside_cfg(name, method, given):
    """Before the methods that adjust the result, or to what comes of all of them, as it says."""
    denoised, x, sigma = given()
    term = term_of(name)

    def unguided(x, sigma):
        return 0.3 * noised(x, sigma)

    together = gc.cfg_guided(noised, unguided, 3.0, method=["standard", *method], terms=[term])
    formed = unguided(x, sigma) + 3.0 * (noised(x, sigma) - unguided(x, sigma))
    alone = gc.cfg_guided(noised, unguided, 3.0, method=["standard", *method])(x, sigma)
    add = term.start(gc.Run(conditional=noised))
    if not term.before_result:
        want = add(alone, x, sigma)
    elif not method:
        want = add(formed, x, sigma)
    else:
        space = gc.Run().parameterization
        eps, of_cond = (space.output(each, x, sigma, gc.VE) for each in (add(formed, x, sigma), noised(x, sigma)))
        gain = of_cond.flatten(1).std(1) / eps.flatten(1).std(1)
        want = space.denoised(eps * gain.reshape(-1, *[1] * (x.ndim - 1)), x, sigma, gc.VE)
    torch.testing.assert_close(together(x, sigma), want)

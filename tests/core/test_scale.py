"""Scale schedules: shapes, windows on the four axes, keyframes, value lists, the mean over a run, and refusals."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import PchipInterpolator

import guidance_core as gc
from guidance_core.run import AXES, percent_of_training
from guidance_core.scale import effective_scale
from guidance_core.shapes import Exponential, Keyframes, Power, Triangle, Values, monotone_slopes

SIGMAS = (14.6, 9.0, 6.0, 3.5, 2.0, 1.2, 0.7, 0.3, 0.1, 0.03, 0.0)
TRAINING = gc.sigmas_from_betas(gc.betas("scaled_linear"))
TRAINED = (float(TRAINING[-1]), 3.0, float(TRAINING[0]), 0.0)  # from the first training level to the last
RUN = gc.Run(sigmas=SIGMAS, percent=percent_of_training(TRAINING))
WINDOWS = {"step": (0.2, 0.8), "percent": (0.2, 0.8), "sigma": (5.42, 0.28), "log_snr": (-3.0, 2.0)}
CURVES = {
    "constant": lambda u: 1.0,
    "interval": lambda u: 1.0,
    "linear": lambda u: u,
    "cosine": lambda u: 0.5 - 0.5 * math.cos(math.pi * u),
    "half_cosine": lambda u: 1 - math.cos(math.pi * u / 2),
    "sine": lambda u: math.sin(math.pi * u / 2),
    "power": lambda u: u**2,
    "exponential": lambda u: (math.exp(3 * u) - 1) / (math.exp(3) - 1),
    "triangle": lambda u: 1 - abs(2 * u - 1),
    "keyframes": lambda u: float(PchipInterpolator([0, 0.5, 1], [0, 1, 0.5])(u)),
    "values": lambda u: float(np.interp(u, [0, 0.25, 0.5, 0.75, 1], [1, 1, 0.5, 0.5, 0])),
}
US = [0.0, 0.1, 0.25, 0.5, 0.6, 0.9, 1.0]


def test_every_shape_has_a_formula_here():
    assert set(CURVES) == set(gc.SHAPES)


@pytest.mark.parametrize("name", CURVES)
def test_shape_is_its_formula(name):
    schedule = gc.ScaleSchedule(shape=name)
    assert [schedule(u) for u in US] == pytest.approx([CURVES[name](u) for u in US], abs=1e-12)


@pytest.mark.parametrize(
    ("shape", "curve"),
    [
        (Power(exponent=0.5), lambda u: math.sqrt(u)),
        (Exponential(rate=0.05), lambda u: math.expm1(0.05 * u) / math.expm1(0.05)),
        (Triangle(peak=0.25), lambda u: u / 0.25 if u < 0.25 else (1 - u) / 0.75),
        (Triangle(peak=0.0), lambda u: 1 - u),
        (Triangle(peak=1.0), lambda u: u),
    ],
)
def test_shape_parameters(shape, curve):
    assert [gc.ScaleSchedule(shape)(u) for u in US] == pytest.approx([curve(u) for u in US], abs=1e-12)


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("name", CURVES)
def test_shape_runs_over_the_window_and_is_off_outside(axis, name):
    start, end = WINDOWS[axis]
    schedule = gc.ScaleSchedule(name, start, end, axis=axis)
    for u in US[1:-1]:
        assert schedule(start + u * (end - start)) == pytest.approx(CURVES[name](u), abs=1e-9)
    for u in (-0.01, 1.01):
        assert schedule(start + u * (end - start)) == 0


def test_low_and_high_bound_the_curve():
    schedule = gc.ScaleSchedule("linear", low=-0.5, high=2.0)
    assert [schedule(u) for u in (0, 0.5, 1)] == pytest.approx([-0.5, 0.75, 2.0])
    assert gc.ScaleSchedule("interval", 0.2, 0.8, high=0.3)(0.5) == 0.3


@pytest.mark.parametrize("name", CURVES)
def test_reverse_runs_backwards(name):
    forward, backward = gc.ScaleSchedule(name), gc.ScaleSchedule(name, reverse=True)
    assert [backward(u) for u in US] == pytest.approx([forward(1 - u) for u in US], abs=1e-12)


def test_a_tensor_gives_a_tensor_of_its_shape():
    schedule = gc.ScaleSchedule("cosine")
    u = torch.tensor([US[:3], US[3:6]], dtype=torch.float64)
    assert schedule(u).shape == (2, 3)
    assert schedule(u).flatten().tolist() == [schedule(v) for v in US[:6]]


@pytest.mark.parametrize("lo", [0.28, 0.1, 1.61, 14.614641])
@pytest.mark.parametrize("hi", [5.42, 0.7, 1.6, 80.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_sigma_window_holds_its_noisy_edge_and_not_its_clean_one(lo, hi, dtype):
    """sigma_lo < sigma <= sigma_hi, also for levels that come in single precision (arXiv:2404.07724)."""
    if lo > hi:
        lo, hi = hi, lo
    schedule = gc.ScaleSchedule("interval", hi, lo, axis="sigma")

    def strength(sigma):
        return schedule(float(torch.tensor(sigma, dtype=dtype)))

    assert [strength(hi), strength(lo)] == [1, 0]
    assert [strength(hi * 1.0001), strength(hi * 0.9999)] == [0, 1]
    assert [strength(lo * 1.0001), strength(lo * 0.9999)] == [1, 0]


def test_log_snr_window_is_the_same_window_in_sigma():
    high, low = 5.42, 0.28
    start, end = (float(gc.VE.log_snr(torch.tensor(s, dtype=torch.float64))) for s in (high, low))
    by_sigma = gc.ScaleSchedule("interval", high, low, axis="sigma").over(RUN)
    by_snr = gc.ScaleSchedule("interval", start, end, axis="log_snr").over(RUN)
    levels = [*SIGMAS[:-1], high, low, high * 1.001, low * 1.001]
    assert [by_snr(s) for s in levels] == [by_sigma(s) for s in levels]


@pytest.mark.parametrize("axis", ["step", "percent"])
def test_step_and_percent_windows_hold_both_edges(axis):
    schedule = gc.ScaleSchedule("interval", 0.2, 0.8, axis=axis)
    single = [float(torch.tensor(p, dtype=torch.float32)) for p in (0.2, 0.8)]
    assert [schedule(p) for p in (0.2, 0.8, *single)] == [1, 1, 1, 1]
    assert [schedule(p) for p in (0.1999, 0.8001)] == [0, 0]


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_open_window_is_the_whole_run(axis, dtype):
    strength = gc.ScaleSchedule("linear", axis=axis, low=0.25).over(RUN)
    values = [strength(float(torch.tensor(s, dtype=dtype))) for s in SIGMAS[:-1]]
    assert min(values) >= 0.25
    assert all(a < b for a, b in zip(values, values[1:], strict=False))
    if axis != "percent":  # its ends are the training levels, not the run's
        assert (values[0], values[-1]) == pytest.approx((0.25, 1.0), abs=1e-6)


def test_step_axis_counts_steps_in_single_precision_too():
    strength = gc.ScaleSchedule("linear").over(RUN)
    for dtype in (torch.float32, torch.float64):
        got = [strength(float(torch.tensor(s, dtype=dtype))) for s in SIGMAS[:-1]]
        assert got == pytest.approx([i / 9 for i in range(10)], abs=1e-6)
    assert strength((SIGMAS[3] + SIGMAS[4]) / 2) == pytest.approx(3.5 / 9)
    assert [strength(100.0), strength(0.001), strength(0.0)] == [0, 1, 1]


@pytest.mark.parametrize("axis", AXES)
def test_beyond_the_levels_of_a_run_an_open_window_keeps_its_ends(axis):
    """A sampler may call below the last level, as some do at their last step."""
    run = gc.Run(sigmas=TRAINED, percent=RUN.percent)
    strength = gc.ScaleSchedule("linear", low=0.2, high=0.7, axis=axis).over(run)
    assert [strength(sigma) for sigma in (1e6, TRAINED[0])] == pytest.approx([0.2, 0.2])
    assert [strength(sigma) for sigma in (TRAINED[-2], 1e-3, 1e-6)] == pytest.approx([0.7, 0.7, 0.7])


def test_a_run_of_one_step_is_at_its_start():
    assert gc.ScaleSchedule("linear", low=0.3).over(gc.Run(sigmas=(5.0, 0.0)))(5.0) == 0.3


def comfyui_percent_to_sigma(percent):
    """ModelSamplingDiscrete.percent_to_sigma and .sigma, written again in numpy."""
    t = (1 - percent) * 999
    low, high = int(math.floor(t)), int(math.ceil(t))
    w = t - low
    return math.exp((1 - w) * math.log(TRAINING[low]) + w * math.log(TRAINING[high]))


@pytest.mark.parametrize("percent", [0.0, 0.001, 0.2, 0.35, 0.5, 0.7777, 0.999, 1.0])
def test_percent_is_comfyuis_percent(percent):
    assert RUN.percent(comfyui_percent_to_sigma(percent)) == pytest.approx(percent, abs=1e-9)


def test_percent_stays_in_range_beyond_the_training_levels():
    assert [RUN.percent(s) for s in (1e9, 0.001, 0.0)] == [0, 1, 1]


def test_percent_window_switches_at_comfyuis_sigmas():
    strength = gc.ScaleSchedule("interval", 0.2, 0.8, axis="percent").over(RUN)
    start, end = comfyui_percent_to_sigma(0.2), comfyui_percent_to_sigma(0.8)
    levels = (start * 1.001, np.float32(start).item(), end * 1.001, np.float32(end).item(), end * 0.999)
    assert [strength(s) for s in levels] == [0, 1, 1, 1, 0]


def test_percent_of_a_flow_model_is_one_minus_time():
    strength = gc.ScaleSchedule("linear", axis="percent").over(gc.Run(gc.FLOW))
    assert [strength(s) for s in (1.0, 0.75, 0.1)] == pytest.approx([0, 0.25, 0.9])


def test_log_snr_at_pure_noise_is_before_every_window():
    """On flow the run begins at sigma 1, where the log-SNR is -infinity."""
    run = gc.Run(gc.FLOW, sigmas=tuple(gc.flow_shift(10).tolist()))
    for shape in ("interval", "linear"):
        for end in (2.0, None):
            strength = gc.ScaleSchedule(shape, -3.0, end, axis="log_snr", low=0.5).over(run)
            assert strength(1.0) == 0
            assert strength(0.5) > 0


def test_open_log_snr_window_works_on_a_flow_run():
    run = gc.Run(gc.FLOW, sigmas=tuple(gc.flow_shift(10).tolist()))
    strength = gc.ScaleSchedule("linear", axis="log_snr").over(run)
    values = [strength(s) for s in run.levels]
    assert values[0] == 0
    assert values[-1] == pytest.approx(1)
    assert all(a <= b for a, b in zip(values, values[1:], strict=False))


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("name", [*CURVES])
@pytest.mark.parametrize("window", [False, True])
def test_preserve_mean_has_mean_one_over_the_run(axis, name, window):
    start, end = WINDOWS[axis] if window else (None, None)
    strength = gc.ScaleSchedule(name, start, end, axis=axis, preserve_mean=True).over(RUN)
    plain = gc.ScaleSchedule(name, start, end, axis=axis).over(RUN)
    values = [strength(s) for s in RUN.levels]
    assert sum(values) / len(values) == pytest.approx(1.0)
    ratios = {round(v / plain(s), 9) for s, v in zip(RUN.levels, values, strict=True) if plain(s)}
    assert len(ratios) == 1  # the same curve, scaled


@given(
    points=st.dictionaries(st.integers(0, 100), st.floats(-5, 5).map(lambda y: round(y, 3)), min_size=1, max_size=8),
    kind=st.sampled_from(["monotone_cubic", "linear"]),
)
@settings(max_examples=150, deadline=None)
def test_keyframes_equal_scipy_and_never_overshoot(points, kind):
    xs = sorted(points)
    ys = [points[x] for x in xs]
    text = ", ".join(f"{x / 100}: {points[x]}" for x in points)  # in any order
    schedule = gc.ScaleSchedule(Keyframes(points=text, interpolation=kind))
    u = np.linspace(0, 1, 41)
    got = np.array([schedule(float(v)) for v in u])
    clipped = np.clip(u * 100, xs[0], xs[-1])
    if len(xs) == 1:
        want = np.full(41, ys[0])
    else:
        want = PchipInterpolator(xs, ys)(clipped) if kind == "monotone_cubic" else np.interp(clipped, xs, ys)
    np.testing.assert_allclose(got, want, atol=1e-9)
    for left, right in zip(xs, xs[1:], strict=False):
        between = got[(u * 100 >= left) & (u * 100 <= right)]
        low, high = sorted((points[left], points[right]))
        assert bool(((between >= low - 1e-9) & (between <= high + 1e-9)).all())


@pytest.mark.parametrize("count", [1, 2, 3, 10, 37])
def test_value_list_of_any_length_spreads_over_the_run(count):
    values = [round(math.sin(3 * i), 3) for i in range(count)]
    strength = gc.ScaleSchedule(Values(values=", ".join(map(str, values)))).over(RUN)
    places = np.linspace(0, count - 1, 10)
    want = np.interp(places, range(count), values)
    assert [strength(s) for s in RUN.levels] == pytest.approx(want.tolist(), abs=1e-9)


@pytest.mark.parametrize("sampler", ["euler", "heun"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_value_list_as_long_as_the_run_gives_each_step_its_value(sampler, dtype, counted, randn):
    """Also with samplers that evaluate twice a step: heun's second call is at the next step's level."""
    values = [1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0]
    schedule = gc.ScaleSchedule(Values(values=" ".join(f"{v}," for v in values)))
    uncond = counted(lambda x, sigma: x * 0)
    guided = gc.cfg_guided(lambda x, sigma: x * 0 + 1, uncond, 3.0, schedule)
    gc.sample(guided, randn(1, 1, 2, 2, dtype=dtype), torch.tensor(SIGMAS), sampler)
    on = [s for s, v in zip(SIGMAS, values, strict=False) if v]
    if sampler == "heun":
        on = sorted([*on, *on[1:]], reverse=True)  # but for the first level each is met twice
    assert uncond.calls == pytest.approx(on)


def test_between_two_steps_a_value_list_goes_in_a_straight_line():
    strength = gc.ScaleSchedule(Values(values="0, 1, 0, 1, 0, 1, 0, 1, 0, 1")).over(RUN)
    assert strength(0.25 * SIGMAS[0] + 0.75 * SIGMAS[1]) == pytest.approx(0.75)


@pytest.mark.parametrize("scale", [0.0, 0.3, 1.0, 4.5, -2.0])
def test_effective_scale_is_one_when_off_and_as_set_when_full(scale):
    assert effective_scale(scale, 0.0) == 1
    assert effective_scale(scale, 1.0) == pytest.approx(scale)
    assert effective_scale(scale, 0.25) == pytest.approx(1 + (scale - 1) * 0.25)


def test_effective_scale_is_exactly_one_or_zero_when_close():
    assert [effective_scale(1 + 5e-7, 1.0), effective_scale(5e-7, 1.0)] == [1, 0]
    assert effective_scale(1 + 5e-6, 1.0) != 1


def test_numbers_from_numpy_are_numbers():
    assert gc.ScaleSchedule("linear", np.float32(0.25), np.float64(0.75), high=np.float32(0.5))(0.75) == 0.5


REFUSED = [
    ({"shape": "wave"}, "no schedule shape 'wave'; choose one of constant, linear"),
    ({"axis": "time"}, "axis must be one of step, percent, sigma, log_snr, got 'time'"),
    ({"start": 0.8, "end": 0.2}, "start must come before end: step rises over a run, got start 0.8, end 0.2"),
    ({"start": 0.2, "end": 5.0, "axis": "sigma"}, "sigma falls over a run, got start 0.2, end 5"),
    ({"start": -0.1}, r"start must be in \[0, 1\] on the step axis, got -0.1"),
    ({"end": 1.5, "axis": "percent"}, r"end must be in \[0, 1\] on the percent axis, got 1.5"),
    ({"start": math.nan, "axis": "log_snr"}, r"start must be in \[-inf, inf\] on the log_snr axis, got nan"),
    ({"end": -1.0, "axis": "sigma"}, r"end must be in \[0, inf\] on the sigma axis, got -1"),
    ({"start": "0.2"}, r"start must be in \[0, 1\] on the step axis, got '0.2'"),
    ({"high": 11.0}, r"high must be in \[-10, 10\], got 11"),
    ({"low": math.nan}, r"low must be in \[-10, 10\], got nan"),
    ({"reverse": 1}, "reverse must be true or false, got 1"),
]


@pytest.mark.parametrize(("arguments", "sentence"), REFUSED)
def test_refused_schedules(arguments, sentence):
    with pytest.raises(gc.GuidanceError, match=sentence):
        gc.ScaleSchedule(**arguments)


@pytest.mark.parametrize(
    ("shape", "text", "sentence"),
    [
        (Keyframes, "0.5", "'0.5' has no colon; write position: strength"),
        (Keyframes, "", "needs at least one position: strength pair"),
        (Keyframes, "0: 1, 1.5: 2", r"positions must be in \[0, 1\], got 1.5"),
        (Keyframes, "-0.1: 1", r"positions must be in \[0, 1\], got -0.1"),
        (Keyframes, "0: 1, 0.0: 2", "position 0 is given twice"),
        (Keyframes, "0: one", "'one' is not a number between -100 and 100"),
        (Keyframes, "nan: 1", "'nan' is not a number"),
        (Values, " , ", "at least one strength"),
        (Values, "1, two", "'two' is not a number"),
        (Values, "1, inf", "'inf' is not a number"),
    ],
)
def test_refused_points(shape, text, sentence):
    with pytest.raises(gc.GuidanceError, match=sentence):
        shape(text)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda: Keyframes(interpolation="spline"),
            "interpolation must be one of monotone_cubic, linear, got 'spline'",
        ),
        (lambda: Keyframes(points=7), "points must be text, got 7"),
        (lambda: Values(values=7), "values must be text, got 7"),
        (lambda: Values("0, 100.5"), "'100.5' is not a number between -100 and 100"),
        (lambda: Values("-100.5"), "'-100.5' is not a number between -100 and 100"),
        (lambda: Keyframes("0: 0, 1: 101"), "'101' is not a number between -100 and 100"),
        (lambda: Power(exponent=0.04), r"exponent must be in \[0.05, 10\]"),
        (lambda: Power(exponent=10.5), r"exponent must be in \[0.05, 10\]"),
        (lambda: Exponential(rate=20.5), r"rate must be in \[0.05, 20\]"),
        (lambda: Exponential(rate=0.04), r"rate must be in \[0.05, 20\]"),
        (lambda: Triangle(peak=1.01), r"peak must be in \[0, 1\]"),
        (lambda: Triangle(peak=-0.01), r"peak must be in \[0, 1\]"),
        (lambda: gc.ScaleSchedule(low=-10.5), r"low must be in \[-10, 10\]"),
        (lambda: gc.ScaleSchedule(low=10.5), r"low must be in \[-10, 10\]"),
        (lambda: gc.ScaleSchedule(high=-10.5), r"high must be in \[-10, 10\]"),
        (lambda: gc.ScaleSchedule(high=10.5), r"high must be in \[-10, 10\]"),
    ],
)
def test_values_of_shapes_out_of_range_are_refused(make, sentence):
    with pytest.raises(gc.GuidanceError, match=sentence):
        make()


def test_the_ends_of_every_range_are_taken():
    assert [gc.ScaleSchedule(Values(text))(0.0) for text in ("100", "-100")] == [100, -100]
    assert gc.ScaleSchedule(Keyframes("0: -100, 1: 100"))(1.0) == 100
    for made in (Power(exponent=0.05), Power(exponent=10.0), Exponential(rate=0.05), Exponential(rate=20.0)):
        assert gc.ScaleSchedule(made)(1.0) == pytest.approx(1)
    assert gc.ScaleSchedule("linear", low=-10.0, high=10.0)(0.5) == 0
    assert (Power().exponent, Exponential().rate, Triangle().peak) == (2, 3, 0.5)  # what a name alone stands for


@pytest.mark.parametrize(
    ("axis", "start", "end", "inside"),
    [
        ("step", 0.0, 1.0, (0.0, 1.0)),
        ("percent", 0.0, 1.0, (0.0, 1.0)),
        ("sigma", math.inf, 0.0, (1e9, 1e-5)),
        ("log_snr", -math.inf, math.inf, (-1e9, 1e9)),
    ],
)
def test_a_window_may_be_as_wide_as_its_axis(axis, start, end, inside):
    schedule = gc.ScaleSchedule("interval", start, end, axis=axis)
    assert [schedule(place) for place in inside] == [1, 1]


@pytest.mark.parametrize("axis", ["step", "percent"])
def test_a_window_of_one_place_holds_the_shapes_first_value_there(axis):
    schedule = gc.ScaleSchedule("linear", 0.5, 0.5, low=0.3, axis=axis)
    assert [schedule(place) for place in (0.4, 0.5, 0.6)] == [0, 0.3, 0]


@pytest.mark.parametrize("window", [{}, {"start": 5.0}, {"end": 0.5}])
def test_what_depends_on_the_run_is_refused_without_one(window):
    with pytest.raises(gc.GuidanceError, match="linear schedule on the sigma axis needs start and end, or a run"):
        gc.ScaleSchedule("linear", axis="sigma", **window)(2.0)
    with pytest.raises(gc.GuidanceError, match="needs to know the run"):
        gc.ScaleSchedule("linear", preserve_mean=True)(0.5)


@pytest.mark.parametrize(("axis", "start", "end"), [("step", 0.2, 0.8), ("sigma", 4519.3, 0.8), ("log_snr", -9.0, 2.0)])
def test_places_closer_than_a_millionth_are_one(axis, start, end):
    """Of their size, where that is above 1: the level of a run in single precision is the edge it was rounded from."""
    schedule, way = gc.ScaleSchedule("interval", start, end, axis=axis), -1 if axis == "sigma" else 1
    unit = 1e-6 * way * max(1, abs(start))
    assert [schedule(start - share * unit) for share in (0.5, 0.9, 1.1, 1.5)] == [1, 1, 0, 0]
    unit = 1e-6 * way * max(1, abs(end))
    inside = [1, 1, 0, 0] if axis == "step" else [0, 0, 0, 0]
    assert [schedule(end + share * unit) for share in (0.5, 0.9, 1.1, 1.5)] == inside
    assert [schedule(end - share * unit) for share in (0.9, 1.1)] == ([1, 1] if axis == "step" else [0, 1])


@pytest.mark.parametrize("name", ["constant", "interval"])
def test_flat_shapes_are_one(name):
    assert [gc.SHAPES[name]().value(u) for u in US] == [1] * len(US)


@pytest.mark.parametrize("ys", [(0.0, 0.1, 0.3), (0.3, 0.2, 0.15), (0.0, 0.1, 0.05), (0.1, 0.1, 0.4), (0.2, 0.7)])
def test_gentle_keyframes_equal_scipy(ys):
    """Slopes below 1, at which a product of two is less than either."""
    xs = [i / (len(ys) - 1) for i in range(len(ys))]
    want = PchipInterpolator(xs, ys)
    assert monotone_slopes(xs, list(ys)) == pytest.approx([float(want.derivative()(x)) for x in xs])
    shape = Keyframes(", ".join(f"{x}: {y}" for x, y in zip(xs, ys, strict=True)))
    assert [shape.value(u) for u in US] == pytest.approx([float(want(u)) for u in US])
    assert monotone_slopes([0.4], [2.0]) == [0.0]


@given(text=st.text(max_size=40) | st.text("0123456789.,:-e \n", max_size=40))
@settings(max_examples=300, deadline=None)
@pytest.mark.parametrize("shape", [Keyframes, Values])
def test_any_text_is_a_curve_or_a_sentence(shape, text):
    try:
        schedule = gc.ScaleSchedule(shape(text))
    except gc.GuidanceError:
        return
    assert all(math.isfinite(schedule(u)) for u in US)


@pytest.mark.parametrize(
    ("schedule", "run", "sentence"),
    [
        (gc.ScaleSchedule("linear"), gc.Run(), "needs to know the run"),
        (gc.ScaleSchedule("linear", axis="percent"), gc.Run(), "needs the model's training levels"),
        (gc.ScaleSchedule("linear", axis="sigma"), gc.Run(), "needs start and end, or a run with known sigmas"),
        (gc.ScaleSchedule("linear", 5.0, 1.0, axis="sigma", preserve_mean=True), gc.Run(), "preserve_mean off"),
        (gc.ScaleSchedule("linear", low=-1.0, preserve_mean=True), RUN, "mean over the run is not 0; switch it off"),
    ],
)
def test_what_depends_on_the_run_says_so(schedule, run, sentence):
    with pytest.raises(gc.GuidanceError, match=sentence):
        schedule.over(run)(2.0)


def test_a_batch_at_two_noise_levels_has_no_place_in_the_run(randn):
    guided = gc.cfg_guided(lambda x, s: x, lambda x, s: x, 3.0, gc.ScaleSchedule("interval", 5.0, 1.0, axis="sigma"))
    with pytest.raises(gc.GuidanceError, match="one noise level for the whole batch, got 2"):
        guided(randn(2, 1, 2, 2), torch.tensor([1.0, 2.0]))

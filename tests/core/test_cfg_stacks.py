"""Methods as objects: made by class, stacked in one call, refused in sentences; their order in one place."""

import ast
import itertools
from pathlib import Path

import pytest
import torch
from method_examples import switched_on

import guidance_core as gc
from guidance_core.cfg import Decision, Phase, Pipeline, order

METHODS = gc.cfg_methods()
SHAPE = (3, 4, 6, 5)


@pytest.fixture
def predictions(randn):
    return [randn(*SHAPE, seed=seed) for seed in range(3)]


@pytest.mark.parametrize("name", METHODS)
def test_a_method_by_name_with_its_parameters_is_the_object(name, predictions):
    cls = METHODS[name]
    chosen = switched_on(cls, SHAPE)
    assert getattr(gc.cfg, cls.__name__) is cls and cls.__name__ in dir(gc.cfg)
    by_name, given = (gc.combine(*predictions, 1.5, 6.0, *method) for method in ((name,), (cls(),)))
    assert torch.equal(by_name, given)
    want = gc.combine(*predictions, 1.5, 6.0, name, **chosen)
    for method in (cls(**chosen), [cls(**chosen)], ("standard", cls(**chosen), gc.cfg.Standard())):
        assert torch.equal(gc.combine(*predictions, 1.5, 6.0, method), want)


def test_methods_stack_in_the_order_of_their_phases_however_they_are_given(predictions):
    cond, uncond, x = predictions
    stack = [gc.cfg.Tcfg(), gc.cfg.Apg(eta=0.2), gc.cfg.Rescale(rescale=0.5), "dynamic_threshold"]
    methods = tuple(METHODS[m]() if isinstance(m, str) else m for m in stack)
    want = Pipeline(6.0, methods=methods).start(gc.Run()).combine(cond, uncond, x, torch.full((3,), 1.5).double(), 6.0)
    for given in itertools.permutations(stack):
        assert torch.equal(gc.combine(cond, uncond, x, 1.5, 6.0, given), want)
        guided = gc.cfg_guided(lambda x, s: cond, lambda x, s: uncond, 6.0, method=list(given))
        assert torch.equal(guided(x, 1.5), want)
    for i in range(len(stack)):
        fewer = gc.combine(cond, uncond, x, 1.5, 6.0, stack[:i] + stack[i + 1 :])
        assert not torch.allclose(fewer, want), "one of them does nothing"
    assert torch.equal(gc.combine(cond, uncond, x, 1.5, 6.0, []), gc.combine(cond, uncond, x, 1.5, 6.0))


@pytest.mark.parametrize(
    ("method", "more", "sentence"),
    [
        (["rescale", gc.cfg.Rescale(rescale=0.1)], {}, "the method 'rescale' is already in this model's pipeline"),
        ([gc.cfg.Apg(), "momentum"], {}, "'momentum' and 'apg' both decide the momentum of the difference, so"),
        (gc.cfg.Apg, {}, r"method must be the name .* several of them, got the class Apg: write Apg\(\)\.$"),
        (3, {}, "method must be the name of a CFG method, a Method, or several of them, got 3"),
        (["tcfg", None], {}, "several of them, got None"),
        (gc.cfg.Apg(), {"eta": 0.2}, r"^eta: parameters by name go with one method by name; .* cfg\.Apg\(eta=0\.2\)"),
        (["apg"], {"eta": 0.2}, "^eta: parameters by name go with one method by name"),
        ("rescal", {}, r"no CFG method 'rescal'; choose one of standard, .*\. Did you mean 'rescale'\?$"),
        (["rescale", "adg"], {}, r"Did you mean 'apg'\?|Did you mean 'fdg'\?"),
        ("magic", {}, "no CFG method 'magic'; choose one of standard, [^.]*tcfg\\.$"),
        ("x" * 100_000, {}, "no CFG method 'xxx"),
    ],
)
def test_refusals_are_sentences(method, more, sentence, predictions):
    with pytest.raises(gc.GuidanceError, match=sentence):
        gc.combine(*predictions, 1.5, 6.0, method, **more)
    with pytest.raises(gc.GuidanceError, match=sentence):
        gc.cfg_guided(lambda x, s: x, lambda x, s: x, 6.0, method=method, **more)


@pytest.mark.parametrize(
    ("call", "meant"),
    [
        (lambda: gc.ScaleSchedule("cosin"), "cosine"),
        (lambda: gc.ScaleSchedule("half cosin"), "half_cosine"),
        (lambda: gc.betas("scaled_liner"), "scaled_linear"),
        (lambda: gc.sample(lambda x, s: x, torch.zeros(1, 1), torch.tensor([1.0, 0.0]), "dpm_2m"), "dpmpp_2m"),
    ],
)
def test_a_misspelt_name_brings_the_one_that_may_have_been_meant(call, meant):
    with pytest.raises(gc.GuidanceError, match=rf"choose one of .*\. Did you mean '{meant}'\?$"):
        call()


def test_what_only_one_decides_is_named_in_one_place():
    assert {decision for cls in METHODS.values() for decision in cls.decides} == set(Decision)
    assert all(isinstance(decision, Decision) for cls in METHODS.values() for decision in cls.decides)
    assert f"{Decision.SIZE}" == "the size of the result"


def test_the_order_of_the_stages_is_written_in_one_place():
    """Every rank of a method is a name of order.py, and every name there is some method's."""
    names = {name for name in vars(order) if name.isupper()}
    given = {}
    for path in Path(order.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "rank":
                given[path.stem] = ast.unparse(node.value)
    assert given.keys() == METHODS.keys() - {"standard"}
    assert {*given.values(), "order.MIDDLE"} == {f"order.{name}" for name in names}


def test_the_methods_act_in_this_order():
    acting = [cls(**switched_on(cls, SHAPE)) for cls in METHODS.values()]
    run = gc.Run(sigmas=(100.0, 3.0, 0.0))
    ranked = sorted(acting, key=lambda method: (method.rank, method.name))
    phases = {phase: [method.name for method in ranked if phase in method.start(run)] for phase in Phase}
    assert phases == {
        Phase.PREDICTIONS: ["autoguidance", "adaptive", "noisy_condition", "perp_neg", "cfg_zero_star", "tcfg"],
        Phase.DIFFERENCE: ["momentum", "apg", "fdg", "regional"],
        Phase.SCALE: ["cfg_pp", "feedback", "mambo_g"],
        Phase.RESULT: ["rescale", "norm_cap", "cfg_norm", "dynamic_threshold", "cfg_zero_star"],
    }

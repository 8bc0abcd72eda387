"""The schedules on the page of recipes give the scales that they promise, and its methods are there."""

import re

import pytest

import guidance_core as gc
from devtools.host import ROOT
from guidance_core.params import params_of
from guidance_core.run import Run
from guidance_core.scale import effective_scale
from guidance_core.shapes import Keyframes

PAGE = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
POINTS = {float(scale): points for scale, points in re.findall(r"\| (\d+) \| `(0: [^`]+)` \|", PAGE)}
SCALES = {7: (7, 7, 3, 3), 5: (0, 5, 5, 5), 6: (1, 6, 6, 6), 9: (9, 7, 5, 3), 8: (2, 4, 6, 8)}


@pytest.mark.parametrize("scale", SCALES)
def test_a_schedule_gives_what_it_promises(scale):
    """At four steps of thirty-one, at the first, after a third, after two thirds, and at the last."""
    sigmas = tuple(float(31 - i) for i in range(32))
    strength = gc.ScaleSchedule(Keyframes(points=POINTS[scale], interpolation="linear")).over(Run(sigmas=sigmas))
    found = [effective_scale(scale, strength(sigmas[i])) for i in (0, 10, 20, 30)]
    assert found == pytest.approx(SCALES[scale], abs=0.07)
    assert len(POINTS) == len(SCALES)


def test_methods_and_their_parameters_are_there():
    methods = gc.cfg_methods()
    named = set(re.findall(r"methods? `(\w+)`|`(\w+)`(?: 0\.\d)?[,|)]", PAGE))
    names = {first or second for first, second in named}
    assert len(names) > 8 and names <= set(methods)
    assert {"mimic_scale", "percentile"} <= params_of(methods["dynamic_threshold"]).keys()
    assert {"eta", "norm_threshold", "momentum"} <= params_of(methods["apg"]).keys()

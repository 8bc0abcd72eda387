"""docs/clean-classifiers.md: its Python runs as written, and its table shows what it promises."""

import re
from importlib.util import find_spec

import torch

from devtools.launch import prepare
from devtools.make_clean import PAGE, table
from devtools.measure_clean import SETTINGS, SHOWN, Row
from devtools.measure_push import settings
from guidance_core import demo

TEXT = PAGE.read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


def test_its_python_runs_as_written():
    if find_spec("torchvision"):
        prepare()  # transformers imports it where it is
    names = {}
    for code in BLOCKS:
        exec(compile(code, "clean-classifiers.md", "exec"), names)
    judge = demo.load().judge
    assert judge.accuracy(names["images"], torch.full((10,), 7)) >= 0.8
    moved = names["steered"](names["noise"], 1.0)
    assert moved.isfinite().all() and not torch.equal(moved, names["d"].uncond(names["noise"], 1.0))


def test_its_table_has_every_setting_and_keeps_what_it_promises():
    results = TEXT.partition("<!-- results -->")[2].partition("<!-- /results -->")[0]
    rows = dict(re.findall(r"^\| (.+?) \| (.+?) \|$", results, re.MULTILINE))
    assert list(rows)[1:] == [setting.name for setting in SETTINGS]
    judge, second, distance = (float(number.strip("% ")) for number in rows[SHOWN].split("|")[:3])
    assert min(judge, second) >= 93.0 and distance <= 3.5


def test_its_table_of_pushes_has_every_setting():
    table = TEXT.partition("<!-- push -->")[2].partition("<!-- /push -->")[0]
    rows = [line.strip("| ").split(" | ") for line in table.strip().splitlines()[2:]]
    assert [(name, float(scale)) for name, scale, *_ in rows] == [(name, scale) for name, *_, scale in settings()]
    assert all(0 <= float(push) < 100 for row in rows for push in row[2:])


def test_a_table_is_made_of_rows():
    text = table([Row("a recipe", 0.954, 0.91, 2.349, 0.9, 0.99)])
    assert text.splitlines()[-1] == "| a recipe | 95.4% | 91.0% | 2.35 | 0.90 | 99% |"

"""The benchmarks' harness: turns, ratios with their spread, verdicts, and the page of results written whole."""

import gc
import io
import tarfile
from types import SimpleNamespace

import pytest

from benchmarks import GROUPS, before, results
from benchmarks.measure import Row, Spread, Target, interleaved, ratio

GROUP = SimpleNamespace(TITLE="A title", INTRO="What is compared.")


@pytest.fixture(autouse=True)
def small_heap():
    """Each round collects garbage first: not all that other tests have left, a second each time, 80 times over."""
    gc.freeze()
    yield
    gc.unfreeze()


class Clock:
    """A clock that only its sides move."""

    def __init__(self):
        self.now, self.order = 0.0, []

    def __call__(self):
        return self.now

    def side(self, name, seconds):
        def run():
            self.order.append(name)
            self.now += seconds(len(self.order)) if callable(seconds) else seconds

        return run


def test_sides_take_turns_forwards_and_backwards_after_a_round_that_is_not_counted():
    clock = Clock()
    times = interleaved(*(clock.side(name, s) for name, s in (("a", 1), ("b", 2), ("c", 4))), rounds=3, clock=clock)
    assert "".join(clock.order) == "abc" + "abc" + "cba" + "abc"
    assert times == [[1, 1, 1], [2, 2, 2], [4, 4, 4]]


def test_without_warming_up_every_run_counts():
    clock = Clock()
    assert interleaved(clock.side("a", 3), rounds=2, warm_up=False, clock=clock) == [[3, 3]]
    assert clock.order == ["a", "a"]


def test_a_machine_that_becomes_slower_does_not_move_the_ratio():
    """Every run takes longer than the one before, of equal work."""
    clock = Clock()
    a, b = interleaved(clock.side("a", lambda n: n), clock.side("b", lambda n: n), rounds=40, clock=clock)
    assert ratio(a, b).median == pytest.approx(1, abs=0.01)
    assert ratio(a, b).low < 1 < ratio(a, b).high


@pytest.mark.parametrize(
    "values, quartiles", [([7], (7, 7, 7)), ([1, 3], (1.5, 2, 2.5)), ([5, 1, 4, 2, 3], (2, 3, 4))], ids=str
)
def test_spread_is_the_quartiles(values, quartiles):
    spread = Spread.of(values)
    assert (spread.low, spread.median, spread.high) == quartiles


def test_a_ratio_is_taken_round_by_round():
    assert ratio([2, 30, 4], [1, 10, 4]) == Spread(1.5, 2, 2.5)


@pytest.mark.parametrize(
    "value, target, verdict",
    [
        ((1.0, 1.0, 1.0), None, ""),
        ((0.9, 1.0, 1.04), Target(high=1.05), "met"),
        ((0.9, 1.05, 1.05), Target(high=1.05), "met"),
        ((0.9, 1.0, 1.06), Target(high=1.05), "met, within noise"),
        ((1.06, 1.07, 1.2), Target(high=1.05), "short"),
        ((1.0, 1.07, 1.2), Target(high=1.05), "short, within noise"),
        ((0.98, 1.0, 1.02), Target(0.97, 1.03), "met"),
        ((0.9, 0.95, 0.96), Target(0.97, 1.03), "short"),
        ((0.9, 0.95, 0.99), Target(0.97, 1.03), "short, within noise"),
        ((0.9, 1.0, 1.1), Target(0.97, 1.03), "met, within noise"),
        ((0.9, 0.95, 1.1), Target(0.97, 1.03), "short, within noise"),
    ],
)
def test_verdicts(value, target, verdict):
    row = Row("a figure", Spread(*value), target=target)
    assert row.verdict == verdict
    assert row.short == verdict.startswith("short")


def test_cells_show_value_unit_quartiles_and_target():
    row = Row("time", Spread(0.5, 1.23456, 2), "ms", Target(high=1.5), "3 rounds")
    assert row.cells == ["time", "1.235 ms (0.5 to 2)", "at most 1.5", "met, within noise", "3 rounds"]
    assert Row("time", Spread.of([2]), target=Target(1, 3)).cells == ["time", "2", "1 to 3", "met", ""]


def section(group, entries, whole=True):
    return results.section(group, GROUP, "*a machine*", entries, whole)


def test_a_section_has_its_rows_in_a_table_and_its_paragraphs_below():
    rows = [Row("one | half", Spread.of([1])), "A paragraph.", Row("two", Spread.of([2]))]
    lines = section("passes", rows).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert lines[0] == "## A title (passes)" and table[2:] == ["| one \\| half | 1 |  |  |  |", "| two | 2 |  |  |  |"]
    assert lines.index("A paragraph.") > lines.index(table[-1])
    assert "Broken off" in section("passes", rows, whole=False) and "Broken off" not in section("passes", rows)


def test_a_group_replaces_its_own_section_alone_and_the_order_stays(tmp_path):
    file = tmp_path / "RESULTS.md"
    for group, value in ((GROUPS[2], 1), (GROUPS[0], 2), (GROUPS[1], 3), (GROUPS[0], 4)):
        results.keep(group, section(group, [Row(f"in {group}", Spread.of([value])), "Words."]), file)
    page = file.read_text(encoding="utf-8")
    assert page.startswith(results.HEAD)
    figures = [line for line in page.splitlines() if line.startswith("| in ")]
    assert figures == [f"| in {group} | {value} |  |  |  |" for group, value in zip(GROUPS, (4, 3, 1), strict=False)]
    assert list(tmp_path.iterdir()) == [file]
    for group in GROUPS[:3]:  # what is written again as it was changes nothing
        [text] = [f"## {part}" for part in page.split("## ")[1:] if f"({group})" in part]
        assert results.with_section(page, group, text.strip() + "\n") == page


def test_an_earlier_state_runs_under_the_pins_of_today(monkeypatch):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        pins = tarfile.TarInfo(before.PINS.name)
        pins.size = 6
        tar.addfile(pins, io.BytesIO(b"old==1"))
    monkeypatch.setattr(before.subprocess, "run", lambda *command, **more: SimpleNamespace(stdout=packed.getvalue()))
    with before.earlier() as place:
        assert (place / before.PINS.name).read_bytes() == before.PINS.read_bytes()

"""Progress: every part is told, the result comes back, and what stops the caller stops the work."""

import pytest

from guidance_core.commands import Line
from guidance_core.progress import Progress, run_to_end


class Counting:
    """Work that counts to `count`; remembers whether it was ended, and how far it was."""

    def __init__(self, count):
        self.count, self.reached, self.ended = count, 0, False

    def work(self):
        try:
            while self.reached < self.count:
                self.reached += 1
                yield Progress(self.reached, self.count)
            return "counted"
        finally:
            self.ended = True


def test_every_part_is_told_and_the_result_comes_back():
    seen = []
    assert run_to_end(Counting(3).work(), seen.append) == "counted"
    assert seen == [Progress(1, 3), Progress(2, 3), Progress(3, 3)]
    assert run_to_end(Counting(0).work()) == "counted"


def test_what_stops_the_caller_stops_the_work_there():
    counting = Counting(5)

    def cancel(progress):
        if progress.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_to_end(counting.work(), cancel)
    assert (counting.reached, counting.ended) == (2, True)


def test_commands_show_it_as_a_line(capsys):
    assert Line().run(Counting(2).work(), "counted {done} of {count}") == "counted"
    assert capsys.readouterr().err.splitlines() == ["counted 1 of 2", "counted 2 of 2"]

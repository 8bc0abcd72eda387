"""What browser tests wait with: an answer that is later than a try, and a page that is still at work."""

from types import SimpleNamespace

import pytest
from playwright.sync_api import TimeoutError

from devtools import frontend


def test_an_act_that_has_been_answered_meanwhile_need_not_be_possible_again():
    """A dialog that closes between two tries takes the button with it."""
    acts = []

    def act(timeout):
        acts.append(timeout)
        if len(acts) > 1:
            raise TimeoutError("the button is gone")

    def happened(timeout):
        if len(acts) < 2:
            raise TimeoutError("the dialog is still there")

    frontend.again(act, happened)
    assert acts == [frontend.TRY] * 2


def test_what_never_happens_fails():
    def happened(timeout):
        raise TimeoutError("nothing")

    with pytest.raises(AssertionError, match="Nothing has happened"):
        frontend.again(lambda timeout: None, happened)


def test_a_check_may_fail_until_the_page_is_done(monkeypatch):
    seen = iter([1, 2, 3])
    page = SimpleNamespace(wait_for_timeout=lambda milliseconds: None)

    def check():
        assert next(seen) == 3

    frontend.eventually(page, check)
    monkeypatch.setattr(frontend, "PATIENCE", -1)
    seen = iter([1, 3])
    with pytest.raises(AssertionError, match="1 == 3"):
        frontend.eventually(page, check)

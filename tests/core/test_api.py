"""The reference of the library, from its docstrings, names everything public, and its links lead somewhere."""

import re

import pytest

import guidance_core as gc
from devtools.make_api import broken_links, write


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("api")
    write(folder)
    return folder


def test_every_public_name_is_on_the_first_page_with_its_docstring(pages):
    text = (pages / "guidance_core.html").read_text(encoding="utf-8")
    sections = dict(re.findall(r'<section id="(\w+)">(.*?)</section>', text, re.DOTALL))
    assert set(gc.__all__) <= sections.keys()
    lacking = {name for name in gc.__all__ if callable(getattr(gc, name)) and 'class="docstring"' not in sections[name]}
    assert lacking == set()


def test_its_links_lead_somewhere(pages):
    assert broken_links(pages) == []
    page = pages / "index.html"
    page.write_text(page.read_text(encoding="utf-8") + '<a href="none.html"></a><a href="guidance_core.html#none"></a>')
    assert broken_links(pages) == ["index.html: guidance_core.html#none", "index.html: none.html"]

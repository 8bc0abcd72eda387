"""The page of CFG methods says what their dataclasses say, and its picture is there."""

from devtools.make_methods import PAGE, PICTURE, with_text
from guidance_core import cfg_methods
from guidance_core.params import params_of


def test_what_follows_from_the_methods_is_up_to_date():
    page = PAGE.read_text(encoding="utf-8")
    assert with_text(page) == page, "run python -m devtools.make_methods --text"


def test_every_method_has_its_section_parameters_and_place():
    page = PAGE.read_text(encoding="utf-8")
    order, _, rest = page.partition("<!-- order -->")[2].partition("<!-- /order -->")
    for method in cfg_methods().values():
        section = rest.partition(f"### `{method.name}`: {method.title}\n")[2].partition("\n### ")[0]
        assert method.source in section and method.doc in section
        assert all(f"| `{name}` |" in section for name in params_of(method))
        assert (f"`{method.name}`" in order) == (method.name != "standard")


def test_the_picture_is_there():
    assert "](images/cfg-methods.jpg)" in PAGE.read_text(encoding="utf-8")
    assert PICTURE.stat().st_size > 10_000

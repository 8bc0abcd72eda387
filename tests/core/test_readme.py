"""The README's table of methods is the one that the methods' dataclasses give."""

from devtools.make_readme import README, methods_table, replaced


def test_methods_table_is_up_to_date():
    text = README.read_text(encoding="utf-8")
    assert replaced(text, "methods", methods_table()) == text, "run python -m devtools.make_readme --methods"
    assert "| `standard` |" in text

"""Names in files that a spreadsheet may open."""

import pytest

from tangential.names import literal


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_a_text_that_begins_like_a_formula_gets_a_quote(first):
    evil = f"{first}cmd|'/c calc'!A1"
    assert literal(evil) == f"'{evil}"
    for text in ("", "sgd", f"a{first}b", "'=1", "1e-3"):
        assert literal(text) == text

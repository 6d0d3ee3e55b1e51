"""Equations of the docs as MathML, which browsers draw without a script."""

from typing import Any

from latex2mathml.converter import convert


def displayed(source: str, *_: Any, **__: Any) -> str:
    """A displayed equation in LaTeX, as MathML in a box that scrolls."""
    return f'<div class="equation">{convert(source, display="block")}</div>'

"""Shows the doctests of our docstrings, which stand at their end, as code."""

from typing import Any

import griffe


class Doctests(griffe.Extension):
    """Moves the doctest of a docstring into the section "Examples" of Google's style."""

    def on_object(self, *, obj: griffe.Object, **unused: Any) -> None:
        """Change the docstring of every object that has one."""
        if obj.docstring and (text := obj.docstring.value).count("\n>>>"):
            about, _, doctest = text.partition("\n>>>")
            lines = f">>>{doctest}".splitlines()
            obj.docstring.value = f"{about}\nExamples:\n" + "\n".join(f"    {x}" for x in lines)

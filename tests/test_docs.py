"""The programs in docs/ run."""

import re
from pathlib import Path

import pytest

DOCS = sorted((Path(__file__).parents[1] / "docs").glob("*.md"))
BLOCK = re.compile(r"^```python\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)
RUN = ["keras.md", "project.md", "radial_rules.md"]


@pytest.mark.parametrize("name", RUN)
def test_the_programs_run(name):
    [path] = [doc for doc in DOCS if doc.name == name]
    blocks = BLOCK.findall(path.read_text())
    assert blocks
    names: dict = {}
    for block in blocks:
        exec(compile(block, name, "exec"), names)

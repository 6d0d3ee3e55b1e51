"""The programs in docs/ run."""

import re
from pathlib import Path

import pytest

DOCS = sorted((Path(__file__).parents[1] / "docs").glob("*.md"))
BLOCK = re.compile(r"^```python\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)
RUN = [
    "keras.md",
    "project.md",
    "radial_rules.md",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("integrations.md", "migrate.md")),
]


@pytest.mark.parametrize("name", RUN)
@pytest.mark.filterwarnings("ignore")  # of other libraries
def test_the_programs_run(name, tmp_path):
    [path] = [doc for doc in DOCS if doc.name == name]
    blocks = BLOCK.findall(path.read_text())
    assert blocks
    names: dict = {"folder": tmp_path}
    for block in blocks:
        exec(compile(block, name, "exec"), names)

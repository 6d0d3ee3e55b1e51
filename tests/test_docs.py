"""The programs in the README and in docs/ run, and their links lead somewhere."""

import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text("utf-8")
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md"))]
}
BLOCK = re.compile(r"^ *```python\n(.*?)^ *```", flags=re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
COMMAND = re.compile(r"^    tangential (.+)$|`tangential ([^`]+ [^`]+)`", flags=re.MULTILINE)
HEADING = re.compile(r"^#+ (.+)$", flags=re.MULTILINE)
ALSO_RUN = {"docs/own_optimizer.md", "docs/own_task.md"}  # by the tests named after them
SLOW = {"docs/integrations.md", "docs/jax.md", "docs/migrate.md"}

# What a reader has already: a model, its batches, and a loop around `optimizer`.
READER = """
import torch
from torch import nn

from tangential import AdamP, SGDP

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(16, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
batches = [torch.randn(32, 16) for _ in range(4)]
matrices = [model[0].weight]


def train():
    for batch in batches:
        optimizer.zero_grad()
        model(batch).square().mean().backward()
        optimizer.step()
"""
IN_JAX = """
import jax.numpy as jnp
import optax

params = {"head": jnp.ones((4, 3)), "body": {"kernel": jnp.ones((5, 4))}}
grads = params
"""


def programs(text):
    return BLOCK.findall(text)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else [])
        for name, text in PAGES.items()
        if programs(text) and name not in ALSO_RUN
    ],
)
@pytest.mark.filterwarnings("ignore")  # of other libraries
def test_the_programs_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {"folder": tmp_path}
    exec(IN_JAX if name == "docs/jax.md" else READER, names)
    for block in programs(PAGES[name]):
        exec(compile(block, name, "exec"), names)


@pytest.mark.parametrize("name", [name for name, text in PAGES.items() if COMMAND.search(text)])
def test_the_commands_have_these_options(name):
    from tangential_lab.cli.app import app  # where the laboratory is installed

    for found in COMMAND.findall(PAGES[name]):
        words = shlex.split("".join(found).replace("NAME", "digits"), comments=True)
        _, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
        task, options = (bound.arguments.get(x) for x in ("task", "task_options"))
        if options and ".py:" not in task:
            options.values(task)


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_to_files_and_headings(name):
    for link in LINK.findall(PAGES[name]):
        path, _, anchor = link.partition("#")
        if ":" in link:
            continue
        target = (ROOT / name).parent / path if path else ROOT / name
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text("utf-8")), link


def anchors(text):
    """The anchors of a page's headings, as GitHub and MkDocs make them."""
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in HEADING.findall(text))
    return {re.sub(" +", "-", heading.strip()) for heading in plain}


def test_the_readme_is_short():
    assert len(PAGES["README.md"].splitlines()) <= 150

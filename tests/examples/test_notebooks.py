"""The notebooks run, store what they compute, and are small."""

import re
from base64 import b64decode
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
NOTEBOOKS = {path.name: path for path in sorted((ROOT / "examples").glob("*.ipynb"))}
MOST_BYTES = 40_000  # of a picture


def outputs(notebook):
    """The code cells' outputs: the kinds of pictures, and text without its numbers."""
    return [
        [
            re.sub(r"-?[\d.,]+(e-?\d+)?", "#", output["text"])
            if output["output_type"] == "stream"
            else sorted(output["data"])
            for output in cell.outputs
        ]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


@pytest.mark.parametrize("name", NOTEBOOKS)
@pytest.mark.filterwarnings("ignore")  # of Jupyter
@pytest.mark.slow
def test_the_notebook_computes_what_it_stores(name, tmp_path):
    notebook = nbformat.read(NOTEBOOKS[name], 4)
    stored = outputs(notebook)
    options = {"timeout": 250, "kernel_name": "python3", "coalesce_streams": True}
    NotebookClient(notebook, **options).execute(cwd=tmp_path)
    assert outputs(notebook) == stored


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_its_pictures_are_small_and_nothing_went_wrong(name):
    notebook = nbformat.read(NOTEBOOKS[name], 4)
    kinds = {output.output_type for cell in notebook.cells for output in cell.get("outputs", ())}
    assert kinds == {"display_data", "stream"}
    pictures = [
        b64decode(output.data["image/png"])
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if output.output_type == "display_data"
    ]
    assert len(pictures) >= 3
    assert max(map(len, pictures)) <= MOST_BYTES


def test_the_readme_and_the_docs_link_every_notebook():
    for page in ("README.md", "docs/examples.md"):
        text = (ROOT / page).read_text("utf-8")
        assert all(f"examples/{name})" in text for name in NOTEBOOKS), page
    assert len(NOTEBOOKS) == 2

"""`tangential toy`: what it prints, draws and refuses."""

import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image
from processes import call, table_rows

from tangential_lab.cli import toy
from tangential_lab.errors import with_lab
from tangential_lab.theory import pictures as picture
from tangential_lab.theory.gate import pictures as gate_pictures
from tangential_lab.theory.toys import TOY_OPTIMIZERS
from tangential_lab.training import OPTIMIZERS


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    """A terminal on which every table fits as it is; test_terminal.py has narrow ones."""
    monkeypatch.setenv("COLUMNS", "150")


@pytest.mark.slow
def test_toy_2d_prints_the_known_digits_and_draws(tmp_path, capsys):
    code, text, _ = call(capsys, "toy", "2d", "--momentum", ".9", "--out", tmp_path / "new")
    assert code == 0
    assert table_rows(text) == [
        ["0.9", "50", "3.9999 / 1.00", "1.7578 / 1.42", "1.3491 / 1.07", "1.1973 / 1.08"],
        ["0.9", "499", "0.0086 / 1.02", "0.0018 / 2.93", "3.5e-05 / 1.12", "4.5e-05 / 1.17"],
    ]
    files = sorted((tmp_path / "new").iterdir())
    assert [f.name for f in files] == ["cosine_2d.gif", "cosine_2d.png", "cosine_2d.svg"]
    assert all(str(f) in text for f in files)
    gif, png, svg = files
    with Image.open(png) as image:
        assert image.format == "PNG"
        assert image.size == (12 * picture.DPI, 4.2 * picture.DPI)
    assert ET.parse(svg).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    with Image.open(gif) as image:
        assert image.format == "GIF"
        assert image.n_frames == 101
        assert image.info["loop"] == 0
        coloured = []
        for frame in (1, 20, 100):  # the lines grow
            image.seek(frame)
            pixels = np.asarray(image.convert("RGB")).astype(int)
            coloured.append((np.ptp(pixels, axis=2) > 60).sum())
        assert coloured[0] < coloured[1] < coloured[2]
        assert image.info["duration"] == picture.LAST_FRAME_MS


@pytest.mark.slow
def test_toy_3d_prints_norms_beside_the_papers_and_draws(tmp_path, capsys):
    code, text, _ = call(capsys, "toy", "3d", "--out", tmp_path)
    assert code == 0
    table = {row[1]: row for row in table_rows(text)}
    compared = {row[0]: row[1:] for row in table_rows(text) if len(row) == 5}
    assert compared["SGD + momentum"][:3] == ["1.3 %", "0.234", "0.255"]
    low, high = map(float, compared["SGD + momentum"][3].split(" to "))
    assert low < 0.255 < high
    said = " ".join(text.split())
    assert "Why the ends differ: the valley is chaotic past about 30 steps" in said
    assert "(our norms are within 1.3 % of the paper's)" in said
    assert set(TOY_OPTIMIZERS["3d"]) < set(table)
    assert table["SGD + momentum"][3] == "1.233"
    assert [row[1] for row in table_rows(text)].count("paper's figure") == 3
    assert sorted(f.name for f in tmp_path.iterdir()) == ["rosenbrock_3d.png", "rosenbrock_3d.svg"]
    with Image.open(tmp_path / "rosenbrock_3d.png") as image:
        assert image.format == "PNG"
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 24)}
    for one in TOY_OPTIMIZERS["3d"].values():
        assert tuple(int(one.colour[i : i + 2], 16) for i in (1, 3, 5)) in colours


@pytest.mark.slow
@pytest.mark.parametrize("width", [60, 80])
def test_toy_gate_prints_rates_and_advice_and_draws(width, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(toy, "EXAMPLES", ["Conv2d, BatchNorm", "Conv2d, GroupNorm(2)"])
    code, text, _ = call(capsys, "toy", "gate", "--out", tmp_path)
    assert code == 0
    assert max(map(len, text.splitlines()[:-2])) <= width  # the last two are paths
    assert "…" not in text
    rates = {row[0]: row[1:] for row in table_rows(text)}
    formula, weight = map(float, rates["0.1"][:2])
    assert formula == 7.97
    assert weight == pytest.approx(formula, abs=0.4)  # 5 standard deviations of 100,000 pairs
    assert rates["0.1"][-1] == "0"
    assert set(rates["Conv2d, BatchNorm"][:-1]) == {"100/0"}
    assert rates["by unit of 4 rows"][1].startswith("0.01")
    assert "leave delta at 0.1 and pass tangential.param_groups(model," in " ".join(text.split())
    assert sorted(f.name for f in tmp_path.iterdir()) == ["gate.png", "gate.svg"]
    with Image.open(tmp_path / "gate.png") as image:
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 24)}
    for colour in (gate_pictures.BY_ROW, gate_pictures.BY_WEIGHT):
        assert tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5)) in colours
    assert ET.parse(tmp_path / "gate.svg").getroot().tag == "{http://www.w3.org/2000/svg}svg"


@pytest.mark.slow
def test_momentum_without_known_figures_has_none_beside_it(tmp_path, capsys, monkeypatch):
    drawn = []
    monkeypatch.setattr(toy, "draw_toy", lambda problem, done, out: drawn.append(done) or [])
    code, text, _ = call(capsys, "toy", "3d", "--momentum", "0", ".5", ".5", "--out", tmp_path)
    assert code == 0
    assert [row[0] for row in table_rows(text)] == ["0"] * 4 + ["0.5"] * 4
    assert "paper" not in text
    assert [run.momentum for run in drawn[0]] == [0] * 4 + [0.5] * 4


def test_colours_differ_and_belong_to_one_optimizer_each():
    for optimizers in TOY_OPTIMIZERS.values():
        assert len({one.colour for one in optimizers.values()}) == len(optimizers)
        assert optimizers["SGDP"].colour == OPTIMIZERS["sgdp"].colour
        assert optimizers["SGD + momentum"].colour == OPTIMIZERS["sgd"].colour


@pytest.mark.slow
def test_drawing_leaves_matplotlib_as_it_was(tmp_path):
    """Imported by drawing alone, and then without pyplot or a change of settings."""
    code = f"""
import sys
from pathlib import Path
from tangential_lab.theory import pictures, toys
assert "matplotlib" not in sys.modules
import matplotlib
before = matplotlib.rcParams.copy()  # reading "backend" would choose one
done = toys.run_toy("3d", [0.9])[-1:]
pictures.draw_toy("3d", done, Path({str(tmp_path)!r}))
assert matplotlib.rcParams.copy() == before
assert "matplotlib.pyplot" not in sys.modules
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["4d"], 'Invalid value "4d" for PROBLEM. Choose from: "2d", "3d", "gate".'),
        (["2d", "--momentum", "1"], "for --momentum. Must be < 1."),
        (["2d", "--momentum", ".9", "-.5"], "for --momentum. Must be >= 0."),
        (["2d", "--momentum", "nan"], "for --momentum. Must be < 1."),
        (["2d", "--momentum", "much"], 'unable to convert "much" into float'),
        (["gate", "--momentum", ".9"], "--momentum is for 2d and 3d: leave it out for gate"),
        (["3d", "--momentun", ".9"], "Did you mean --momentum?"),
    ],
)
def test_wrong_arguments_are_named(arguments, words, tmp_path, capsys):
    code, out, err = call(capsys, "toy", *arguments, "--out", tmp_path)
    assert code != 0
    assert words in err
    assert not out
    assert not list(tmp_path.iterdir())


def test_folder_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    code, out, err = call(capsys, "toy", "3d", "--out", tmp_path / "file" / "deeper")
    assert (code, out) == (1, "")
    assert "Stopped: [Errno 20] Not a directory" in err


def test_missing_matplotlib_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, out, err = call(capsys, "toy", "3d", "--out", tmp_path)
    assert (code, out) == (1, "")
    assert err == f"Stopped: matplotlib is not installed: run pip install {with_lab()}\n"

"""Every verdict is provoked by a training, and none is raised by a sound one."""

import math
import random
import re
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW

import tangential
from tangential import SGDP, AdamP, Monitor
from tangential.invariance import audit
from tangential.monitor import criteria, sinks
from tangential.monitor.diagnosis import diagnose, figures
from tangential.monitor.files import cells, encoded
from tangential.monitor.lines import COLUMNS, FIELDS
from tangential.monitor.runs import load
from tangential_lab.__main__ import main

SLOW, WEAK, NO_DECAY = "premature slowdown", "decay too weak", "no equilibrium without decay"
WRONG, UNEQUAL, FROZEN = (
    "projected but not invariant",
    "layers rotate unequally",
    "frozen normalisation",
)
HIDDEN = ("0.weight", "3.weight")  # followed by a BatchNorm


def net():
    torch.manual_seed(0)
    hidden = [nn.Linear(16, 32), nn.BatchNorm1d(32), nn.ReLU()]
    hidden += [nn.Linear(32, 32), nn.BatchNorm1d(32), nn.ReLU()]
    return nn.Sequential(*hidden, nn.Linear(32, 4))


def trained(make, *, steps=300, every=5, audited=False, before=lambda model, optimizer, step: None):
    """What a monitor logs while a net learns noisy labels, with the optimizer `make(groups)`."""
    model, drawn, log = net(), torch.Generator().manual_seed(1), sinks.memory()
    truth = torch.randn(16, 4, generator=drawn)
    found = audit(model, [torch.randn(8, 16, generator=drawn) for _ in range(3)])
    optimizer = make(tangential.param_groups(model, found) if audited else model.parameters())
    with Monitor(model, optimizer, every, log, audit=found if audited else None):
        for step in range(steps):
            before(model, optimizer, step)
            x = torch.randn(32, 16, generator=drawn)
            y = (x @ truth + 2 * torch.randn(32, 4, generator=drawn)).argmax(1)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    return log


def kinds(log):
    return {verdict.kind: verdict for verdict in diagnose(log)}


def sound(groups):
    """Decay that reaches equilibrium within 300 steps."""
    return AdamW(groups, lr=0.01, weight_decay=1.0)


def falling(lr, last=300):
    def before(model, optimizer, step):
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 - step / last)

    return before


@pytest.fixture(scope="module")
def momentum():
    """SGD with momentum and without decay: the paper's slowdown."""
    torch.manual_seed(0)
    return trained(lambda w: SGD(w, lr=0.1, momentum=0.9))


@pytest.fixture(scope="module")
def good():
    return trained(sound)


# ---- one by one


def test_premature_slowdown(momentum):
    found = kinds(momentum)
    verdict, numbers = found[SLOW], found[SLOW].numbers
    assert verdict.labels == HIDDEN
    assert numbers["effective_step_fall"] > 3
    assert numbers["lr_fall"] == 1.0
    assert numbers["norm_growth"] > 1.5
    assert 0.9 < numbers["memory_share"] < 1
    words = (
        rf"Premature slowdown: the effective step fell {numbers['effective_step_fall']:.1f}-fold "
        rf"since step 20 while lr fell 1.0-fold; norms grew {numbers['norm_growth']:.1f}-fold, "
        rf"{100 * numbers['memory_share']:.0f} % of norm growth is momentum's memory "
        r"(medians over 2 weights on which the gate mostly fires)."
    )
    assert verdict.text == words


def test_the_slowdowns_numbers_are_those_of_the_log(momentum):
    seen = [x for x in momentum if x["label"] in HIDDEN and x["step"] >= 20]
    falls = []
    for name in HIDDEN:
        steps = [x["effective_step"] for x in seen if x["label"] == name]
        assert len(steps) == 56
        falls.append(sorted(steps[:5])[2] / sorted(steps[-5:])[2])
    every = [x for x in momentum if x["label"] in HIDDEN]
    memory, step = (sum(x[c] for x in every) for c in ("growth_memory", "growth_step"))
    numbers = kinds(momentum)[SLOW].numbers
    assert numbers["effective_step_fall"] == pytest.approx(sum(falls) / 2)
    assert numbers["memory_share"] == pytest.approx(memory / (memory + step))


def test_the_same_run_projected_is_not_slowed_down():
    found = kinds(trained(lambda w: SGDP(w, lr=0.1, momentum=0.9), audited=True))
    assert SLOW not in found


def test_a_schedule_is_no_premature_slowdown():
    log = trained(lambda w: AdamP(w, lr=0.003), audited=True, before=falling(0.003))
    assert (
        figures(load(log))["effective_step"]
        < figures(load(log[: len(log) // 4]))["effective_step"] / 4
    )
    assert SLOW not in kinds(log)


def test_a_step_that_lr_has_shortened_is_no_premature_slowdown(momentum):
    """The same steps and norms, had lr asked for them."""
    asked = [{**x, "lr": 0.1 * (1 if x["step"] < 150 else 0.2)} for x in momentum]
    checked = figures(load(asked))
    assert checked["norm_growth"] > criteria.NORM_GROWTH
    assert checked["slowdown"] == pytest.approx(figures(load(momentum))["slowdown"] / 5)
    assert SLOW not in kinds(asked)


def test_gradients_that_vanish_are_no_premature_slowdown():
    """A net that has learnt its labels stands still, and its norms with it."""
    model, log = net(), sinks.memory()
    x, y = torch.randn(32, 16), torch.arange(32) % 4
    optimizer = SGDP(model.parameters(), lr=0.01)
    with Monitor(model, optimizer, 5, log):
        for _ in range(300):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    checked = figures(load(log))
    assert checked["slowdown"] > criteria.SLOWDOWN
    assert checked["norm_growth"] < 1.1
    assert SLOW not in kinds(log)


def test_the_first_steps_of_adam_are_no_slowdown():
    """They are several times longer than the later ones."""
    log = trained(lambda w: AdamP(w, lr=1e-3), steps=120, every=1)
    first = next(x for x in log if x["label"] == "0.weight")
    checked = figures(load(log))
    assert first["effective_step"] > 2 * checked["effective_step"]
    assert checked["slowdown"] < 1.5
    assert SLOW not in kinds(log)


@pytest.mark.parametrize("audited", [False, True])
@pytest.mark.parametrize("rule", [AdamW, AdamP])
def test_decay_too_weak(rule, audited):
    found = kinds(trained(lambda w: rule(w, lr=0.01, weight_decay=1e-3), audited=audited))
    verdict, numbers = found[WEAK], found[WEAK].numbers
    assert verdict.labels == HIDDEN
    ratio = 1 if rule is AdamP else 1 / math.sqrt(19)
    rate = 0.01 * 1e-3 * (0.1 if rule is AdamP else 1)
    assert numbers["equilibrium_rad"] == pytest.approx(math.sqrt(2 * rate) * ratio, rel=1e-3)
    assert numbers["angle_over_equilibrium"] > 5
    assert numbers["steps"] == 295
    assert numbers["steps_to_equilibrium"] > 10_000
    assert verdict.text.startswith(
        "Decay is too weak to reach equilibrium in this run: after 295 steps the angle per step is "
    )
    assert f"another {numbers['steps_to_equilibrium']:,.0f} steps would be needed" in verdict.text
    assert NO_DECAY not in found


def test_a_schedule_that_leaves_equilibrium_is_no_weak_decay():
    """In the last steps lr falls faster than norms can follow."""

    def before(model, optimizer, step):
        if step == 270:
            optimizer.param_groups[0]["lr"] = 1e-5

    log = trained(sound, before=before)
    checked = figures(load(log))
    assert checked["angle_over_equilibrium"] < 1 / criteria.OFF
    last = [x for x in log if x["label"] in HIDDEN][-1]
    assert last["steps_to_equilibrium"] > 295
    assert WEAK not in kinds(log)


def test_without_decay_there_is_no_equilibrium(momentum):
    verdict = kinds(momentum)[NO_DECAY]
    assert verdict.labels == HIDDEN
    assert verdict.numbers["norm_growth"] > 1.5
    assert re.fullmatch(
        r"There is no equilibrium to reach: the monitor knows of no decay that would shrink 2 "
        r"weights on which the gate mostly fires; norms grew 1\.\d-fold since step 20 \(median\)\.",
        verdict.text,
    )
    assert WEAK not in kinds(momentum)


def test_without_decay_norms_that_stay_are_no_matter():
    log = trained(lambda w: AdamP(w, lr=1e-4), audited=True)
    assert 1 < figures(load(log))["norm_growth"] < 1 + criteria.CLOSE
    assert [*kinds(log)] == ["sound"]


def test_projected_but_not_invariant_by_the_audit():
    model, log = net(), sinks.memory()
    found = audit(model, [torch.randn(8, 16) for _ in range(3)])
    log = sinks.memory()
    optimizer = AdamP(model.parameters(), lr=1e-3)
    with Monitor(model, optimizer, 1, log, audit=found):
        for _ in range(150):
            x = torch.randn(32, 16)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), torch.randint(4, (32,))).backward()
            optimizer.step()
    lines = [x for x in log if x["label"] == "6.weight"]
    share = sum(x["gate_row"] + x["gate_weight"] > 0 for x in lines) / 150
    verdict = kinds(log)[WRONG]
    assert verdict.labels == ("6.weight",)
    assert verdict.numbers == {"6.weight": pytest.approx(share)}
    assert 0.02 < share < 0.2  # 8 % by chance
    assert f"6.weight in {100 * share:.0f} %; the audit has proved it of none" in verdict.text


def test_a_gate_that_flickers_tells_without_an_audit():
    log = trained(lambda w: AdamP(w, lr=1e-3), every=1)
    lines = [x for x in log if x["label"] == "6.weight"]
    share = sum(x["gate_row"] + x["gate_weight"] > 0 for x in lines) / 300
    verdict = kinds(log)[WRONG]
    assert verdict.labels == ("6.weight",)
    assert verdict.numbers == {"6.weight": pytest.approx(share)}
    assert 0 < share < 0.2
    assert "the gate fires only now and then, and sqrt(n) |cos(w, g)| is of order 1" in verdict.text


@pytest.mark.parametrize("audited", [False, True])
def test_what_is_not_projected_is_not_projected_wrongly(audited):
    """The published gate would have fired, but AdamW has none."""
    make = sound if not audited else lambda groups: sound([p for g in groups for p in g["params"]])
    log = trained(make, every=1, audited=audited)
    assert any(x["gate_weight"] for x in log if x["label"] == "6.weight")
    assert WRONG not in kinds(log)


def test_layers_rotate_unequally():
    def make(weights):
        first, *rest = weights
        return AdamP([{"params": [first], "lr": 1e-4}, {"params": rest}], lr=1e-3)

    verdict = kinds(trained(make))[UNEQUAL]
    assert verdict.labels == ("3.weight", "0.weight")
    numbers = verdict.numbers
    assert numbers["ratio"] == pytest.approx(numbers["fastest_rad"] / numbers["slowest_rad"])
    assert 8 < numbers["ratio"] < 20
    assert verdict.text.startswith(
        f"Layers rotate unequally: 3.weight turns {numbers['ratio']:.1f}-fold as far per step as "
        f"0.weight ({numbers['fastest_rad']:.2g} rad, lr 0.001, against "
    )


def test_a_long_norm_makes_a_layer_slow():
    """At one lr, which the sentence then need not name."""

    def before(model, optimizer, step):
        if step == 0:
            with torch.no_grad():
                model[3].weight *= 20

    verdict = kinds(trained(lambda w: AdamP(w, lr=1e-3), before=before))[UNEQUAL]
    assert verdict.labels == ("0.weight", "3.weight")
    assert "lr" not in verdict.text.replace("Layers", "")


def freeze(*names, at, until=math.inf):
    def before(model, optimizer, step):
        for name in names:
            model.get_submodule(name).train(not at <= step < until)

    return before


@pytest.mark.parametrize("at", [0, 100])
def test_frozen_normalisation(at):
    verdict = kinds(trained(sound, before=freeze("1", "4", at=at)))[FROZEN]
    assert verdict.labels == ("1", "4")
    assert verdict.numbers == {"frozen_norms": 2.0, "since_step": float(at)}
    assert f"1, 4 worked by running statistics since step {at}, which" in verdict.text


def test_frozen_for_a_while_and_apart():
    def before(model, optimizer, step):
        freeze("1", at=50, until=90)(model, optimizer, step)
        freeze("4", at=100)(model, optimizer, step)

    found = [x for x in diagnose(trained(sound, before=before)) if x.kind == FROZEN]
    assert [x.labels for x in found] == [("1",), ("4",)]
    assert "1 worked by running statistics in 8 logs from step 50 to 85," in found[0].text
    assert "since step 100" in found[1].text


# ---- nothing wrong, nothing known


def test_a_sound_run_is_told_with_what_was_checked(good):
    (verdict,) = diagnose(good)
    assert verdict.kind == "sound"
    assert verdict.labels == HIDDEN
    assert 1 / criteria.OFF < verdict.numbers["angle_over_equilibrium"] < criteria.OFF
    assert re.fullmatch(
        r"Nothing wrong was found in steps 0 to 295 \(60 logs\): over 2 weights on which the gate "
        r"mostly fires the effective step per lr (rose|fell) 1\.\d-fold, the angle is 0\.\d+ times "
        r"that of equilibrium, the fastest turns 1\.\d-fold as far as the slowest; no sign of a "
        r"wrong projection in 10 weights; no frozen normalisation\.",
        verdict.text,
    )


def test_a_sound_projected_run():
    log = trained(lambda w: AdamP(w, lr=0.01, weight_decay=1.0, wd_ratio=1.0), audited=True)
    assert [*kinds(log)] == ["sound"]
    assert "2 scale-invariant weights" in kinds(log)["sound"].text


def aggregates(log):
    return [line for line in log if line["label"] in ("all", "early", "middle", "late")]


def test_aggregates_alone_say_less(momentum):
    found = kinds(aggregates(momentum))
    assert [*found] == ["sound", "not checked"]
    assert "sink with weights=True" in found["not checked"].text
    assert "projection" not in found["sound"].text
    log = aggregates(trained(sound, before=freeze("1", "4", at=100)))
    found = kinds(log)
    assert found[FROZEN].numbers == {"frozen_norms": 2.0, "since_step": 100.0}
    assert "2 normalisations worked by running statistics since step 100" in found[FROZEN].text


def test_few_logs_say_less(momentum):
    found = kinds([x for x in momentum if x["step"] < 35])
    assert [*found] == ["sound", "not checked"]
    assert "4 logs are needed" in found["not checked"].text
    assert "not checked" not in kinds([x for x in momentum if x["step"] < 40])


def test_no_scale_invariant_weight():
    model, log = nn.Linear(4, 2), sinks.memory()
    optimizer = SGD(model.parameters(), lr=0.1)
    with Monitor(model, optimizer, 1, log):
        for _ in range(60):
            optimizer.zero_grad()
            (model(torch.randn(8, 4)) - torch.randn(8, 2)).square().sum().backward()
            optimizer.step()
    assert "the gate mostly fires on none" in kinds(log)["not checked"].text


def test_a_run_that_diverged_is_not_sound():
    def before(model, optimizer, step):
        if step == 200:
            with torch.no_grad():
                model[0].weight.fill_(math.nan)

    found = kinds(trained(sound, before=before))
    assert "sound" not in found
    assert "Norms are not finite since step 200: 0.weight" in found["not finite"].text


def test_a_run_that_was_resumed_before_it_diverged_is_judged_by_what_followed(good):
    last = max(x["step"] for x in good)
    spoilt = [x | {"norm": math.nan} if x["step"] == last else x for x in good]
    again = [x for x in good if x["step"] == last]
    assert "not finite" in kinds(spoilt)
    assert "not finite" not in kinds([*spoilt, *again])


def test_lr_of_zero_is_left_out():
    log = trained(sound, before=lambda m, o, step: falling(0.01, 200)(m, o, min(step, 200)))
    assert all(x["lr"] == 0 for x in log if x["step"] >= 200 and x["label"] in HIDDEN)
    found = diagnose(log)
    assert all(math.isfinite(x) for x in figures(load(log)).values())
    assert SLOW not in {verdict.kind for verdict in found}


def test_a_weight_that_stands_still_is_left_out(momentum):
    still = [
        {**x, "angle_rad": 0.0, "effective_step": 0.0} if x["label"] == "0.weight" else x
        for x in momentum
    ]
    assert kinds(still)[SLOW].labels == ("3.weight",)


@pytest.mark.parametrize("rows", [[{"label": "all"}], [{"step": 1}], [{"step": 1, "label": None}]])
def test_rows_need_step_and_label(rows):
    with pytest.raises(ValueError, match=r"the run has a row .*allowed is one with step and label"):
        diagnose(rows)


def test_no_rows_are_no_run():
    with pytest.raises(ValueError, match="the run is empty, allowed is a run with at least one"):
        diagnose([])


# ---- the command


def call(capsys, *paths):
    """Exit code and what was printed: output, or else errors."""
    try:
        main(["diagnose", *map(str, paths)])
        code = 0
    except SystemExit as exit_:
        code = exit_.code or 0
    out, err = capsys.readouterr()
    assert not (out and err)
    return code, out or err


def written(log, sink):
    """Rows given to a file sink, step by step."""
    for step in sorted({line["step"] for line in log}):
        lines = [line for line in log if line["step"] == step]
        sink(
            {f"{x['label']}/{k}": v for x in lines for k, v in x.items() if k in FIELDS[2:]},
            step,
        )
    sink.close()


@pytest.fixture(scope="module")
def runs(momentum, good, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    written(momentum, sinks.csv(folder / "momentum.csv"))
    written(good, sinks.parquet(folder / "good"))
    return folder


def test_files_and_memory_have_the_same_diagnosis(runs, momentum, good):
    assert [x.text for x in diagnose(runs / "momentum.csv")] == [x.text for x in diagnose(momentum)]
    assert [x.text for x in diagnose(str(runs / "good"))] == [x.text for x in diagnose(good)]


def test_diagnose_prints_the_verdicts(runs, momentum, capsys):
    code, text = call(capsys, runs / "momentum.csv")
    assert code == 0
    assert max(map(len, text.splitlines())) <= 80
    said = " ".join(text.split())
    assert said.endswith(" ".join(x.text for x in diagnose(momentum)))


def test_diagnose_puts_two_runs_side_by_side(runs, momentum, good, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    code, text = call(capsys, runs / "momentum.csv", runs / "good")
    assert code == 0
    cells = [[c.strip() for c in x.strip("│").split("│")] for x in text.splitlines() if "│" in x]
    table = {first: rest for first, *rest in cells}
    a, b = figures(load(momentum)), figures(load(good))
    assert table["steps"] == ["295", "295"]
    assert table["weights: scale-invariant of all"] == ["2 of 10", "2 of 10"]
    assert table["norm"] == [f"{a['norm']:.3g}", f"{b['norm']:.3g}"]
    assert table["angle over that of equilibrium"] == ["", f"{b['angle_over_equilibrium']:.3g}"]
    assert table["of it momentum's memory"][0] == f"{100 * a['memory_share']:.0f} %"
    assert text.index("Premature slowdown") < text.rindex(str(runs / "good"))
    assert text.rindex(str(runs / "good")) < text.index("Nothing wrong was found")


def test_a_line_that_is_cut_off_is_noted(runs, tmp_path, capsys):
    (tmp_path / "cut.csv").write_bytes((runs / "momentum.csv").read_bytes()[:-9])
    code, text = call(capsys, tmp_path / "cut.csv")
    assert code == 0
    assert f"{tmp_path / 'cut.csv'}: the last line is cut off" in " ".join(text.split())


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("gone.csv", None, "No such file: {}. Pass a file written by Monitor"),
        ("mine.csv", b"a,b\n1,2\n", "{} was not written by Monitor, or has other columns. Pass"),
        ("empty.csv", b"", "{} is empty, allowed is a run with at least one log"),
        ("[bold]", b"\n", "{} was not written by Monitor"),
    ],
)
def test_what_cannot_be_diagnosed_is_said_in_a_sentence(name, data, why, runs, tmp_path, capsys):
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    for paths in ([path], [runs / "good", path]):
        code, text = call(capsys, *paths)
        assert code == 1
        assert text.startswith(f"Stopped: {why.format(path)}")
        assert len(text.splitlines()) == 1


# ---- damaged files: one line, or a diagnosis, and never a traceback

CELLS = (
    *(b"", b"0", b"-0.0", b"-1", b"1", b"nan", b"inf", b"-inf", b"1e308", b"1e-320", b"-1e308"),
    *(b"9" * 30, b"9" * 5000, b"x", b"'", b'"', b"1,", b"\x00", b"\xff", "\u0661".encode(), b"all"),
)
BYTES = b',\n\r"\x00\xff-+.e0123456789= '


def base():
    """A run of two weights and a frozen normalisation, as short as criteria allow."""
    drawn, log = random.Random(0), []
    for step in range(0, 300, 25):
        for label in ("a.weight", "b.weight", "all", "early"):
            line = {name: drawn.uniform(0.01, 1) for name in COLUMNS[:15]}
            line |= {"gate_row": 1.0, "gate_weight": 0.0, "lr": 0.1, "norm": 1.0 + step}
            log.append({"step": step, "label": label, **line})
        log.append({"step": step, "label": "norm", "frozen": 1.0})
    return log


def damaged(data, drawn):
    """A file with one to six things done to it."""
    for _ in range(drawn.choice((1, 1, 2, 3, 6))):
        damage = drawn.choice((in_bytes, in_a_cell, in_rows, in_lines, in_a_column))
        data = damage(data, drawn)
    return data


def in_bytes(data, drawn):
    at, byte = drawn.randrange(len(data) + 1), bytes([drawn.choice(BYTES)])
    rest = (b"", byte + data[at + 1 :], byte + data[at:], data[at + drawn.randrange(200) :])
    return data[:at] + drawn.choice(rest)


def in_a_cell(data, drawn):
    rows = [line.split(b",") for line in data.split(b"\n")]
    row = drawn.choice(rows)
    row[drawn.randrange(len(row))] = drawn.choice(CELLS)
    return b"\n".join(map(b",".join, rows))


def in_rows(data, drawn):
    """All the numbers of a row, or of every row."""
    first, *rows = (line.split(b",") for line in data.split(b"\n"))
    value = drawn.choice(CELLS[:12])
    for row in drawn.choice((rows, rows[:1], drawn.sample(rows, len(rows) // 2))):
        row[2:] = [value if cell else cell for cell in row[2:]]
    return b"\n".join(map(b",".join, [first, *rows]))


def in_a_column(data, drawn):
    first, *rows = (line.split(b",") for line in data.split(b"\n"))
    value, column = drawn.choice(CELLS[:12]), drawn.randrange(2, len(FIELDS))
    for row in rows:
        row[column : column + 1] = [value] if len(row) > column else []
    return b"\n".join(map(b",".join, [first, *rows]))


def in_lines(data, drawn):
    """Lines in disorder, twice, or some of them."""
    first, *lines = data.split(b"\n")
    count = drawn.randrange(len(lines) + 1)
    drawn_ = (drawn.sample(lines, count), lines * 2, drawn.sample(lines, len(lines)))
    return b"\n".join([first, *drawn.choice(drawn_)])


@pytest.mark.parametrize("seed", range(8))
def test_a_damaged_csv_is_diagnosed_or_refused_in_a_line(seed, tmp_path, capsys):
    drawn, path = random.Random(seed), tmp_path / "run.csv"
    whole = encoded([FIELDS, *map(cells, base())])
    codes = []
    for number in range(100):
        path.write_bytes(data := damaged(whole, drawn))
        try:
            code, text = call(capsys, path)
        except Exception as error:
            raise AssertionError(f"{number}: {data!r}") from error
        assert code == 0 or (text.startswith("Stopped: ") and len(text.splitlines()) == 1), data
        codes.append(code)
    assert 20 < sum(codes) < 80  # some can be diagnosed, others not


@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, -math.inf, math.nan, 1e308, 5e-324, None])
@pytest.mark.parametrize("column", [*COLUMNS, "every"])
def test_a_column_of_one_value_is_diagnosed(column, value):
    log = [
        {
            k: value if k not in ("step", "label") and column in (k, "every") else x
            for k, x in line.items()
        }
        for line in base()
    ]
    found = diagnose(log)
    assert found
    assert all("\n" not in verdict.text for verdict in found)


def of(path, data):
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p: Path("/dev/zero"), "was not written by Monitor"),
        (lambda p: Path("/dev/null"), "is empty"),
        (lambda p: p, "is empty"),
        (lambda p: (p / "in").mkdir() or p, "was not written by Monitor"),
        (lambda p: Path(sys.executable), "was not written by Monitor"),
        (
            lambda p: (p / "x").write_bytes(encoded([FIELDS]) + bytes(3_000_000)) and p / "x",
            "row 2 is not valid CSV: it is longer than",
        ),
        (lambda p: (p / "x").write_bytes(encoded([FIELDS]) + b'0,"' * 9) and p / "x", "is empty"),
        (
            lambda p: (p / "x").write_bytes(b"\xef\xbb\xbf" + encoded([FIELDS])) and p / "x",
            "is empty",
        ),
        (lambda p: p / "x" / "y", "No such file"),
    ],
    ids=["zero", "null", "folder", "folders", "binary", "zeros", "quotes", "mark", "gone"],
)
def test_what_is_no_run_is_said_in_a_line(make, said, tmp_path, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        code, text = call(capsys, make(tmp_path))
    lines = [line for line in text.splitlines() if not line.startswith("Note: ")]
    assert code == 1
    assert len(lines) == 1
    assert said in lines[0]


def test_damaged_parquet_is_refused_in_a_line(tmp_path, capsys):
    drawn, folder = random.Random(0), tmp_path / "run"
    written(base(), sinks.parquet(folder))
    part = next(folder.iterdir())
    whole = part.read_bytes()
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(drawn.randrange(1, 20)):
            data[drawn.randrange(len(data))] = drawn.randrange(256)
        part.write_bytes(data)
        code, text = call(capsys, folder)
        assert code == 0 or (text.startswith("Stopped: ") and len(text.splitlines()) == 1)


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_csv_that_excel_saved_is_read(end, tmp_path):
    path, whole = tmp_path / "run.csv", encoded([FIELDS, *map(cells, base())])
    path.write_bytes(b"\xef\xbb\xbf" + whole.replace(b"\n", end))
    (tmp_path / "plain.csv").write_bytes(whole)
    texts = [[x.text for x in diagnose(tmp_path / name)] for name in ("run.csv", "plain.csv")]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize(
    ("label", "why"),
    [
        (b"\xff", "row 21 has the byte 0xff, which is not UTF-8 text"),
        (b"a" * 140_000, "row 21 is not valid CSV: field larger than field limit"),
        (b"all,much", "row 21 is '19,all,much"),
    ],
)
def test_a_bad_row_of_a_csv_is_named(label, why, mark, tmp_path):
    rows = [
        b"%d,%b%b" % (i, label if i == 19 else b"all", b"," * (len(FIELDS) - 2)) for i in range(30)
    ]
    path = tmp_path / "run.csv"
    path.write_bytes(mark + encoded([FIELDS]) + b"\n".join([*rows, b""]))
    with pytest.raises(ValueError, match=rf"run\.csv: {why}"):
        diagnose(path)

"""Arguments of the commands: names that do not exist, studies that do not exist, help."""

import pytest
from processes import call

from tangential_lab import experiments
from tangential_lab.cli.study.options import default_name
from tangential_lab.training import DEFAULT_OPTIMIZERS, OPTIMIZERS


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["compare", "digts"], "unknown task 'digts'. Did you mean 'digits'?"),
        (["compare", "digits", "--optimizers", "adampp"], "Did you mean 'adamp'?"),
        (["compare", "digits", "--trials", "-1"], "Must be >= 0"),
        (["compare", "digits", "--seeds", "0"], "Must be >= 1"),
        (["compare", "digits", "--trails", "3"], "Did you mean --trials?"),
        (["compair"], 'Did you mean "compare"?'),
    ],
)
def test_the_most_similar_name_is_suggested(arguments, words, capsys):
    status, out, err = call(capsys, *arguments)
    assert (status, out) == (2, "")
    assert words in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["compare", "digits", "--preset", "paper"], "preset must be mini, got 'paper'"),
        (
            ["compare", "digits", "--optimizer", "x"],
            "--optimizer must be name=module:factory, got 'x'",
        ),
        (["compare", "digits", "--optimizer", "sgd=a:b"], "'sgd' is the laboratory's own"),
        (["compare", "digits", "--storage", "x"], "--storage 'x' is not a valid URL"),
        (["worker", "nothing"], "there is no study 'nothing'"),
        (["report", "nothing"], "there is no study 'nothing'"),
        (["watch", "nothing"], "there is no study 'nothing'"),
    ],
)
@pytest.mark.slow
def test_a_wrong_value_is_named_and_no_study_is_begun(
    arguments, words, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    status, out, err = call(capsys, *arguments)
    assert status == 1
    assert out.startswith("Preparing: ") or not out
    assert words in err
    assert not list(tmp_path.rglob("*.html"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["list"], [*experiments.NAMES, *OPTIMIZERS]),
        (["--help"], ["compare", "worker", "report", "watch", "list"]),
        (["compare", "--help"], ["--optimizers", "--trials", "--seeds", "--storage", "--data"]),
    ],
)
def test_list_and_help_name_everything(arguments, words, capsys):
    status, out, err = call(capsys, *arguments)
    assert (status, err) == (0, "")
    assert all(word in out for word in words)


def test_the_default_optimizers_exist():
    assert set(DEFAULT_OPTIMIZERS) <= set(OPTIMIZERS)


@pytest.mark.parametrize("task", experiments.NAMES)
def test_a_study_is_named_after_its_task(task):
    assert default_name(task, {}) == task

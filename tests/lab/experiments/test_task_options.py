"""What every task's function refuses."""

import pytest

from tangential_lab import experiments as tasks

WRONG = [
    ("digits", {"preset": "paper"}, "preset must be mini, got 'paper'"),
    ("imagenet", {"preset": "x"}, "preset must be mini or paper, got 'x'"),
    ("imagenet", {"cutmix": "no"}, "cutmix must be False or True, got 'no'"),
    ("detection", {"preset": "Paper"}, "preset must be mini or paper, got 'Paper'"),
    ("detection", {"detector": "x"}, "detector must be centernet or ssd, got 'x'"),
    ("adversarial", {"norm": "l1"}, "norm must be linf or l2, got 'l1'"),
    ("adversarial", {"train": "cleen"}, "train must be adversarial or clean, got 'cleen'"),
    ("bias", {"method": "vanilla"}, "method must be rebias or plain, got 'vanilla'"),
]
MADE_ALONE = [
    ("audio", {"subject": "x"}, "subject must be keywords, events or music, got 'x'"),
    ("retrieval", {"loss": "x"}, "loss must be proxyanchor or triplet, got 'x'"),
    ("language", {"weight_norm": "no"}, "weight_norm must be False or True, got 'no'"),
]


@pytest.mark.parametrize(("name", "options", "message"), [*WRONG, *MADE_ALONE])
def test_values_that_an_option_does_not_have_are_refused(name, options, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        tasks.make(name, None, options)


@pytest.mark.parametrize("name", ["imagenet", "detection", "adversarial", "bias", "retrieval"])
def test_mini_always_holds_out_training_data(name, tmp_path):
    assert "held_out=yes|no" in map(str, tasks.options(name).values())
    with pytest.raises(ValueError, match="held_out must be True with preset 'mini', got False"):
        tasks.make(name, tmp_path, {"held_out": False})


@pytest.mark.parametrize("name", tasks.NAMES)
def test_a_task_says_how_it_differs_from_the_paper(name):
    text = tasks.task_function(name).__doc__
    assert "Differences from the paper:" in text or "Not an experiment of the paper" in text


@pytest.mark.parametrize(("name", "options", "message"), WRONG)
def test_a_task_function_refuses_the_same_values(name, options, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        tasks.task_function(name)(**options)


@pytest.mark.parametrize(
    ("task", "text", "value"),
    [
        ("bias", "rho=0.995", {"rho": 0.995}),
        ("imagenet", "cutmix=yes", {"cutmix": True}),
        ("imagenet", "cutmix=no", {"cutmix": False}),
        ("retrieval", "dataset=cub", {"dataset": "cub"}),
    ],
)
def test_options_are_read_from_the_command_line(task, text, value):
    assert tasks.parse_options(task, [text]) == value


@pytest.mark.parametrize(
    ("task", "text", "message"),
    [
        ("bias", "method=vanilla", r"method must be rebias or plain, got 'vanilla'"),
        ("bias", "rho=much", r"rho must be a finite number, got 'much'"),
        ("bias", "rho=nan", r"rho must be a finite number, got nan"),
        ("imagenet", "cutmix=maybe", r"cutmix must be no or yes, got 'maybe'"),
        ("bias", "rho", r"an option of bias must be written as name=value, got 'rho'"),
        ("bias", "metod=plain", r"unknown bias option 'metod'\. Did you mean 'method'\? .*list.*"),
    ],
)
def test_the_command_line_refuses_other_values_and_names(task, text, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        tasks.parse_options(task, [text])


def test_an_option_shows_its_values_with_the_default_first():
    shown = [str(option) for option in tasks.options("imagenet").values()]
    assert shown[0] == "preset=mini|paper"
    assert "cutmix=no|yes" in shown
    assert "rho=0.99" in map(str, tasks.options("bias").values())


@pytest.mark.parametrize("name", tasks.NAMES)
def test_a_task_says_what_it_is_and_what_can_be_chosen(name):
    assert len(tasks.about(name)) > 20
    assert str(tasks.options(name)["preset"]).startswith("preset=mini")


def test_unknown_options_are_refused():
    with pytest.raises(ValueError, match=r"unknown digits option 'preste'\. Did you mean 'pre"):
        tasks.parse_options("digits", ["preste=mini"])
    with pytest.raises(ValueError, match="preset must be mini, got 'maxi'"):
        tasks.parse_options("digits", ["preset=maxi"])

"""What every task's function refuses, however it is called."""

import pytest

from tangential_lab import experiments as tasks

WRONG = [
    ("digits", {"preset": "paper"}, "preset is 'paper', allowed are mini"),
    ("imagenet", {"preset": "x"}, "preset is 'x', allowed are mini, paper"),
    ("imagenet", {"cutmix": "no"}, "cutmix is 'no', allowed are True, False"),
    ("detection", {"preset": "Paper"}, "preset is 'Paper', allowed are mini, paper"),
    ("detection", {"detector": "x"}, "detector is 'x', allowed are centernet, ssd"),
    ("adversarial", {"norm": "l1"}, "norm is 'l1', allowed are linf, l2"),
    ("adversarial", {"train": "cleen"}, "train is 'cleen', allowed are adversarial, clean"),
    ("bias", {"method": "vanilla"}, "method is 'vanilla', allowed are rebias, plain"),
]
MADE_ALONE = [
    ("audio", {"subject": "x"}, "subject is 'x', allowed are keywords, events, music"),
    ("retrieval", {"loss": "x"}, "loss is 'x', allowed are proxyanchor, triplet"),
    ("language", {"weight_norm": "no"}, "weight_norm is 'no', allowed are True, False"),
]


@pytest.mark.parametrize(("name", "options", "message"), [*WRONG, *MADE_ALONE])
def test_values_that_an_option_does_not_have_are_refused(name, options, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        tasks.make(name, None, options)


@pytest.mark.parametrize(("name", "options", "message"), WRONG)
def test_so_they_are_in_python(name, options, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        tasks.function(name)(**options)


def test_the_command_line_says_the_same():
    with pytest.raises(ValueError, match=r"^method is 'vanilla', allowed are rebias, plain$"):
        tasks.parsed("bias", ["method=vanilla"])

"""The trial run of users' optimizers: what would fail in a study is named before it starts."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tangential_lab import experiments as tasks
from tangential_lab.studies import study
from tangential_lab.studies.workers import preflight
from tangential_lab.studies.workers.preflight import PreflightRequest, unresumable
from tangential_lab.training import OPTIMIZERS, Spec, split_groups, user_optimizer
from tangential_lab.training.trial import Trial, TrialOptions, TrialStopped

CODE = """
import os, random, sys
import numpy as np, torch
from torch.optim import SGD, LBFGS

def by_dimension(params, lr, weight_decay):
    return SGD([p for p in params if p.ndim > 1], lr=lr)

def exits(params, lr, weight_decay):
    sys.exit(0)

class Interrupts(SGD):
    def step(self, closure=None):
        raise KeyboardInterrupt("odd")

def nothing(params, lr, weight_decay):
    pass

def wants_closure(params, lr, weight_decay):
    return LBFGS([p for g in params for p in g["params"]], lr=lr)

def other_settings(params, learning_rate):
    return SGD(params, lr=learning_rate)

class OnlyMatrices(SGD):
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.grad.flatten(1) @ p.grad.flatten(1).T

class WithoutRate(SGD):
    def __init__(self, params, **options):
        super().__init__(params, **options)
        for group in self.param_groups:
            del group["lr"]

class Draws(SGD):
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.grad.mul_(random.random() + np.random.rand() + torch.rand(()))
        super().step()

class Counts(SGD):
    every = 2
    def __init__(self, params, **options):
        super().__init__(params, **options)
        self.count = 0
    def step(self, closure=None):
        self.count += 1
        if self.count % self.every:
            super().step()

class CountsFar(Counts):
    every = 20

class CountsInGroup(SGD):
    def step(self, closure=None):
        for group in self.param_groups:
            group["count"] = group.get("count", 0) + 1
            for p in group["params"]:
                p.grad.div_(group["count"])
        super().step()

class OwnGenerator(SGD):
    def __init__(self, params, **options):
        super().__init__(params, **options)
        self.generator = torch.Generator().manual_seed(1)
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.grad.mul_(torch.rand((), generator=self.generator))
        super().step()

class Remembers:
    pass

class StrangeState(SGD):
    def step(self, closure=None):
        for p in self.param_groups[0]["params"]:
            self.state[p]["memory"] = Remembers()
        super().step()

def gone(params, lr, weight_decay):
    os._exit(0)

def becomes_another(params, lr, weight_decay):
    os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(600)"])

def leaves_a_child(params, lr, weight_decay):
    if os.fork():
        os._exit(3)
    import time
    time.sleep(20)
    os._exit(0)

class GoneInStep(SGD):
    def step(self, closure=None):
        os.kill(os.getpid(), 9)
"""
GROUPS = [
    {"params": [(8, 3, 3, 3), (10, 8)], "scale_invariant": True},
    {"params": [(8,), ()], "lr": 2.0, "scale_invariant": False},
]
POINT = {"lr": 0.1, "weight_decay": 1e-3}


@pytest.fixture
def path(tmp_path):
    (tmp_path / "mine.py").write_text(CODE)
    return tmp_path / "mine.py"


def tried(source, groups=GROUPS):
    """Test an optimizer in this process."""
    request = PreflightRequest({}, {"sgd": POINT, "adam": POINT | {"lr": 1e-3}}, {}, groups)
    return preflight._test("mine", str(source), request, lambda act: None)


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        ("by_dimension", r"AttributeError: 'dict' object has no attribute 'ndim' \(.*mine.py:7\)"),
        ("exits", r"SystemExit: 0 \(.*mine.py:10\)"),
        ("Interrupts", r"KeyboardInterrupt: odd \(.*mine.py:14\)"),
        ("nothing", r"TypeError: returned NoneType, expected a torch.optim.Optimizer \("),
        ("wants_closure", r"TypeError: .*missing 1 required positional argument: 'closure' \("),
        ("other_settings", r"TypeError: .*unexpected keyword argument 'lr' \("),
        ("OnlyMatrices", r"\w+Error: .* \(.*mine.py:29\)"),
        ("WithoutRate", r"TypeError: has a parameter group without 'lr', which the schedule sets"),
    ],
)
def test_what_fails_is_named_with_its_line(factory, words, path):
    start = r"optimizer 'mine' fails with a list of groups \(.*, lr=0.001, weight_decay=0.001: "
    with pytest.raises(ValueError, match=rf"{start}{words}.*or leave this optimizer out$"):
        tried(f"{path}:{factory}")


@pytest.mark.parametrize(
    "source",
    [
        *("torch.optim:SGD", "torch.optim:AdamW", "torch.optim:NAdam", "torch.optim:Adagrad"),
        *("torch.optim:RMSprop", "tangential:AdamP", "tangential:SGDP", "Draws", "CountsInGroup"),
    ],
)
def test_optimizers_that_continue_from_their_state(source, path):
    assert tried(source if ":" in source else f"{path}:{source}") == ""


@pytest.mark.parametrize("factory", ["Counts", "CountsFar", "OwnGenerator"])
def test_steps_that_need_what_the_state_lacks_are_found(factory, path):
    assert tried(f"{path}:{factory}") == "its next steps differ"


def test_a_state_that_cannot_be_read_again_is_found(path):
    assert tried(f"{path}:StrangeState").startswith("UnpicklingError: ")


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        ("gone", r"The process ended \(exit status 0\) when optimizer 'x' was built\. Correct"),
        ("GoneInStep", r"The process ended \(SIGKILL\) when optimizer 'x' made its first steps"),
        ("becomes_another", r"\(exec of another program\) when optimizer 'x' was built"),
        ("leaves_a_child", r"\(exit status 3\) when optimizer 'x' was built"),
    ],
)
@pytest.mark.slow
def test_a_process_that_ends_is_an_error(factory, words, path):
    with pytest.raises(ValueError, match=words):
        unresumable(PreflightRequest({"x": f"{path}:{factory}"}, {"adam": POINT}, {}, GROUPS))


@pytest.mark.slow
def test_a_file_that_ends_the_process_when_it_is_loaded(tmp_path):
    (tmp_path / "mine.py").write_text("import os\nos._exit(0)\n")
    with pytest.raises(ValueError, match=r"ended \(exit status 0\) when optimizer 'x' was loaded"):
        unresumable(PreflightRequest({"x": f"{tmp_path}/mine.py:own"}, {"adam": POINT}, {}, GROUPS))


def test_groups_are_those_of_a_trial_and_small():
    weight, twin, wide = torch.zeros(8, 3, 3, 3), torch.ones(8, 3, 3, 3), torch.zeros(9999, 64)
    groups = [{"params": [weight, twin, wide], "lr": 10.0, "scale_invariant": True}]
    assert preflight.shapes(groups) == [
        {"params": [(8, 3, 3, 3), (256, 64)], "lr": 10.0, "scale_invariant": True}
    ]
    seen = []

    def build(groups, **point):
        seen.extend([(g["lr"], g["kind"], [p.shape for p in g["params"]]) for g in groups])
        return torch.optim.SGD([{"params": g["params"]} for g in groups], **point)

    values = [torch.zeros(8), torch.zeros(2, 3)]
    given = [{"params": [(8,), (2, 3)], "lr": 10.0, "kind": "own"}]
    preflight._built(OPTIMIZERS["sgd"]._replace(build=build), POINT, given, values)
    assert seen == [(1.0, "own", [(8,), (2, 3)])]


@pytest.fixture(scope="module")
def digits():
    return tasks.make("digits", None, {})


@pytest.mark.slow
def test_a_study_knows_which_optimizers_do_not_resume(digits, path):
    request = study.StudyRequest(
        *("digits", {}, ("sgd",), {"x": f"{path}:Counts", "y": f"{path}:Draws"}, 1, 1, 1, False),
        *("no", 1, False),
    )
    with pytest.warns(UserWarning, match=r"optimizer 'x' does not continue from its state_dict \("):
        plan = study.make_plan(request, digits)
    assert {name: optimizer.resumes for name, optimizer in plan.optimizers.items()} == {
        "sgd": True,
        "x": False,
        "y": True,
    }
    assert type(plan).of(plan.text()).text() == plan.text()


class TestResumedTrial:
    def trained(self, digits, **run):
        class Draws(torch.optim.SGD):
            def step(self, closure=None):
                for group in self.param_groups:
                    for p in group["params"]:
                        p.grad.mul_(random.gauss(1, 0.5) * np.random.randn())
                super().step()

        def build(groups, **point):
            return Draws([{"params": g["params"]} for g in groups], **point)

        spec = Spec("sgd", "tune", 0, tuple(POINT.items()))
        return Trial(
            digits, OPTIMIZERS["sgd"]._replace(build=build), spec, TrialOptions(1, **run)
        ).train()

    @pytest.mark.slow
    def test_draws_from_random_and_numpy_continue(self, digits, tmp_path):
        whole = self.trained(digits)
        steps = iter(range(7, -1, -1))
        with pytest.raises(TrialStopped):
            self.trained(digits, folder=tmp_path, stop=lambda: not next(steps))
        random.seed(99)
        np.random.seed(99)
        resumed = self.trained(digits, folder=tmp_path)
        assert resumed["loss"] == whole["loss"]
        assert resumed["curves"]["loss"] == whole["curves"]["loss"]


def test_a_tasks_own_groups_are_passed_on(digits):
    model = digits.model()
    groups = preflight.shapes(split_groups(digits, model, frozenset({"0.weight"}), 1.0))
    kinds = [(group["scale_invariant"], group["hidden"]) for group in groups]
    assert kinds == [(True, False), (False, True), (False, False)]
    assert groups[0]["params"] == [tuple(model.get_parameter("0.weight").shape)]


def test_a_setting_missing_in_the_space_is_named(tmp_path):
    path = tmp_path / "noisy.py"
    path.write_text(
        "from torch.optim import SGD\n"
        "def noisy(params, lr, weight_decay): return SGD(params, lr=lr)\n"
        "noisy.space = {'lr': (0.01, 1)}\n"
        "def more(params, lr, rho, eps=0): return SGD(params, lr=lr)\n"
        "more.space = {'lr': (0.01, 1)}\n"
    )
    for name, setting in (("noisy", "weight_decay"), ("more", "rho")):
        with pytest.raises(ValueError, match=f"^{name}.space lacks {setting}, which the factory"):
            user_optimizer(0, name, f"{path}:{name}")


def test_a_file_that_cannot_be_read_is_named(monkeypatch):
    def refused(*_):
        raise PermissionError(13, "Permission denied", "mine.py")

    monkeypatch.setattr(preflight.training, "user_optimizer", refused)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    sent = []
    messages = SimpleNamespace(send=sent.append)
    preflight._test_all(PreflightRequest({"x": "mine.py:f"}, {}, {}, []), messages)
    assert str(sent[-1]) == "[Errno 13] Permission denied: 'mine.py'"
    assert isinstance(sent[-1], ValueError)

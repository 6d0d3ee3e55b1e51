"""A file of models, most of them odd, and how tests run `tangential audit`."""

from processes import call

MODELS = """
import sys, threading
from dataclasses import dataclass
import torch
from torch import nn

class Raises(nn.Linear):
    def __init__(self, error):
        super().__init__(4, 3)
        self.error = error
    def forward(self, x):
        raise self.error

class Refuses(nn.Linear):
    def __deepcopy__(self, memo):
        raise ValueError("not to be copied")

class Asserts(nn.Linear):
    def forward(self, x):
        assert x.dtype == torch.float32, "float32 only"
        return super().forward(x)

class Exits(nn.Linear):
    def forward(self, x):
        sys.exit(0)

def inputs():
    return [torch.randn(5, 4) for _ in range(3)]

def conv(): return nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6))
def with_batches():
    return nn.Sequential(nn.Linear(4, 3, bias=False), nn.LayerNorm(3)), [torch.randn(2, 4)] * 2
def good(): return nn.Sequential(nn.Linear(4, 3, bias=False), nn.LayerNorm(3)), inputs()
def model(): return nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3))
def raises(): raise RuntimeError("no weights here")
def raises_badly(): raise KeyError("x" * 3_000_000)
def divides(): return 1 / 0
def exits(): sys.exit(0)
def wants(width, depth=2): return nn.Linear(width, depth)
def number(): return 3
def none(): pass
def kind(): return nn.Linear
def three(): return model(), inputs(), 3
def numbers(): return model(), 5
def no_batches(): return model(), []
def words(): return model(), "words"
def one_batch(): return model(), torch.randn(5, 4)
def lambdas(): return model(), [lambda model: 1 / 0]
def lines(): return Raises(ValueError("one\\ntwo\\x1b[31m\\n" * 100)), inputs()
def long(): return Raises(RuntimeError("x" * 3_000_000)), inputs()
def looks_up(): return Raises(KeyError(3)), inputs()
def silent(): return Raises(AssertionError()), inputs()
def memory(): return Raises(MemoryError()), inputs()
def exits_inside(): return Exits(4, 3), inputs()
def refuses(): return Refuses(4, 3), inputs()
def weightless(): return nn.ReLU(), inputs()
def meta(): return nn.Linear(4, 3, device="meta"), inputs()
def lazy(): return nn.LazyLinear(3), inputs()
def returns_none(): return type("M", (nn.Linear,), {"forward": lambda m, x: None})(4, 3), inputs()
def names():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.add_module("=1+1", nn.Linear(4, 3))
            self.add_module("[/x]", nn.Linear(3, 3))
            self.add_module("@a", nn.Linear(3, 3))
        def forward(self, x):
            for module in self.children():
                x = module(x)
            return x
    return Net(), inputs()
"""


def written(folder):
    """The path of a file that holds the models."""
    path = folder / "models.py"
    path.write_text(MODELS)
    return path


def run_audit(capsys, *arguments):
    """Exit status, standard output and standard error of the command."""
    return call(capsys, "audit", *arguments)


def assert_one_line(status, out, err, words):
    """The command failed with one readable line that has these words."""
    assert status not in (0, None)
    assert out == ""
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert "Traceback" not in err
    assert "bug in" not in err
    assert "\x1b" not in err
    assert len(err) < 2500
    assert words in err

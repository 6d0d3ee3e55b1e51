"""Triton compiles a kernel once for a form: compiling while a graph is captured could fail."""

import pytest
import torch
from table import every_rule, leaf, usual

triton = pytest.importorskip("triton")
from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.runtime import driver  # noqa: E402

from tangential.backends.triton import available, kernels, plan  # noqa: E402


class NoGpu:
    """As a driver of Triton's, of a GPU that is not there."""

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 0

    def get_current_target(self):
        return GPUTarget("cuda", 90, 32)


@pytest.fixture
def forms(monkeypatch):
    """The kernels that Triton would compile, with the forms' keys; it compiles and runs none."""
    result = set()
    monkeypatch.setattr(available, "interpreted", lambda: True)  # weights on the CPU
    monkeypatch.setattr(driver, "_active", NoGpu())
    for name in ("guess", "advance", "judge", "amend"):
        kernel = triton.JITFunction(getattr(kernels, name).fn)
        monkeypatch.setattr(kernel, "_do_compile", lambda key, *_, n=name: result.add((n, key)))
        monkeypatch.setattr(kernels, name, kernel)
    return result


@every_rule
def test_one_form_serves_all_weights_and_captured_steps(cls, forms, monkeypatch):
    for shapes in ([(6, 5), (3,)], [(6, 5), (3,), (4, 4)], [(5, 7)] * 4):
        params = [leaf(torch.randn(shape)) for shape in shapes]
        optimizer = cls(params, fused=True, capturable=True, **usual(cls))
        for is_captured in (False, True):
            monkeypatch.setattr(plan, "is_capturing", lambda _, x=is_captured: x)
            for p in params:
                p.grad = torch.randn_like(p)
            optimizer.step()
    assert sorted(name for name, _ in forms) == ["advance", "amend", "guess", "judge"]

"""The benchmark on a GPU: what it would measure, on a machine that has none."""

import gpu
import pytest
import torch
from torch import nn


def test_without_a_gpu_it_says_so_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    gpu.main(["tiny"])
    assert capsys.readouterr().out == "No GPU was found, so nothing was measured\n"


def test_an_unknown_model_is_refused(capsys):
    with pytest.raises(SystemExit):
        gpu.main(["resnet"])
    assert "choose from resnet50" in capsys.readouterr().err


def test_llama_has_a_billion_weights():
    assert sum(torch.Size(shape).numel() for shape in gpu.MODELS["llama"]()) == 1_235_814_400


def test_optimizers_without_a_kernel_step_anywhere():
    for name, peer in gpu.OPTIMIZERS.items():
        if "foreach" in name and not gpu.missing(name):
            weight = nn.Parameter(torch.ones(3, 4))
            weight.grad = torch.ones_like(weight)
            peer.build([weight]).step()


def test_a_line_has_the_bandwidth_and_its_share_of_a_copy():
    line = gpu.line("torch SGD foreach", gpu.Figures(2.0, 7, 3_000_000), 1.0, 10**8)
    # 20 bytes per weight in 2 ms; a copy moves 8 in 1 ms
    assert line.split()[3:] == [
        *("2.000", "ms", "7", "launches", "1000", "GB/s", "125", "%", "of", "copy", "3", "MB")
    ]

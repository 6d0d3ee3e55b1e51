"""Trainers: full state_dicts, GradScaler, Lightning, weights that are added later."""

import copy
import json

import pytest
import torch
from table import every_rule
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from trained_nets import given_gradients, weights

from tangential import AdamP


def usual(cls):
    return {"lr": 0.05} if cls is AdamP else {"lr": 0.05, "momentum": 0.9}


def test_a_weight_that_moves_on_in_the_optimizer_resumes_with_its_noise():
    """Stochastic rounding tells weights apart by their places, which a new weight shifts."""
    first, second = (nn.Parameter(torch.randn(8, 8).bfloat16()) for _ in range(2))
    optimizer = AdamP([{"params": [first]}, {"params": [second]}], low_precision="stochastic")
    given_gradients([first, second])
    optimizer.step()
    optimizer.param_groups[0]["params"].append(nn.Parameter(torch.randn(2)))
    saved, twin = copy.deepcopy(optimizer.state_dict()), copy.deepcopy(second)
    other = AdamP(
        [
            {
                "params": [
                    nn.Parameter(torch.randn_like(p)) for p in optimizer.param_groups[0]["params"]
                ]
            },
            {"params": [twin]},
        ],
        low_precision="stochastic",
    )
    other.load_state_dict(saved)
    given_gradients([second])
    twin.grad = second.grad.clone()
    first.grad = None
    optimizer.step()
    other.step()
    assert torch.equal(second, twin)


@every_rule
@pytest.mark.parametrize("state_dtype", [torch.float32, "float32"])
def test_options_and_full_state_dicts_are_plain(cls, state_dtype):
    model = nn.Linear(4, 3).bfloat16()
    optimizer = cls(model.parameters(), state_dtype=state_dtype, **usual(cls))
    given_gradients(model.parameters())
    optimizer.step()
    for group in optimizer.param_groups:
        json.dumps({k: v for k, v in group.items() if k != "params"})
    full = StateDictOptions(full_state_dict=True, cpu_offload=True)
    saved = get_optimizer_state_dict(model, optimizer, options=full)
    other = cls(model.parameters(), **usual(cls))
    set_optimizer_state_dict(model, other, saved)
    assert other.param_groups[0]["state_dtype"] == "float32"
    name = optimizer.buffers[0]
    assert optimizer.state[model.weight][name].dtype == torch.float32
    optimizer.param_groups[0]["state_dtype"] = torch.float32  # as a user may set it later
    optimizer.step()


@every_rule
@pytest.mark.parametrize("fused", [None, True, False])
def test_grad_scaler_without_any_gradient_steps_nothing(cls, fused):
    params = weights()
    before = copy.deepcopy(params)
    optimizer = cls(params, fused=fused, **usual(cls))
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    scaler.scale(torch.ones((), requires_grad=True) * 1.0).backward()
    reference = torch.optim.AdamW(weights(), fused=fused)
    try:
        scaler.step(reference)
    except AssertionError:  # what torch says where the scaler finds no gradient to check
        with pytest.raises(AssertionError, match="No inf checks"):
            scaler.step(optimizer)
    else:
        scaler.step(optimizer)
    assert all(torch.equal(p, q) for p, q in zip(params, before, strict=True))


@every_rule
def test_only_fused_true_claims_to_unscale(cls):
    assert cls(weights(), fused=True, **usual(cls))._step_supports_amp_scaling
    for chosen in ({}, {"fused": False}, {"foreach": True}):
        assert not cls(weights(), **chosen, **usual(cls))._step_supports_amp_scaling


@every_rule
@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_lightning_clips_gradients_in_mixed_precision(cls, tmp_path):
    lightning = pytest.importorskip("lightning")

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(4, 1)

        def training_step(self, batch, _):
            return 1e3 * self.net(batch).square().mean()

        def configure_optimizers(self):
            return cls(self.parameters(), **usual(cls))

    module = Module()
    before = copy.deepcopy(module.net.weight)
    trainer = lightning.Trainer(
        accelerator="cpu",
        precision="bf16-mixed",
        gradient_clip_val=1.0,
        max_steps=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(module, torch.utils.data.DataLoader(torch.randn(8, 4), batch_size=4))
    assert trainer.global_step == 2
    assert not torch.equal(module.net.weight, before)

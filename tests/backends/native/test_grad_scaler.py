"""With fused=True, GradScaler leaves unscaling and skipping to the step."""

import copy

import torch
from table import (
    every_rule,
    leaf,
    needs_kernel,
    usual,
)

pytestmark = needs_kernel


@every_rule
def test_grad_scaler_leaves_unscaling_and_skipping_to_the_step(cls):
    shapes = [(6, 4), (5,), (200, 300)]
    start = [torch.randn(shape) for shape in shapes]
    params, twins = ([leaf(w.clone()) for w in start] for _ in range(2))
    scaled, plain = cls(params, fused=True, **usual(cls)), cls(twins, **usual(cls))
    assert scaled._step_supports_amp_scaling
    assert not plain._step_supports_amp_scaling  # trainers would refuse to clip its gradients
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=2)
    for t in range(5):
        for p, q in zip(params, twins, strict=True):
            q.grad = torch.randn_like(q)
            p.grad = scaler.scale(q.grad.clone())
            if t == 2:
                p.grad.view(-1)[-1] = torch.inf
        weights = [p.detach().clone() for p in params]
        state = copy.deepcopy(scaled.state_dict())
        scaler.step(scaled)
        scaler.update()
        if t == 2:
            assert all(torch.equal(p, w) for p, w in zip(params, weights, strict=True))
            after = scaled.state_dict()["state"]
            assert all(
                torch.equal(after[i][k], v) for i, s in state["state"].items() for k, v in s.items()
            )
        else:
            plain.step()
            for p, q in zip(params, twins, strict=True):
                assert torch.equal(p, q)
                assert torch.equal(p.grad, q.grad)  # unscaled, as torch's fused optimizers leave it


@every_rule
def test_grad_scaler_and_a_weight_that_the_kernel_leaves(cls):
    p, q = leaf(torch.randn(4, 6)[:, ::2]), leaf(torch.randn(3, 3))
    twins = [leaf(x.detach().clone()) for x in (p, q)]
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    optimizer, plain = cls([p, q], fused=True, **usual(cls)), cls(twins, **usual(cls))
    for x, twin in zip((p, q), twins, strict=True):
        twin.grad = torch.randn_like(x)
        x.grad = scaler.scale(twin.grad.clone())
    scaler.step(optimizer)
    plain.step()
    for x, twin in zip((p, q), twins, strict=True):
        torch.testing.assert_close(x, twin)
        assert torch.equal(x.grad, twin.grad)

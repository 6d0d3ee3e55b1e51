"""Steps around which something else happens: hooks, closures, schedulers, GradScaler, errors."""

import gc

import pytest
import torch
from optimizers import equal, net, train
from table import leaf
from torch import nn
from torch.optim.lr_scheduler import StepLR

from tangential import AdamP, audit, param_groups, project


def pair(*shapes):
    """Weights and copies of them, with equal gradients that are tangent to the rows."""
    ours = [leaf(torch.randn(shape, dtype=torch.float64)) for shape in shapes]
    theirs = [leaf(p.detach().clone()) for p in ours]
    give_gradients(ours, theirs)
    return ours, theirs


def give_gradients(ours, theirs):
    for p, q in zip(ours, theirs, strict=True):
        w, g = q.detach(), torch.randn_like(q)
        q.grad = g - (g * w).sum(-1, True) / (w * w).sum(-1, True) * w if q.dim() > 1 else g
        p.grad = q.grad.clone()


def close(ours, theirs):
    return all(torch.allclose(*x, rtol=1e-12) for x in zip(ours, theirs, strict=True))


class TestHooks:
    def test_hooks_after_the_step_see_the_projected_weights(self):
        ours, theirs = pair((4, 6))
        optimizer, seen = torch.optim.Adam(ours, lr=0.1), []
        see = lambda *_: seen.append(ours[0].detach().clone())
        optimizer.register_step_post_hook(see)  # before project
        project(optimizer)
        optimizer.register_step_post_hook(see)  # and after
        optimizer.step()
        AdamP(theirs, lr=0.1).step()
        assert all(close([weight], theirs) for weight in seen)
        assert len(seen) == 2

    def test_gradients_that_an_earlier_hook_rewrites_are_the_ones_judged(self):
        ours, theirs = pair((4, 6))
        good, ours[0].grad = ours[0].grad, ours[0].detach().clone()
        optimizer = torch.optim.Adam(ours, lr=0.1)
        optimizer.register_step_pre_hook(lambda *_: setattr(ours[0], "grad", good))
        project(optimizer).step()
        AdamP(theirs, lr=0.1).step()
        assert close(ours, theirs)

    def test_a_later_hook_may_clip_them(self):
        ours, theirs = pair((4, 6))
        optimizer = project(torch.optim.SGD(ours, lr=0.1))
        optimizer.register_step_pre_hook(lambda *_: nn.utils.clip_grad_norm_(ours, 0.5) and None)
        optimizer.step()
        plain = ours[0].detach() - theirs[0].detach()
        assert plain.norm().item() == pytest.approx(0.05, rel=1e-4)
        assert (plain * theirs[0]).sum(1).abs().max() < 1e-15


class TestClosures:
    @pytest.mark.parametrize("by_name", [False, True])
    def test_gradients_may_come_from_the_closure(self, by_name):
        ours, theirs = pair((4, 6), (6,))
        grads = [p.grad for p in ours]
        for p in ours:
            p.grad = None

        def closure():
            assert torch.is_grad_enabled()
            for p, g in zip(ours, grads, strict=True):
                p.grad = g
            return 7.0

        optimizer = project(torch.optim.Adam(ours, lr=0.1), weight_decay=0.1)
        loss = optimizer.step(closure=closure) if by_name else optimizer.step(closure)
        AdamP(theirs, lr=0.1, weight_decay=0.1).step()
        assert loss == 7.0
        assert close(ours, theirs)

    def test_an_error_in_the_closure_changes_nothing(self):
        ours, theirs = pair((4, 6))
        optimizer = project(torch.optim.Adam(ours, lr=0.1), weight_decay=0.1)
        with pytest.raises(ZeroDivisionError):
            optimizer.step(lambda: 1 / 0)
        assert torch.equal(ours[0], theirs[0])
        optimizer.step()
        AdamP(theirs, lr=0.1, weight_decay=0.1).step()
        assert close(ours, theirs)

    def test_optimizers_that_evaluate_it_twice_are_refused(self):
        class Twice(torch.optim.SGD):
            def step(self, closure):
                closure()
                return closure()

        w = leaf(torch.randn(3, 4))
        w.grad = torch.randn(3, 4)
        before = w.detach().clone()
        with pytest.raises(RuntimeError, match="Twice evaluates its closure several times"):
            project(Twice([w], lr=0.1)).step(lambda: 0.0)
        assert torch.equal(w, before)


class TestOptionsOfSteps:
    def test_schedulers_and_tensor_learning_rates(self):
        ours, theirs = pair((4, 6), (6,))
        optimizer = project(torch.optim.Adam(ours, lr=torch.tensor(0.1)), weight_decay=0.1)
        plain = AdamP(theirs, lr=0.1, weight_decay=0.1)
        schedulers = [StepLR(x, 1, 0.5) for x in (optimizer, plain)]
        for _ in range(3):
            give_gradients(ours, theirs)
            for stepping in (optimizer, plain, *schedulers):
                stepping.step()
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-9)  # lr is in float32

    def test_groups_added_later_take_the_options(self):
        ours, theirs = pair((4, 6), (5, 3), (2, 2))
        options = {"weight_decay": 0.1, "projection": "row"}
        optimizer = project(torch.optim.Adam(ours[:1], lr=0.1), **options)
        optimizer.add_param_group({"params": ours[1:2]})
        optimizer.add_param_group({"params": ours[2:], "project_weight_decay": 0, "lr": 0.2})
        plain = AdamP(theirs[:1], lr=0.1, **options)
        plain.add_param_group({"params": theirs[1:2]})
        plain.add_param_group({"params": theirs[2:], "weight_decay": 0, "lr": 0.2})
        optimizer.step()
        plain.step()
        assert close(ours, theirs)

    def test_groups_of_an_audit(self):
        torch.manual_seed(0)
        ours, theirs = net(), net()
        theirs.load_state_dict(ours.state_dict())
        result = audit(ours, [torch.randn(8, 2, 4, 4) for _ in range(3)])
        optimizer = project(torch.optim.Adam(param_groups(ours, result), lr=0.1), weight_decay=0.1)
        plain = AdamP(param_groups(theirs, result), lr=0.1, weight_decay=0.1)
        assert [g["projection"] for g in optimizer.param_groups] == ["row", "off"]
        train(ours, optimizer, 3)
        train(theirs, plain, 3)
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)

    def test_weights_without_gradients_do_not_move(self):
        ours, _ = pair((4, 6), (4, 6), (6,))
        ours[1].grad = ours[2].grad = None
        befores = [p.detach().clone() for p in ours]
        project(torch.optim.Adam(ours, lr=0.1), weight_decay=0.1).step()
        moved = [not torch.equal(*x) for x in zip(ours, befores, strict=True)]
        assert moved == [True, False, False]

    def test_channels_last_strided_and_complex_weights(self):
        w = torch.randn(6, 4, 3, 3, dtype=torch.float64)
        weights = [
            w.to(memory_format=torch.channels_last),
            torch.randn(6, 8, dtype=torch.float64)[:, ::2],
            torch.randn(4, 3, dtype=torch.complex128),
        ]
        ours = [leaf(x) for x in weights]
        theirs = [leaf(x.clone()) for x in weights]
        optimizer = project(torch.optim.Adam(ours, lr=0.1), weight_decay=0.1, projection="row")
        plain = AdamP(theirs, lr=0.1, weight_decay=0.1, projection="row")
        for _ in range(3):
            for p, q in zip(ours, theirs, strict=True):
                p.grad = torch.randn_like(p)
                q.grad = p.grad.clone()
            optimizer.step()
            plain.step()
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-13)


class TestGradScaler:
    @pytest.mark.parametrize("fused", [False, True])
    @pytest.mark.parametrize("radial", ["remove", "rotational"])
    def test_skipped_steps_change_nothing(self, fused, radial):
        shapes = [(6, 4), (5,), (20, 30)]
        ours = [leaf(torch.randn(shape)) for shape in shapes]
        theirs = [leaf(p.detach().clone()) for p in ours]
        optimizer, plain = (
            project(
                torch.optim.Adam(params, lr=0.1, fused=fused or None),
                weight_decay=0.1,
                projection="row",
                radial=radial,
            )
            for params in (ours, theirs)
        )
        scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
        for t in range(4):
            for p, q in zip(ours, theirs, strict=True):
                q.grad = torch.randn_like(q)
                p.grad = scaler.scale(q.grad.clone())
            if t == 2:
                ours[0].grad.view(-1)[-1] = torch.inf
            else:
                plain.step()
            scaler.step(optimizer)
            scaler.update()
            for p, q in zip(ours, theirs, strict=True):
                assert torch.equal(p, q)
                kept = {k: v for k, v in plain.state[q].items() if k.startswith("radial")}
                assert all(torch.equal(optimizer.state[p][k], v) for k, v in kept.items())


class TestMemory:
    def test_one_copy_of_the_projected_weights_and_nothing_afterwards(self):
        ours, _ = pair((40, 60), (6,), (30, 30))
        frozen = leaf(torch.randn(50, 50, dtype=torch.float64))
        optimizer = torch.optim.Adam([*ours, frozen], lr=0.1)
        optimizer.add_param_group({"params": [leaf(torch.randn(70, 70))], "projection": "off"})
        project(optimizer)
        optimizer.step()
        sizes = []

        def tensors():
            gc.collect()
            return [x for x in gc.get_objects() if type(x) in (torch.Tensor, nn.Parameter)]

        known = {id(x) for x in tensors()}
        count = lambda *_: sizes.append(
            sum(x.nbytes for x in tensors() if id(x) not in known and x.numel() >= 30 * 30)
        )
        optimizer.register_step_pre_hook(count)
        optimizer.register_step_post_hook(count)
        optimizer.step()
        assert sizes == [ours[0].nbytes + ours[2].nbytes, 0]


def test_a_step_after_a_failed_one():
    """The optimizer's own error must not leave copies behind."""

    class Fails(torch.optim.SGD):
        fails = True

        def step(self, closure=None):
            if self.fails:
                raise OSError("full")
            return super().step(closure)

    w = leaf(torch.randn(4, 6).bfloat16())
    w.grad = torch.randn(4, 6).bfloat16()
    twin = leaf(w.detach().clone())
    twin.grad = w.grad.clone()
    optimizer, plain = project(Fails([w], lr=0.1)), project(torch.optim.SGD([twin], lr=0.1))
    with pytest.raises(OSError, match="full"):
        optimizer.step()
    optimizer.fails = False
    optimizer.step()
    plain.step()
    assert optimizer.param_groups[0]["params"][0] is w
    assert torch.equal(w, twin)


def test_training_a_net():
    model, other = net(), net()
    other.load_state_dict(model.state_dict())
    train(model, project(torch.optim.Adam(model.parameters(), lr=0.01)), 5)
    train(other, AdamP(other.parameters(), lr=0.01), 5)
    assert not equal(model, net())
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Dynamo detected a call")
@pytest.mark.slow
def test_a_compiled_step_is_the_usual_one():
    ours, theirs = pair((4, 6), (5, 3), (7,))
    projected = [project(torch.optim.SGD(ps, lr=0.1, momentum=0.9)) for ps in (ours, theirs)]
    step = torch.compile(projected[0].step, backend="eager")
    for _ in range(3):
        give_gradients(ours, theirs)
        step()
        projected[1].step()
    assert close(ours, theirs)

"""Several monitors of one optimizer."""

import pytest
from monitored_nets import EVERY_KIND, OPTIMIZERS, fail_a_step, losses, net, run, train

from tangential import Monitor


@EVERY_KIND
@pytest.mark.parametrize("first_closed", [0, 1])
def test_two_monitors_of_one_optimizer_log_independently(make, first_closed):
    alone = run(make, 6, weights=True)
    model, logged = net(), ([], [])
    optimizer = make(model.parameters())
    monitors = [
        Monitor(model, optimizer, every, lambda v, s, to=to: to.append((s, v)), weights=True)
        for every, to in zip((1, 2), logged, strict=True)
    ]
    for t, loss in enumerate(losses(model, 6)):
        if t == 3:
            monitors[first_closed].close()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    monitors[1 - first_closed].close()
    until = [3 if number == first_closed else 6 for number in range(2)]
    for number, every in enumerate((1, 2)):
        assert logged[number] == [(t, alone[t]) for t in range(0, until[number], every)]
    assert getattr(optimizer, "watch", None) is None


def test_two_monitors_survive_a_step_that_raises():
    model, logged = net(), ([], [])
    optimizer = OPTIMIZERS["AdamP"](model.parameters())
    monitors = [
        Monitor(model, optimizer, 1, lambda v, s, to=to: to.append(v), weights=True)
        for to in logged
    ]
    for t, loss in enumerate(losses(model, 3)):
        loss.backward()
        if t == 1:
            fail_a_step(optimizer)
            monitors[0].close()
            assert optimizer.watch is not None  # the other monitor continues
        optimizer.step()
    monitors[1].close()
    assert optimizer.watch is None
    assert logged[0] == logged[1][:1]
    assert len(logged[1]) == 3


def test_a_watcher_of_the_user_is_kept():
    model, seen = net(), []
    optimizer = OPTIMIZERS["AdamP"](model.parameters())
    optimizer.watch = seen.append
    with Monitor(model, optimizer, 1, lambda v, s: None):
        train(model, optimizer, 1)
    assert len(seen) == 1
    assert optimizer.watch(1) is None
    assert seen[1] == 1

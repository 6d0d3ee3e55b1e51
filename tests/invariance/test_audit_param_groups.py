"""`param_groups` gives an optimizer the units that the audit found."""

from functools import partial

import pytest
import torch
from audit_models import IMAGE, Model, inputs
from torch import nn

from tangential import SGDP, AdamP, audit, param_groups
from tangential.backends import Units, rows_of

TANGENT = {
    "a.0.weight": ("row", 0, 1),
    "b.0.weight": ("row", 1, 2),
    "c.0.weight": ("weight", 0, 1),
}


WRAPPERS = {
    "plain": lambda m: m,
    "compiled": partial(torch.compile, backend="eager"),
    "parallel": nn.DataParallel,
    "parallel compiled": lambda m: nn.DataParallel(torch.compile(m, backend="eager")),
}


def three_norms():
    return Model(
        lambda m, x: m.c(m.b(m.a(x)).mean((2, 3))),
        a=nn.Sequential(nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6)),
        b=nn.Sequential(nn.ConvTranspose2d(6, 4, 3, bias=False), nn.GroupNorm(2, 4)),
        c=nn.Sequential(nn.Linear(4, 6, bias=False), nn.LayerNorm(6), nn.Linear(6, 2)),
    )


@pytest.fixture
def groups():
    model = three_norms()
    result = audit(model, inputs(size=IMAGE))
    return model, result, param_groups(model, result)


def test_groups_have_the_units_of_the_audit(groups):
    model, _, groups = groups
    units = {
        id(p): (g["projection"], g["row_axis"], g["row_groups"])
        for g in groups
        for p in g["params"]
    }
    named = {name: units.pop(id(p)) for name, p in model.named_parameters()}
    assert units == {}
    off = dict.fromkeys(named, ("off", 0, 1))
    assert named == off | TANGENT


@pytest.mark.parametrize("optimizer", [AdamP, SGDP])
def test_the_first_step_is_tangent_to_every_unit(groups, optimizer):
    model, _, groups = groups
    model(torch.randn(IMAGE)).square().sum().backward()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer(groups, lr=1e-3).step()
    for name, units in TANGENT.items():
        start, end = before[name].double(), model.get_parameter(name).detach().double()
        rows = rows_of(start, Units(*units))
        radial = rows.dot(end - start, start) / rows.dot(start, start)
        assert radial.abs().max() < 1e-6 < (end - start).norm()


def test_optimizers_of_torch_take_the_groups(groups):
    optimizer = torch.optim.AdamW(groups[2], lr=1e-3)
    assert [group["projection"] for group in optimizer.param_groups].count("off") == 1


def test_another_model_is_refused(groups):
    model, result, _ = groups
    with pytest.raises(ValueError, match=r"0.weight is not in the audit"):
        param_groups(nn.Sequential(nn.Linear(2, 2)), result)
    model.c[2] = nn.Linear(6, 3)
    with pytest.raises(ValueError, match=r"c.2.weight has shape \(3, 6\), but \(2, 6\)"):
        param_groups(model, result)


def test_swapped_or_missing_arguments_are_explained(groups):
    model, result, _ = groups
    with pytest.raises(TypeError, match=r"audit must be what .*audit\(.*returns, got None"):
        param_groups(model, None)
    with pytest.raises(
        TypeError, match=r"model must be a torch.nn.Module, got an object of type Audit: call"
    ):
        param_groups(result, model)


@pytest.mark.parametrize("outer", WRAPPERS.values(), ids=WRAPPERS)
@pytest.mark.parametrize("inner", WRAPPERS.values(), ids=WRAPPERS)
@pytest.mark.slow
def test_wrappers_of_either_model_do_not_matter(groups, inner, outer):
    model, _, groups = groups
    result = audit(inner(model), inputs(size=IMAGE))

    def by_id(groups):
        return [{**g, "params": [id(p) for p in g["params"]]} for g in groups]

    assert by_id(param_groups(outer(model), result)) == by_id(groups)


@pytest.mark.parametrize("wrap", [nn.DataParallel, partial(torch.compile, backend="eager")])
def test_errors_name_weights_inside_wrappers(groups, wrap):
    _, result, _ = groups
    with pytest.raises(ValueError, match=r"^0.weight is not in the audit"):
        param_groups(wrap(nn.Sequential(nn.Linear(2, 2))), result)


def test_a_layer_that_is_called_module_is_no_wrapper():
    """Without "module", two of its weights would have the same name."""
    both = Model(
        lambda m, x: m.head(m.module(x)),
        head=nn.Linear(4, 4),
        module=Model(lambda m, x: m.head(x), head=nn.Linear(4, 4)),
    )
    result = audit(both, inputs(size=(8, 4)))
    for model in (both, nn.DataParallel(both)):
        assert sum(len(g["params"]) for g in param_groups(model, result)) == 4

"""Bad input: an error that names argument and value, and nothing has changed."""

import copy

import pytest
import torch
from table import RULES, every_backend, every_rule

from tangential import SGDP, AdamP

NAN, INF = float("nan"), float("inf")
BAD = {
    "lr": [-1e-3, True, NAN, INF, "fast", None, torch.tensor(-1.0), torch.ones(2), 10**400, 1j],
    "eps": [-1e-8, NAN, None],
    "weight_decay": [-0.1, NAN, INF],
    "delta": [-0.1, NAN],
    "wd_ratio": [-0.1, NAN, "matchd"],
    "nesterov": ["yes", 1],
    "caution": [1],
    "maximize": [None],
    "capturable": [None],
    "foreach": ["auto"],
    "fused": ["auto", 1],
    "low_precision": ["kahn", True],
    "state_dtype": [torch.bfloat16, "float64"],
    "row_axis": [0.5, "0", True],
    "row_groups": [0, -1, 1.5, True],
    "projection": ["rows", None, 1],
}
BAD_OF = {
    "adam": BAD
    | {
        "betas": [
            (1.0, 0.999),
            (0.9, -0.1),
            (0.9, NAN),
            0.9,
            (0.9,),
            ("a", "b"),
            "99",
            {0.9, 0.99},
            torch.tensor(0.9),
        ]
    },
    "sgd": BAD | {"momentum": [1.0, -0.1, NAN], "dampening": [NAN, "x"], "project_buffer": [2]},
}


def weight(*shape):
    return torch.nn.Parameter(torch.randn(shape))


@pytest.mark.parametrize(
    ("rule", "name", "value"),
    [(rule, name, v) for rule, bad in BAD_OF.items() for name, vs in bad.items() for v in vs],
)
def test_an_option_out_of_range_raises_with_its_name_and_value(rule, name, value):
    cls = RULES[rule]
    with pytest.raises(ValueError, match=f"{name} must be .*, got ") as error:
        cls([weight(2, 3)], **{"lr": 0.1} | {name: value})
    assert repr(value)[:200] in str(error.value)
    assert len(str(error.value)) < 400
    optimizer = cls([weight(2, 3)], lr=0.1)
    with pytest.raises(ValueError, match=f"{name} must be "):
        optimizer.add_param_group({"params": [weight(2)], name: value})
    assert len(optimizer.param_groups) == 1


@every_rule
@pytest.mark.parametrize(("axis", "groups"), [(2, 1), (-3, 1), (0, 3), (1, 2), (0, 8)])
def test_rows_that_a_weight_does_not_have_are_refused(cls, axis, groups):
    with pytest.raises(ValueError, match=r"row_(axis|groups) is -?\d, but .* shape \(4, 3\)"):
        cls([weight(5), weight(4, 3)], lr=0.1, row_axis=axis, row_groups=groups)


@every_rule
def test_row_options_do_not_concern_vectors(cls):
    cls([weight(5), weight()], lr=0.1, row_axis=3, row_groups=2)
    cls([weight(4, 3)], lr=0.1, row_axis=3, projection="off")


@every_rule
def test_no_argument_is_swallowed(cls):
    with pytest.raises(TypeError, match="wd_ration"):
        cls([weight(2)], lr=0.1, wd_ration=0.1)
    with pytest.raises(ValueError, match=r"'wd_ration' .* 'wd_ratio'"):
        cls([{"params": [weight(2)], "wd_ration": 0.1}], lr=0.1)
    cls([{"params": [weight(2)], "lr_scale": 0.1, "name": "head"}], lr=0.1)


def test_sgdp_needs_a_learning_rate_here_or_in_the_group():
    with pytest.raises(ValueError, match="required optimization parameter lr"):
        SGDP([weight(2)])
    assert SGDP([{"params": [weight(2)], "lr": 0.3}]).param_groups[0]["lr"] == 0.3


def test_duplicate_and_empty_parameters_fail_as_in_torch():
    w = weight(2)
    with pytest.raises(ValueError, match="empty parameter list"):
        AdamP([])
    with pytest.raises(ValueError, match="more than one parameter group"):
        AdamP([w]).add_param_group({"params": w})
    with pytest.raises(TypeError):
        AdamP([1.0])


def unchanged_by(optimizer, params, error, match):
    """The step raises, and weights and state stay as they were."""
    before = copy.deepcopy(([p.detach() for p in params], optimizer.state_dict()["state"]))
    with pytest.raises(error, match=match):
        optimizer.step()
    assert all(torch.equal(p, q) for p, q in zip(params, before[0], strict=True))
    after = optimizer.state_dict()["state"]
    assert after.keys() == before[1].keys()
    for index, state in before[1].items():
        assert all(torch.equal(after[index][name], value) for name, value in state.items())


@every_backend
@every_rule
class TestStepChangesNothingBeforeItFails:
    def two(self, cls, backend):
        params = [weight(3, 2), weight(4, 2)]
        optimizer = cls([{"params": [p]} for p in params], lr=0.1, **backend)
        for p in params:
            p.grad = torch.randn_like(p)
        optimizer.step()
        return optimizer, params

    def test_sparse_gradient(self, cls, backend):
        optimizer, params = self.two(cls, backend)
        params[1].grad = params[1].grad.to_sparse()
        unchanged_by(optimizer, params, RuntimeError, r"sparse gradients: .*\(4, 2\)")

    def test_buffer_on_another_device(self, cls, backend):
        optimizer, params = self.two(cls, backend)
        name = optimizer.buffers[0]
        kept = optimizer.state[params[1]]
        optimizer.state[params[1]] = kept | {name: kept[name].to("meta")}
        with pytest.raises(ValueError, match=f"{name} .* is on meta, the weight on cpu"):
            optimizer.step()
        optimizer.state[params[1]] = kept
        optimizer.step()

    def test_learning_rate_on_another_device(self, cls, backend):
        optimizer, params = self.two(cls, backend)
        optimizer.param_groups[1]["lr"] = torch.tensor(0.1, device="meta")
        unchanged_by(
            optimizer, params, ValueError, "lr must be on the CPU or .* on cpu, got one on meta"
        )

    @pytest.mark.parametrize(
        ("name", "value"),
        [("lr", NAN), ("projection", "rows"), ("row_axis", 2), ("row_groups", 3), ("wd_ratio", "")],
    )
    def test_option_made_invalid_between_steps(self, cls, backend, name, value):
        optimizer, params = self.two(cls, backend)
        optimizer.param_groups[1][name] = value
        unchanged_by(optimizer, params, ValueError, f"{name} (must be|is) ")

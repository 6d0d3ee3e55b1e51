"""The audit: which weights of a model are scale-invariant, and what the published gate makes of it.

A room called `audit` would take the place of the function in the package.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from tangential import maths
from tangential.backends.rows import ordered_sum, real, rows_of, wide
from tangential.invariance.catches import catches, described, of_model
from tangential.invariance.evidence import Units, Verdict
from tangential.invariance.findings import Audit, Line
from tangential.invariance.probe import Loss, Probe, copied, in_general_position, widened
from tangential.invariance.proofs import Verdicts, euler, functional

# The published gate's constants.
DELTA, EPS = 0.1, 1e-8
GATE = {"projection": "auto", "row_axis": 0, "row_groups": 1}

# A radial share of real gradients that is worth a word: a tenth of what shuts the gate.
EPS_SHARE = DELTA / 10


def audit(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    loss: Loss | None = None,
    verify: bool = False,
    seed: int = 0,
) -> Audit:
    """Say of every weight whether it is scale-invariant by row, as a whole, or not.

    Proof by Euler's identity, g.w = 0, in float64 on a copy in general position: the eps of
    normalisations all but removed, trainable weights moved a little, so that no bias of zero
    passes for none. The gate is asked about the model as it is. The model is left as it was;
    its device must know float64.

    Args:
        model: In the mode that is to be audited: usually training.
        batches: Tensors, tuples (`model(*batch)`), mappings (`model(**batch)`) or functions of the
            model; three are enough, and of BatchNorm's kind each should hold several samples.
        loss: Scalar loss of (model, batch), by default a random direction of all outputs.
        verify: Prove every verdict again by rescaling, a few forward passes a weight.
        seed: Of directions, dropout, noise and factors.

    Raises:
        ValueError: there is no batch or no weight, or a loss or gradient is not finite.

    >>> model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 2))
    >>> result = audit(model, [torch.randn(8, 4) for _ in range(3)], verify=True)
    >>> result.names("row"), result.names("dead"), all(line.verified for line in result.lines)
    (['0.weight'], ['0.bias'], True)
    >>> result.summary
    '41.4 % of the weights are scale-invariant by row, 10.3 % have no effect'
    """
    batches = _checked(model, batches)
    with _fixed_generators(model):
        given = Probe(copied(model), loss, seed)
        with _default_dtype(torch.float64):
            truth = Probe(in_general_position(model, seed), loss, seed)
            wider = [widened(batch) for batch in batches]
            verdicts = euler(truth, wider)
            verified = functional(truth, wider[0], verdicts, seed) if verify else {}
            found = catches(model, truth, wider, verdicts)
        gates, radials = _published(given, batches, verdicts)
    lines = tuple(
        Line(
            name,
            tuple(given.params[name].shape),
            given.params[name].numel(),
            verdict.kind,
            verdict.units.row_axis,
            verdict.units.row_groups,
            verdict.radial,
            radials[name],
            verified.get(name),
            tuple(gates[name]),
            (*found.of(name), *_eps_note(verdict, radials[name])),
        )
        for name, verdict in verdicts.items()
    )
    notes = of_model(model, len(batches), noisy=truth.noisy)
    return Audit(lines, tuple(notes), "training" if model.training else "eval", len(batches))


def _checked(model: nn.Module, batches: Iterable[Any]) -> list[Any]:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is a {type(model).__name__}, allowed is a torch.nn.Module")
    if isinstance(batches, (Tensor, Mapping, str)) or not isinstance(batches, Iterable):
        raise TypeError(f"batches is a {type(batches).__name__}, allowed is an iterable of batches")
    params = dict(model.named_parameters())
    if not params:
        raise ValueError("the model has no weights, allowed is one that has")
    for name, param in params.items():
        if is_lazy(param):
            raise ValueError(f"{name} is not initialised: run the model on a batch before")
    if not (listed := list(batches)):
        raise ValueError("batches is empty, allowed is one batch or more")
    return listed


@contextmanager
def _fixed_generators(model: nn.Module) -> Iterator[None]:
    """The generators of the CPU and of the model's devices are afterwards what they were."""
    devices = {p.device for p in model.parameters() if p.is_cuda}
    with torch.random.fork_rng(list(devices)):
        yield


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """What a model makes anew, zeros for a token or a mask, has this dtype meanwhile."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _published(
    probe: Probe, batches: list[Any], verdicts: Verdicts
) -> tuple[dict[str, list[str]], dict[str, float]]:
    """The gate's verdicts per weight and batch, and the largest radial share at the true units."""
    gates: dict[str, list[str]] = {name: [] for name in verdicts}
    radials = dict.fromkeys(verdicts, 0.0)
    for number, batch in enumerate(batches):
        grads = probe.gradients(batch, number)
        for name, param in probe.params.items():
            grad = grads.get(name)
            gates[name].append("off" if grad is None else _gate(param.detach(), grad))
            if grad is not None and verdicts[name].kind in ("row", "weight"):
                share = _radial(param.detach(), grad, verdicts[name].units)
                radials[name] = max(radials[name], share)
    return gates, radials


def _gate(param: Tensor, grad: Tensor) -> str:
    """The published gate's verdict on one gradient.

    >>> _gate(torch.tensor([[3.0, 4.0]]), torch.tensor([[4.0, -3.0]]))
    'row'
    """
    rows = rows_of(param, GATE)
    if rows is None:
        return "off"
    w, g = wide(param), wide(grad)
    gw = rows.dot(g, w)
    moments = maths.Moments(rows.dot(w, w), rows.dot(g, g), gw, gw)
    gate = maths.gate(
        torch,
        moments,
        ordered_sum,
        fan=rows.fan,
        size=rows.size,
        projection="auto",
        delta=DELTA,
        eps=EPS,
    )
    return "row" if gate.row.any() else "weight" if gate.weight.any() else "off"


def _radial(param: Tensor, grad: Tensor, units: Units) -> float:
    """sqrt(elements) |cos| over all units, each weighted as its gradient weighs; 0 without one."""
    rows = rows_of(param, units._asdict())
    if rows is None:
        return 0.0
    w, g = real(param).double(), real(grad).double()
    norms = (rows.dot(w, w) * rows.dot(g, g)).sum()
    radial = rows.dot(g, w).square().sum()
    return (rows.fan * radial / norms).sqrt().nan_to_num(0.0).item()


def _eps_note(verdict: Verdict, radial: float) -> list[str]:
    if verdict.kind not in ("row", "weight") or radial < EPS_SHARE:
        return []
    return [
        f"{described(verdict.units)} only up to the eps of its normalisation: "
        f"sqrt(elements) |cos| is {radial:.2g}, the gate shuts at {DELTA}"
    ]

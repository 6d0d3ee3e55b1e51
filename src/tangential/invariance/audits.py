"""The two public functions: `audit`, and `param_groups`, which uses the result of `audit`.

This module is not named `audit`, because it would hide the function in the package.
"""

from collections.abc import Iterable
from itertools import chain
from numbers import Integral
from textwrap import shorten
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from tangential.backends import Units
from tangential.invariance.batches import (
    first_batches,
    left_out_note,
    module_of,
    shown,
    without_history,
)
from tangential.invariance.caveats import Caveats, find_caveats, model_notes
from tangential.invariance.copies import (
    FLOAT32,
    FLOAT64,
    Precision,
    copied,
    in_general_position,
    widened,
)
from tangential.invariance.evidence import Evidence
from tangential.invariance.probe import Loss, Probe
from tangential.invariance.proofs import (
    Decision,
    Findings,
    ask_gate,
    confirm_by_rescaling,
    judge_by_gradients,
)
from tangential.invariance.results import Audit, Line
from tangential.invariance.state import Generators
from tangential.names import fully_unwrapped_name, unwrapped, unwrapped_name


def audit(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    loss: Loss | None = None,
    verify: bool = False,
    seed: int = 0,
) -> Audit:
    """Find out for every weight whether it is scale-invariant by row, as a whole, or not.

    The proof is Euler's identity, g.w = 0, in float64 (else float32) on a changed copy: the eps of
    normalisations nearly vanishes, and weights move a little, because a bias of zero would have no
    effect. The published gate decides about an unchanged copy. The model itself does not change.

    Args:
        model: The model, in the mode that should be audited, usually training. A model of Keras
            needs the torch backend; its trainable variables are audited, by their paths.
        batches: A list of batches, or a DataLoader (its first three). A batch is a tensor, a tuple
            (`model(*batch)`), a mapping (`model(**batch)`) or a function of the model. BatchNorm
            needs several samples. Items that forward does not take, such as labels, are left out.
        loss: Scalar loss of (model, batch); by default a random direction of all outputs.
        verify: Check every verdict by rescaling the weight: a few forward passes per weight.
        seed: Seed of random directions, dropout, noise and factors.

    Raises:
        ValueError: there is no batch or no weight, or a loss or gradient is not finite.
        TypeError: a batch does not fit the model, or the model cannot be copied.
        RuntimeError: the model runs as it is, but neither in float64 nor in float32.

    >>> model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 2))
    >>> result = audit(model, [torch.randn(8, 4) for _ in range(3)], verify=True)
    >>> result.names("row"), result.names("dead"), all(line.verified for line in result.lines)
    (['0.weight'], ['0.bias'], True)
    >>> result.summary
    '41.4 % of the weights are scale-invariant by row, 10.3 % have no effect'
    """
    model = module_of(model)
    _check_model(model)
    taken = first_batches(batches)
    if not isinstance(seed, Integral) or not 0 <= seed < 2**63:
        raise ValueError(f"seed must be an integer from 0 to 2**63 - 1, got {seed!r}")
    with Generators(model).unchanged(), torch.inference_mode(False):
        taken = without_history(taken)
        as_is = Probe(copied(model), loss, seed, as_is=True)
        decisions, evidence = ask_gate(as_is, taken)
        as_is.check_independent(model)
        proof = _prove(model, taken, loss, seed, verify=verify)
    notes = [
        *model_notes(model, len(taken), noisy=proof.noisy),
        left_out_note(model, taken[0]) if loss is None else "",
        proof.note,
    ]
    return Audit(
        tuple(
            _line(name, proof, evidence[name], decisions[name], as_is.gate_axis)
            for name in proof.findings
        ),
        tuple(filter(None, notes)),
        "training" if model.training else "eval",
        len(taken),
    )


def _check_model(model: nn.Module) -> None:
    if not any(True for _ in model.parameters()):
        raise ValueError("model must have weights, got one without")
    for name, tensor in chain(model.named_parameters(), model.named_buffers()):
        if is_lazy(tensor):
            raise ValueError(f"{name} is not initialised: run the model on a batch first")
        if tensor.is_meta:
            raise ValueError(
                f"{name} is on the meta device and has no values: "
                "move the model with to_empty(device=...) and initialise it first"
            )


class _Proof(NamedTuple):
    findings: Findings
    verified: dict[str, bool]
    caveats: Caveats
    noisy: bool
    note: str = ""


def _prove(
    model: nn.Module, batches: list[Any], loss: Loss | None, seed: int, *, verify: bool
) -> _Proof:
    """The proof in float64; in float32 if a device or a kernel has no float64, or memory ends."""

    def proof(precision: Precision) -> _Proof:
        probe = Probe(in_general_position(model, seed, precision), loss, seed, precision)
        inputs = without_history(widened(batches, precision.dtype))
        findings = judge_by_gradients(probe, inputs)
        verified = confirm_by_rescaling(probe, inputs[0], findings, seed) if verify else {}
        caveats = find_caveats(model, probe, inputs, findings)
        return _Proof(findings, verified, caveats, probe.noisy)

    try:
        return proof(FLOAT64)
    except Exception as error:
        first = _in_short(error)
    try:
        note = (
            f"Audited in float32, because the model fails in float64 ({first}). A weight with less "
            f"than {FLOAT32.noise:g} of the largest effect counts as one without effect."
        )
        return proof(FLOAT32)._replace(note=note)
    except Exception as error:
        raise RuntimeError(
            f"the model runs as it is, but a copy fails in float64 ({first}) and in float32 "
            f"({_in_short(error)}): in its forward, cast to the dtype of the weights, "
            "not to a fixed dtype"
        ) from error


def _in_short(error: Exception) -> str:
    text = f"{type(error).__name__}: {str(error)[:1000]}"
    return shorten(text, 200, placeholder=" ...").removesuffix(":")


def _line(name: str, proof: _Proof, evidence: Evidence, gate: list[Decision], axis: int) -> Line:
    finding = proof.findings[name]
    radial = evidence.rms_radial(finding.units) if finding.invariant else 0.0
    verified = proof.verified.get(name)
    if not finding.reached and verified is False:  # without a gradient, rescaling refutes nothing
        verified = None
    return Line(
        name=name,
        shape=evidence.shape,
        size=evidence.size,
        kind=finding.kind,
        row_axis=finding.units.row_axis,
        row_groups=finding.units.row_groups,
        radial=finding.radial,
        eps_radial=radial,
        verified=verified,
        gate=tuple(gate),
        gate_axis=axis % max(len(evidence.shape), 1),
        notes=tuple(proof.caveats.of(name, radial)),
        remedy=proof.caveats.remedy(name),
    )


def param_groups(model: nn.Module, audit: Audit) -> list[dict[str, Any]]:
    """Groups for AdamP or SGDP with `projection`, `row_axis` and `row_groups` from the audit.

    Weights with the same settings share a group; scale-variant and dead weights are "off". You may
    add other options to a group; the optimizer's defaults apply to the rest.

    Args:
        model: The audited model, or another with the same weights, in wrappers or not.
        audit: The result of `audit`.

    Raises:
        ValueError: a weight is not in the audit, or has another shape there.
        TypeError: `model` is not a module, or `audit` is not an audit.

    >>> import torch, tangential
    >>> model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    >>> result = tangential.audit(model, [torch.randn(8, 4) for _ in range(3)])
    >>> [(g["projection"], len(g["params"])) for g in param_groups(model, result)]
    [('row', 1), ('off', 3)]
    """
    model = module_of(model, advice=": call param_groups(model, audit)")
    if not isinstance(audit, Audit):
        raise TypeError(
            "audit must be what tangential.audit(model, batches) returns, "
            f"got {shown(audit)}: call param_groups(model, audit)"
        )
    groups: dict[Units, list[nn.Parameter]] = {}
    for param, line in _lines_of(model, audit):
        groups.setdefault(line.units, []).append(param)
    return [{"params": params, **units._asdict()} for units, params in groups.items()]


def _lines_of(model: nn.Module, audit: Audit) -> list[tuple[nn.Parameter, Line]]:
    """Every weight with the line of the same name; if needed, without the wrappers' parts."""
    inner, shapes = unwrapped(model), {}
    for module, simplified in (
        (model, str),
        (inner, unwrapped_name),
        (inner, fully_unwrapped_name),
    ):
        params = [(simplified(name), param) for name, param in module.named_parameters()]
        lines = {simplified(line.name): line for line in audit.lines}
        shapes = {name: line.shape for name, line in lines.items()}
        unique = len(dict(params)) == len(params) and len(lines) == len(audit.lines)
        if unique and all(shapes.get(name) == tuple(param.shape) for name, param in params):
            return [(param, lines[name]) for name, param in params]
    advice = "pass the model that was audited, or audit this one"
    raise ValueError(f"{_mismatch(inner, shapes)}: {advice}")


def _mismatch(model: nn.Module, shapes: dict[str, tuple[int, ...]]) -> str:
    """What is wrong with the first weight that is not in an audit of weights of these shapes."""
    for name, param in model.named_parameters():
        shape = shapes.get(fully_unwrapped_name(name))
        if shape is None:
            return f"{unwrapped_name(name)} is not in the audit"
        if shape != tuple(param.shape):
            return (
                f"{unwrapped_name(name)} has shape {tuple(param.shape)}, but {shape} in the audit"
            )
    return "several weights have the same name in the model or in the audit"

"""The audit: which weights of a model are scale-invariant, and what the published gate makes of it.

A room called `audit` would take the place of the function in the package.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, islice
from numbers import Integral
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils import _pytree as pytree

from tangential.invariance.calls import arguments
from tangential.invariance.caveats import Catches, caveats, of_model
from tangential.invariance.copies import copied, in_general_position
from tangential.invariance.evidence import Verdict, described
from tangential.invariance.findings import Audit, Line
from tangential.invariance.generators import devices_of, unchanged_generators
from tangential.invariance.precision import FLOAT32, FLOAT64, Precision, widened
from tangential.invariance.probe import Loss, Probe
from tangential.invariance.proofs import Verdicts, euler, functional
from tangential.invariance.published import ask_gate
from tangential.maths import DELTA

# As many batches are taken from a loader, which may hold a whole data set.
ENOUGH = 3

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
    passes for none. A model that cannot compute in float64 is audited in float32, and a note says
    so. The gate is asked about the model as it is. The model is left as it was.

    Args:
        model: In the mode that is to be audited: usually training.
        batches: A list of batches, or a DataLoader, of which the first three are taken; of
            BatchNorm's kind each batch should hold several samples. A batch is a tensor, a tuple
            (`model(*batch)`), a mapping (`model(**batch)`) or a function of the model. What the
            model's forward does not take, such as labels, is left out.
        loss: Scalar loss of (model, batch), by default a random direction of all outputs.
        verify: Prove every verdict again by rescaling, a few forward passes a weight.
        seed: Of directions, dropout, noise and factors.

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
    listed = _checked(model, batches, seed)
    with unchanged_generators(devices_of(model)), torch.inference_mode(False):
        listed = pytree.tree_map_only(Tensor, _leaf, listed)
        given = Probe(copied(model), loss, seed, as_is=True)
        published = ask_gate(given, listed)
        _check_alone(model, given)
        proof = _proved(model, listed, loss, seed, verify=verify)
    lines = []
    for name, verdict in proof.verdicts.items():
        kind, units = verdict.kind, verdict.units
        invariant = kind in ("row", "weight")
        weight = published.weights[name]
        radial = weight.weighted(units) if invariant else 0.0
        notes = (*proof.caveats.of(name), *_eps_note(verdict, radial))
        verified = proof.verified.get(name)
        if verdict.unreached and verified is False:  # no gradient says nothing about the value
            verified = None
        lines.append(
            Line(
                name,
                weight.shape,
                weight.size,
                kind,
                units.row_axis,
                units.row_groups,
                verdict.radial,
                radial,
                verified,
                tuple(published.gates[name]),
                notes,
                proof.caveats.remedy(name),
            )
        )
    notes = [
        *of_model(model, len(listed), noisy=proof.noisy),
        *([_left_out(model, listed[0])] if loss is None else []),
        proof.note,
    ]
    mode = "training" if model.training else "eval"
    return Audit(tuple(lines), tuple(filter(None, notes)), mode, len(listed))


def _checked(model: nn.Module, batches: Iterable[Any], seed: int) -> list[Any]:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is a {type(model).__name__}, allowed is a torch.nn.Module")
    if isinstance(batches, (Tensor, Mapping, str)) or not isinstance(batches, Iterable):
        raise TypeError(f"batches is a {type(batches).__name__}, allowed is an iterable of batches")
    if not isinstance(seed, Integral) or not 0 <= seed < 2**63:
        raise ValueError(f"seed must be an integer from 0 to 2**63 - 1, got {seed!r}")
    if not any(True for _ in model.parameters()):
        raise ValueError("the model has no weights, allowed is one that has")
    for name, tensor in chain(model.named_parameters(), model.named_buffers()):
        if is_lazy(tensor):
            raise ValueError(f"{name} is not initialised: run the model on a batch before")
        if tensor.is_meta:
            raise ValueError(
                f"{name} is on the meta device and has no values: "
                "move the model with to_empty(device=...) and initialise it before"
            )
    listed = list(batches if isinstance(batches, Sequence) else islice(batches, ENOUGH))
    if not listed:
        raise ValueError("batches is empty, allowed is one batch or more")
    return listed


def _leaf(x: Tensor) -> Tensor:
    """The tensor without its history, which would be gone through at every pass."""
    x = x.clone() if x.is_inference() else x
    return x.detach().requires_grad_(x.requires_grad)


def _check_alone(model: nn.Module, given: Probe) -> None:
    """Refuse a copy that still uses the weights of the model.

    Raises:
        ValueError: names such a weight.
    """
    used = {id(x) for x in given.foreign}
    for name, param in model.named_parameters():
        if id(param) in used:
            raise ValueError(
                f"the audit works on a copy of the model, but the copy uses {name} of the model: "
                "a function (a replaced forward, a hook, the loss) holds the model or its layers. "
                "Undo the replacement, or use a subclass or types.MethodType, which can be copied"
            )


def _left_out(model: nn.Module, batch: Any) -> str:
    """A note on what of a batch the model does not take."""
    if not (names := arguments(model, batch).left_out):
        return ""
    if isinstance(batch, Mapping):
        return f"Left out of each batch, as the model does not take it: {', '.join(names)}."
    return (
        f"Each batch has {len(batch)} items, of which the model takes {len(batch) - len(names)}: "
        "the rest (labels?) was left out."
    )


class _Proof(NamedTuple):
    verdicts: Verdicts
    verified: dict[str, bool]
    caveats: Catches
    noisy: bool
    note: str = ""


def _proved(
    model: nn.Module, batches: list[Any], loss: Loss | None, seed: int, *, verify: bool
) -> _Proof:
    """The proof in float64, or in float32 if the model fails in float64.

    Some devices and kernels have no float64, and it takes twice the memory.
    """

    def proof(precision: Precision) -> _Proof:
        probe = Probe(in_general_position(model, seed, precision), loss, seed, precision)
        wider = pytree.tree_map_only(Tensor, _leaf, widened(batches, precision.dtype))
        verdicts = euler(probe, wider)
        verified = functional(probe, wider[0], verdicts, seed) if verify else {}
        return _Proof(verdicts, verified, caveats(model, probe, wider, verdicts), probe.noisy)

    try:
        return proof(FLOAT64)
    except Exception as error:
        first = _in_short(error)
    try:
        note = (
            f"Audited in float32, as the model fails in float64 ({first}): a weight with less than "
            f"{FLOAT32.noise:g} of the largest effect counts as one without effect."
        )
        return proof(FLOAT32)._replace(note=note)
    except Exception as error:
        second = _in_short(error)
        raise RuntimeError(
            f"the model runs as it is, but fails on a copy in float64 ({first}) and in float32 "
            f"({second}): in its forward, cast to the dtype of the weights, not to a fixed dtype"
        ) from error


def _in_short(error: Exception) -> str:
    """Type and text of an error on one line of at most 200 characters."""
    text = " ".join(str(error)[:1000].split())
    short = text if len(text) <= 200 else f"{text[:197]}..."
    return f"{type(error).__name__}: {short}" if text else type(error).__name__


def _eps_note(verdict: Verdict, radial: float) -> list[str]:
    if verdict.kind not in ("row", "weight") or radial < EPS_SHARE:
        return []
    return [
        f"{described(verdict.units)} only up to the eps of its normalisation: "
        f"sqrt(elements) |cos| is {radial:.2g}, the gate shuts at {DELTA}"
    ]

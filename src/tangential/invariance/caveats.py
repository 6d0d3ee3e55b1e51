"""Known caveats, in words: why a weight is not scale-invariant though it may seem so."""

from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from tangential.backends import real
from tangential.invariance.evidence import Verdict, described
from tangential.invariance.probe import Probe, frozen_norms
from tangential.invariance.proofs import Verdicts, euler
from tangential.names import listed


class Catches(NamedTuple):
    """What else was found about a model, and words for it.

    `unbiased` and `in_training` hold the verdicts of weights that would be invariant without
    biases, or if every normalisation worked by the batch's statistics; `own_bias` those for which
    their own bias is the only one in the way; `tied` the other names.
    """

    verdicts: Verdicts
    biases: list[str]
    unbiased: Verdicts
    own_bias: set[str]
    in_training: Verdicts
    tied: dict[str, list[str]]
    frozen: set[str]

    def of(self, name: str) -> list[str]:
        """The caveats of one weight."""
        verdict = self.verdicts[name]
        found = [
            self._dead(name) if verdict.kind == "dead" else "",
            f"{verdict.unseen} units had no gradient" if verdict.unseen else "",
            f"only {verdict.part} are scale-invariant" if verdict.part else "",
            self._bias(name),
            self._statistics(name),
            f"tied with {listed(self.tied[name])}" if name in self.tied else "",
            "frozen (requires_grad=False)" if name in self.frozen else "",
        ]
        return [words for words in found if words]

    def remedy(self, name: str) -> str:
        """What to change in the model, if a bias is the matter."""
        if name in self.own_bias or self._is_subtracted(name):
            return f"bias=False in {name.rpartition('.')[0] or 'the model'}"
        if name in self.unbiased:
            return "bias=False in every layer from this one to the normalisation"
        return ""

    def _is_subtracted(self, name: str) -> bool:
        """Whether this is a bias that has no effect, though its weight has one."""
        weight = self.verdicts.get(_weight_of(name))
        return (
            name.endswith("bias")
            and self.verdicts[name].kind == "dead"
            and not self.verdicts[name].unreached
            and weight is not None
            and weight.kind != "dead"
        )

    def _dead(self, name: str) -> str:
        if self._is_subtracted(name):
            return "no effect on the loss: what comes after this bias subtracts it again"
        if self.verdicts[name].unreached:
            return "no gradient: these batches do not use it, or it is under detach or no_grad"
        return "no effect on the loss of these batches"

    def _bias(self, name: str) -> str:
        if name not in self.unbiased:
            return ""
        own = [bias for bias in self.biases if _weight_of(bias) == name]
        bias = "biases before the normalisation"
        if own:
            others = "" if name in self.own_bias else " and others"
            bias = f"the bias before the normalisation ({own[0]}{others})"
        return f"scale-invariant {described(self.unbiased[name].units)} but for {bias}"

    def _statistics(self, name: str) -> str:
        if name not in self.in_training:
            return ""
        how = described(self.in_training[name].units)
        return f"scale-invariant {how} if BatchNorm were in training mode; it is frozen here"


def caveats(model: nn.Module, probe: Probe, batches: list[Any], verdicts: Verdicts) -> Catches:
    """Ask what would be if biases were zero, or BatchNorm in training mode.

    Args:
        model: The user's, for what is tied and frozen.
        probe: Of its copy in general position.
        batches: In float64.
        verdicts: As things are.
    """
    biases = [name for name in verdicts if _is_bias_of_matrix(name, probe)]
    alive = [name for name in biases if verdicts[name].kind != "dead"]
    norms = frozen_norms(probe.model)

    def what_if(condition: AbstractContextManager[None]) -> Verdicts:
        try:
            with condition:
                after = euler(probe, batches[:1])
        except ValueError:  # a single sample has no statistics: then the question has no answer
            return {}
        variant = [name for name, verdict in verdicts.items() if verdict.kind == "variant"]
        return {n: after[n] for n in variant if _holds(after[n], probe.precision.sure)}

    unbiased = what_if(probe.without(alive)) if alive else {}
    return Catches(
        verdicts,
        biases,
        unbiased,
        _but_for_own_bias(probe, batches[0], alive, unbiased),
        what_if(probe.batch_statistics(norms)) if norms else {},
        _tied(model),
        {name for name, param in model.named_parameters() if not param.requires_grad},
    )


def _but_for_own_bias(probe: Probe, batch: Any, biases: list[str], unbiased: Verdicts) -> set[str]:
    """Weights that are scale-invariant together with their bias: without it they are alone."""
    pairs = [(_weight_of(bias), bias) for bias in biases if _weight_of(bias) in unbiased]
    if not pairs:
        return set()
    grads = probe.gradients(batch, 0)

    def together(pair: tuple[str, str]) -> bool:
        weights = torch.cat([real(probe.params[name].detach()).flatten() for name in pair])
        parts = [grads.get(name, torch.zeros_like(probe.params[name])) for name in pair]
        gradient = torch.cat([real(part).flatten() for part in parts])
        radial = (weights @ gradient).abs() / (weights.norm() * gradient.norm())
        return bool(weights.numel() ** 0.5 * radial <= probe.precision.sure)

    return {weight for weight, bias in pairs if together((weight, bias))}


def _holds(verdict: Verdict, sure: float) -> bool:
    """Asked on one batch, where TOLERANCE does not rule out chance."""
    return verdict.kind in ("row", "weight") and verdict.radial <= sure


def _weight_of(bias: str) -> str:
    """The weight that a bias stands beside: `bias` of `weight`, `in_proj_bias` of its own."""
    return bias.removesuffix("bias") + "weight"


def _is_bias_of_matrix(name: str, probe: Probe) -> bool:
    if not name.endswith("bias"):
        return False
    module = name.removesuffix("bias")
    weights = (_weight_of(name), f"{module}parametrizations.weight.")
    return any(n.startswith(weights) and p.dim() > 1 for n, p in probe.params.items())


def _tied(model: nn.Module) -> dict[str, list[str]]:
    names: dict[int, list[str]] = {}
    for name, param in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(param), []).append(name)
    return {first: others for first, *others in names.values() if others}


def of_model(model: nn.Module, batches: int, *, noisy: bool) -> list[str]:
    """The caveats of a whole model: its mode, frozen normalisations, noise, too few batches."""
    frozen, mode = frozen_norms(model), "training" if model.training else "eval"
    theirs = [n for n, m in model.named_modules() if type(m).__name__.startswith("FrozenBatchNorm")]
    running = [n for n, m in model.named_modules() if _keeps_statistics(m) and n not in frozen]
    found = [
        f"Audited in {mode} mode, as the model was given.",
        f"Frozen BatchNorm ({listed(frozen + theirs)}): normalises by running statistics, so what "
        "comes before it is not scale-invariant."
        if frozen or theirs
        else "",
        f"In eval mode {listed(running)} would normalise by running statistics, and what comes "
        "before would not be scale-invariant."
        if running
        else "",
        "Dropout or noise was drawn alike in every pass over a batch." if noisy else "",
        "One batch: a weight passes for scale-invariant by chance once in 1,250 times; give three."
        if batches == 1
        else "",
    ]
    return [words for words in found if words]


def _keeps_statistics(module: nn.Module) -> bool:
    return isinstance(module, _NormBase) and module.running_mean is not None

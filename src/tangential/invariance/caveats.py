"""Caveats in words: why a weight is not scale-invariant although it may seem so."""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from tangential import maths
from tangential.backends import as_real
from tangential.invariance.evidence import Finding, units_in_words
from tangential.invariance.probe import Probe
from tangential.invariance.proofs import Findings, judge_by_gradients
from tangential.names import listed

# If the eps of a normalisation leaves a radial share of this size or more, a note says so.
NOTED_RADIAL = maths.DELTA / 10


class Caveats(NamedTuple):
    """What else is known about the weights of a model."""

    findings: Findings
    biases: list[str]  # of matrices
    without_biases: Findings  # of weights that would be invariant if all biases were zero
    own_bias: set[str]  # those for which it is enough that their own bias is zero
    in_training: Findings  # of weights that would be, if norms used the statistics of the batch
    tied: dict[str, list[str]]  # the other names of tied weights
    frozen: set[str]  # not trained

    def of(self, name: str, radial: float) -> list[str]:
        """The caveats of one weight; `radial`: its sqrt(elements) |cos(w, g)| with the full eps."""
        finding, training = self.findings[name], self.in_training.get(name)
        notes = [
            self._dead(name) if finding.kind == "dead" else "",
            f"{finding.unseen} units had no gradient" if finding.unseen else "",
            f"only {finding.part} are scale-invariant" if finding.part else "",
            self._bias(name) if name in self.without_biases else "",
            f"would be scale-invariant {units_in_words(training.units)} if BatchNorm were in "
            "training mode; it is frozen"
            if training
            else "",
            f"tied with {listed(self.tied[name])}" if name in self.tied else "",
            "frozen (requires_grad=False)" if name in self.frozen else "",
            f"{units_in_words(finding.units)} only up to the eps of its normalisation: "
            f"sqrt(elements) |cos| is {radial:.2g}, the gate fires only below {maths.DELTA}"
            if radial >= NOTED_RADIAL
            else "",
        ]
        return [note for note in notes if note]

    def remedy(self, name: str) -> str:
        """What to change in the model if a bias is the cause, else ""."""
        if name in self.own_bias or self._is_subtracted(name):
            layer, slash, _ = name.rpartition("/")  # a path of Keras
            layer = layer or name.rpartition(".")[0]
            return f"{'use_' if slash else ''}bias=False in {layer or 'the model'}"
        if name in self.without_biases:
            return "bias=False in every layer from this one to the normalisation"
        return ""

    def _is_subtracted(self, name: str) -> bool:
        """Whether this is a bias without effect, although its weight has an effect."""
        weight, finding = self.findings.get(_weight_of(name)), self.findings[name]
        useless = name.endswith("bias") and finding.kind == "dead" and finding.reached
        return useless and weight is not None and weight.kind != "dead"

    def _dead(self, name: str) -> str:
        if self._is_subtracted(name):
            return "no effect on the loss: what comes after this bias subtracts it again"
        if not self.findings[name].reached:
            return "no gradient: these batches do not use it, or it is under detach or no_grad"
        return "no effect on the loss of these batches"

    def _bias(self, name: str) -> str:
        biases = "biases before the normalisation"
        if own := [bias for bias in self.biases if _weight_of(bias) == name]:
            others = "" if name in self.own_bias else " and others"
            biases = f"the bias before the normalisation ({own[0]}{others})"
        how = units_in_words(self.without_biases[name].units)
        return f"would be scale-invariant {how} without {biases}"


def find_caveats(model: nn.Module, probe: Probe, batches: list[Any], findings: Findings) -> Caveats:
    """Find out what would change if biases were zero, or BatchNorm were in training mode.

    `findings` are those for `probe`, a copy in general position. `model`, the user's, tells which
    weights are tied or frozen.
    """
    biases = [name for name in findings if _is_bias_of_matrix(name, probe)]
    alive = [name for name in biases if findings[name].kind != "dead"]
    norms = frozen_norms(probe.model)
    variant = [name for name, finding in findings.items() if finding.kind == "variant"]

    def invariant_if(condition: AbstractContextManager[None]) -> Findings:
        try:
            with condition:
                after = judge_by_gradients(probe, batches[:1])
        except ValueError:  # a single sample has no statistics, so the question has no answer
            return {}
        return {n: after[n] for n in variant if _surely_invariant(after[n], probe.precision.sure)}

    zeros = {name: torch.zeros_like(probe.params[name]) for name in alive}
    without_biases = invariant_if(probe.replaced(zeros)) if zeros else {}
    names: dict[int, list[str]] = {}
    for name, param in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(param), []).append(name)
    return Caveats(
        findings,
        biases,
        without_biases,
        _blocked_by_own_bias(probe, batches[0], alive, without_biases),
        invariant_if(probe.batch_statistics(norms)) if norms else {},
        {first: others for first, *others in names.values() if others},
        {name for name, param in model.named_parameters() if not param.requires_grad},
    )


def _surely_invariant(finding: Finding, sure: float) -> bool:
    """Whether one batch proves the invariance; TOLERANCE would not rule out chance."""
    return finding.invariant and finding.radial <= sure


def _blocked_by_own_bias(
    probe: Probe, batch: Any, biases: list[str], without_biases: Findings
) -> set[str]:
    """Weights that form an invariant unit with their bias, so they are invariant without it."""
    pairs = [(_weight_of(b), b) for b in biases if _weight_of(b) in without_biases]
    grads = probe.gradients(batch, 0) if pairs else {}

    def joined(tensors: Iterable[Tensor]) -> Tensor:
        return torch.cat([as_real(x.detach()).flatten() for x in tensors])

    blocked = set()
    for pair in pairs:
        params = {name: probe.params[name] for name in pair}
        w = joined(params.values())
        g = joined(grads.get(name, torch.zeros_like(param)) for name, param in params.items())
        radial = (w @ g).abs() / (w.norm() * g.norm())
        if w.numel() ** 0.5 * radial <= probe.precision.sure:
            blocked.add(pair[0])
    return blocked


def _weight_of(bias: str) -> str:
    """The weight that belongs to a bias: `weight` to `bias`, `in_proj_weight` to `in_proj_bias`."""
    return bias.removesuffix("bias") + ("kernel" if "/" in bias else "weight")  # Keras: dense/bias


def _is_bias_of_matrix(name: str, probe: Probe) -> bool:
    weights = (_weight_of(name), f"{name.removesuffix('bias')}parametrizations.weight.")
    matrices = (n for n, p in probe.params.items() if p.dim() > 1)
    return name.endswith("bias") and any(n.startswith(weights) for n in matrices)


def frozen_norms(model: nn.Module) -> list[str]:
    """The normalisations that use running statistics, such as BatchNorm in eval mode."""
    return [n for n, m in model.named_modules() if _has_statistics(m) and not m.training]


def _has_statistics(module: nn.Module) -> bool:
    return isinstance(module, _NormBase) and module.running_mean is not None


def model_notes(model: nn.Module, batches: int, *, noisy: bool) -> list[str]:
    """The caveats of a whole model: its mode, frozen normalisations, noise, too few batches."""
    modules = dict(model.named_modules())
    frozen = frozen_norms(model)
    frozen += [n for n, m in modules.items() if type(m).__name__.startswith("FrozenBatchNorm")]
    live = [n for n, m in modules.items() if _has_statistics(m) and m.training]
    mode = "training" if model.training else "eval"
    notes = [f"Audited in {mode} mode, the mode of the given model."]
    if frozen:
        notes.append(
            f"Frozen BatchNorm ({listed(frozen)}) normalises by running statistics, so the weights "
            "before it are not scale-invariant."
        )
    if live:
        notes.append(
            f"In eval mode, {listed(live)} would normalise by running statistics, and the weights "
            "before would not be scale-invariant."
        )
    if noisy:
        notes.append("Dropout or noise was the same in every pass over a batch.")
    if batches == 1:
        notes.append(
            "One batch: by chance, a weight seems scale-invariant once in 1,250 times. Pass three."
        )
    return notes

"""Sounds: keywords, events and music, by Harmonic CNN."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tangential_lab.experiments.audio import large_sets, small_sets
from tangential_lab.experiments.audio.harmonic_cnn import HarmonicCNN, HarmonicFilters
from tangential_lab.experiments.audio.sounds import Recordings, SoundSet
from tangential_lab.experiments.data.losses import accuracy, joined
from tangential_lab.experiments.options import checked
from tangential_lab.experiments.published import ADAM_AND_ADAMW, step_schedule, untuned
from tangential_lab.training import (
    NO_HANDOVER,
    Batch,
    Handover,
    Metric,
    Task,
    cosine_schedule,
    groups_with_lr_scale,
    loader_processes,
    single_group,
)

Subject = Literal["keywords", "events", "music"]
SCHEDULES = {  # in Won et al.'s code, learning rates drop after 100 and 120 of 200 epochs
    "cosine": cosine_schedule,
    "published": partial(step_schedule, drops=(0.5, 0.6)),
}
THRESHOLD = 0.1  # of a tag's probability in F1 (Won et al. 2020)


class SubjectSettings(NamedTuple):
    """How a subject is trained and evaluated; the defaults are those of the published code."""

    sounds: Callable[..., SoundSet]
    seconds: float  # of a chunk
    chunks: int = 1  # of a recording, over which evaluation averages
    epochs: float = 200
    batch_size: int = 16
    n_fft: int = 512  # samples per spectrum
    per_semitone: int = 2  # filters
    net: Mapping[str, Any] = MappingProxyType({})
    published: dict[str, dict[str, float]] = untuned(sgd=(1e-2, 1e-4), adam=(1e-4, 1e-4))


# our choice: nothing is published at this size, nor for SGD from scratch at full size
MINI = {
    "batch_size": 32,
    "per_semitone": 1,
    "net": {"width": 16, "residual": False, "dropout": 0.2},
    "published": untuned(sgd=(0.1, 1e-4), adam=(3e-3, 1e-2)),
}
# at the learning rate of the other weights Q grows until no filter passes anything
MINI_GROUPS = partial(groups_with_lr_scale, module="filters", scale=0.1)
SETTINGS: dict[tuple[str, Subject], SubjectSettings] = {
    ("mini", "keywords"): SubjectSettings(small_sets.spoken_digits, 1, epochs=20, **MINI),
    ("mini", "events"): SubjectSettings(small_sets.sound_pairs, 5, epochs=2, n_fft=1024, **MINI),
    ("mini", "music"): SubjectSettings(small_sets.note_pairs, 2.5, epochs=10, n_fft=2048, **MINI),
    ("paper", "keywords"): SubjectSettings(large_sets.speech_commands, 1),
    ("paper", "events"): SubjectSettings(large_sets.dcase, 10),  # our choice: whole segments
    ("paper", "music"): SubjectSettings(large_sets.magnatagatune, 5, chunks=16),
}
OPTIONS = {("mini", "keywords"): "speakers", ("paper", "events"): "held_out"}  # of one data set


@checked
def audio(
    *,
    preset: Literal["mini", "paper"] = "mini",
    data: Path | None = None,
    subject: Subject = "keywords",
    speakers: small_sets.Speakers = "mixed",
    schedule: Literal["cosine", "published"] = "cosine",
    held_out: bool = True,
) -> Task:
    """Spot keywords, or tag sound events or music, with Harmonic CNN (Won et al. 2020).

    Differences from the paper: by default, every optimizer trains alone, with a cosine schedule.
    Won et al.'s code, whose schedule is an option, also goes back to its best epoch at each change
    of the learning rate. By default one in ten of DCASE's training segments is for validation. That
    DCASE's chunks are whole segments, and the settings of SGD from the start, are our choice.

    Args:
        preset: "mini": a thin net on spoken digits, pairs of ESC-10's clips or pairs of notes.
            "paper": the published net on Speech Commands v2, DCASE 2017 task 4 or MagnaTagATune.
        data: Folder of all data sets: "free-spoken-digit-dataset", "ESC-50-master", "nsynth-test";
            for "paper" "speech_commands_v0.02", "dcase2017_task4", "magnatagatune".
        subject: What is recognised.
        speakers: For mini's keywords: "disjoint" tests with a speaker who is not in training.
        schedule: "published" is Won et al.'s: the compared optimizer trains at a constant learning
            rate for 80 of 200 epochs; then SGD takes over from it, at 1e-3 for 20 epochs, at 1e-4
            for 20 and at 1e-5 for 80. For "mini" these learning rates are ten times as high, as
            SGD's is. Scores, norms and times are those of the whole training.
        held_out: For DCASE, which is the events of "paper": hold segments out for validation;
            without them, there can be no search. The other data sets have a validation split.

    Raises:
        ValueError: speakers is "disjoint", but the task is not mini's keywords; held_out is False,
            but the task is not paper's events; or the data are missing or broken.
    """
    setting = SETTINGS[preset, subject]
    options = _data_options(preset, subject, {"speakers": speakers, "held_out": held_out})
    sounds = setting.sounds(data, **options)
    tags, rate = len(sounds.tags), sounds.rate
    is_keyword, length = subject == "keywords", round(setting.seconds * rate)

    def model() -> HarmonicCNN:
        filters = HarmonicFilters(rate, n_fft=setting.n_fft, per_semitone=setting.per_semitone)
        return HarmonicCNN(tags, filters, **setting.net)

    return Task(
        name="audio",
        about=f"{sounds.data.about}; Harmonic CNN at {rate // 1000} kHz",
        data=sounds.data,
        metric=_metric(preset, subject, tags),
        epochs=setting.epochs,
        batch_size=setting.batch_size,
        splits={
            name: Recordings(*split, length, chunks=0 if name == "train" else setting.chunks)
            for name, split in sounds.splits.items()
        },
        model=model,
        loss=partial(_loss, F.cross_entropy if is_keyword else F.binary_cross_entropy_with_logits),
        predict=partial(_predict, partial(F.softmax, dim=-1) if is_keyword else torch.sigmoid),
        score=_words if is_keyword else _tagged,
        published=setting.published,
        baselines=ADAM_AND_ADAMW,
        schedule=SCHEDULES[schedule],
        handover=_handover(setting.published["sgd"]) if schedule == "published" else NO_HANDOVER,
        groups=MINI_GROUPS if preset == "mini" else single_group,
        evaluation_batch_size=16 if setting.chunks > 2 else 64,
        loader_workers=loader_processes() if preset == "paper" else 0,
    )


def _data_options(preset: str, subject: Subject, options: dict[str, Any]) -> dict[str, Any]:
    """Those of the options that this data set has; ValueError if another one is set."""
    known = OPTIONS.get((preset, subject))
    for name, usual in (("speakers", "mixed"), ("held_out", True)):
        if name != known and options[name] != usual:
            raise ValueError(
                f"{name} must be {usual!r} with preset {preset!r} and subject {subject!r}, got "
                f"{options[name]!r}"
            )
    return {known: options[known]} if known else {}


def _handover(sgd: Mapping[str, float]) -> Handover:
    """SGD takes over after 80 of 200 epochs, at a tenth of the learning rate that it starts at."""
    return Handover(0.4, "sgd", {**sgd, "lr": sgd["lr"] / 10})


def _metric(preset: str, subject: Subject, tags: int) -> Metric:
    if subject == "keywords":
        return Metric("accuracy", "%", chance_score=1 / tags)
    if subject == "events" and preset == "paper":
        return Metric("F1", "%", chance_score=0.0)
    return Metric("ROC-AUC", "%", chance_score=0.5)


def _loss(criterion: Callable[..., Tensor], model: nn.Module, batch: Batch) -> Tensor:
    sounds, labels = batch
    return criterion(model(sounds.flatten(0, 1)), labels)


def _predict(
    probability: Callable[[Tensor], Tensor], model: nn.Module, batch: Batch
) -> tuple[Tensor, Tensor]:
    """Probabilities, averaged over the chunks of a recording, and labels."""
    sounds, labels = batch
    each = probability(model(sounds.flatten(0, 1)).float())
    return each.unflatten(0, sounds.shape[:2]).mean(1).cpu(), labels.cpu()


def _words(predictions: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
    probabilities, labels = joined(predictions)
    loss = F.nll_loss(probabilities.clamp_min(1e-12).log(), labels).item()
    return {"accuracy": accuracy(probabilities, labels), "loss": loss}


def _tagged(predictions: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
    """Means over the tags that some recordings have and others lack; the mean F1 of recordings."""
    from torchmetrics.functional import classification as measures

    probabilities, labels = joined(predictions)
    share, truth = labels.mean(0), labels.long()
    defined = (share > 0) & (share < 1)  # the other tags have no curve
    tags = list(zip(probabilities.T[defined], truth.T[defined], strict=True))
    mean = lambda measure: torch.tensor([measure(*tag) for tag in tags]).mean().item()
    decisions = probabilities[..., None], truth[..., None]  # "samplewise" needs three dimensions
    f1 = measures.multilabel_f1_score(
        *decisions, truth.shape[1], THRESHOLD, average="micro", multidim_average="samplewise"
    )
    return {
        "ROC-AUC": mean(measures.binary_auroc),
        "PR-AUC": mean(measures.binary_average_precision),
        "F1": f1.mean().item(),
        "loss": F.binary_cross_entropy(probabilities, labels).item(),
    }

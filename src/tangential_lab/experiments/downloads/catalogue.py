"""Every data set that an experiment reads, from the modules that define and read them."""

from importlib import import_module

from tangential_lab.experiments.data.sources import DataFolder
from tangential_lab.names import unknown_name

PACKAGE = "tangential_lab.experiments"
MODULES = (
    *("data.images", "imagenet.task", "detection.annotations", "bias.nine_classes"),
    *("audio.small_sets", "audio.large_sets", "retrieval.characters", "retrieval.photosets"),
    *("data.texts", "pretraining.windows"),
)


def data_sets() -> list[DataFolder]:
    """All data sets. Two have the folder "imagenet": one task needs another file in it."""
    values = [
        value for name in MODULES for value in vars(import_module(f"{PACKAGE}.{name}")).values()
    ]
    return list(dict.fromkeys(value for value in values if isinstance(value, DataFolder)))


def data_set(name: str) -> DataFolder:
    """The data set with this folder.

    Raises:
        ValueError: there is no such data set.
    """
    by_name = {folder.name: folder for folder in data_sets()}
    if name not in by_name:
        raise ValueError(unknown_name(name, by_name, "data set"))
    return by_name[name]

"""The language experiment."""

from tangential_lab.experiments.language.task import language

__all__ = ["language"]

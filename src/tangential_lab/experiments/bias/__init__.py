"""The bias experiment."""

from tangential_lab.experiments.bias.task import bias

__all__ = ["bias"]

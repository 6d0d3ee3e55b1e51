"""The adversarial experiment."""

from tangential_lab.experiments.adversarial.task import adversarial

__all__ = ["adversarial"]

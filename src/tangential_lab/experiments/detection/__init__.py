"""The detection experiment."""

from tangential_lab.experiments.detection.task import detection

__all__ = ["detection"]

"""The audio experiment."""

from tangential_lab.experiments.audio.task import audio

__all__ = ["audio"]

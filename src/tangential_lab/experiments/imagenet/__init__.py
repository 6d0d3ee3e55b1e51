"""The imagenet experiment."""

from tangential_lab.experiments.imagenet.task import imagenet

__all__ = ["imagenet"]

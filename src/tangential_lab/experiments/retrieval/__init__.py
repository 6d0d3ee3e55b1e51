"""The retrieval experiment."""

from tangential_lab.experiments.retrieval.task import retrieval

__all__ = ["retrieval"]

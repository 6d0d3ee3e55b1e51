"""Retrieval: embeddings of photographs and characters, compared by distance."""

from tangential_lab.experiments.retrieval.task import retrieval

"""Pretraining: a small GPT learns to predict the next token of a text."""

from tangential_lab.experiments.pretraining.task import pretraining

"""Bias: labels that can be guessed from a misleading cue, and the nets of ReBias."""

from tangential_lab.experiments.bias.task import bias

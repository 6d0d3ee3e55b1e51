"""Adversarial training: attacks on images, wide residual nets, the task."""

from tangential_lab.experiments.adversarial.task import adversarial

"""ImageNet, and in small CIFAR-10: residual nets, with CutMix or without."""

from tangential_lab.experiments.imagenet.task import imagenet

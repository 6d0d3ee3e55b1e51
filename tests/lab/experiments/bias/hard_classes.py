"""Classes of ImageNet-A, for tests."""

from tangential_lab.experiments.bias import nine_classes

# ImageNet-A has some of the classes, and none of a crab
HARD = [name for name, label in nine_classes.CLASSES.items() if label != 7][::2]

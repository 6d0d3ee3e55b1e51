"""Classes of ImageNet-A, for tests."""

from tangential_lab.experiments.bias import nine_classes

# ImageNet-A has some of the classes, but no crabs
HARD = [name for name, label in nine_classes.CLASSES.items() if label != 7][::2]

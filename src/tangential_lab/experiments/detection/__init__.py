"""Detection: CenterNet and SSD on COCO and on blood cells."""

from tangential_lab.experiments.detection.task import detection

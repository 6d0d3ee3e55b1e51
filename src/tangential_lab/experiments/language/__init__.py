"""Language: Transformer-XL with its memory, and texts cut into streams."""

from tangential_lab.experiments.language.task import language

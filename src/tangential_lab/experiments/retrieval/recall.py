"""How often the nearest image is of the same class."""

import torch
from torch import Tensor

from tangential_lab.experiments.retrieval.photosets import BOTH, GALLERY, QUERY


def recall(predictions: list[tuple[Tensor, Tensor, Tensor]]) -> dict[str, float]:
    """Share of queries whose nearest other image is of their class.

    Args:
        predictions: Of every batch the embeddings [n, size], the classes [n] and the roles [n], of
            images that are asked about, found, or both.
    """
    from pytorch_metric_learning.distances import CosineSimilarity
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
    from pytorch_metric_learning.utils.inference import CustomKNN

    embeddings, labels, roles = (torch.cat(parts) for parts in zip(*predictions, strict=True))
    nearest = CustomKNN(CosineSimilarity(), batch_size=1024)
    calculator = AccuracyCalculator(
        include=("precision_at_1",), k=1, knn_func=nearest, device=torch.device("cpu")
    )
    asked, found = roles != GALLERY, roles != QUERY
    apart = (None, None) if (roles == BOTH).all() else (embeddings[found], labels[found])
    accuracy = calculator.get_accuracy(embeddings[asked], labels[asked], *apart)
    return {"recall@1": float(accuracy["precision_at_1"])}

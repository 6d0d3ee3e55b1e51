"""Average precision against hand-computed values and other code."""

import pytest
import torch
from boxed_batches import boxed
from faster_coco_eval import COCO, COCOeval_faster

from tangential_lab.experiments.detection.boxes import average_precision


def detected(*boxes, labels, scores):
    return boxed(*boxes, labels=labels) | {"scores": torch.tensor(scores)}


NOTHING = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0).long(), "scores": torch.zeros(0)}
CLASSES = ("RBC", "WBC", "Platelets")


def test_average_precision_by_hand():
    truth = boxed((0, 0, 10, 10), (20, 20, 40, 40), (50, 0, 60, 10), labels=[1, 1, 2])
    found = detected(
        (0, 0, 10, 10), (0, 50, 9, 60), (20, 20, 40, 33), labels=[1, 1, 1], scores=[0.9, 0.8, 0.7]
    )  # right; wrong; right up to an overlap of .65
    scores = average_precision([([found], [truth])], CLASSES)
    # recall .5 at precision 1 (51 of 101 recalls), recall 1 at 2/3 (50 of 101)
    whole, half = (51 + 50 * 2 / 3) / 101, 51 / 101
    assert scores == {
        "AP50": pytest.approx(whole / 2),  # platelets: 0; red cells have no box, and do not count
        "AP": pytest.approx((4 * whole + 6 * half) / 10 / 2),
        "AP50 WBC": pytest.approx(whole),
        "AP50 Platelets": 0.0,
    }


def test_average_precision_of_each_class_is_what_other_code_finds_for_it_alone():
    pairs = [random_pair() for _ in range(12)]
    scores = average_precision(
        [
            ([f for f, _ in pairs[:5]], [t for _, t in pairs[:5]]),
            ([f for f, _ in pairs[5:]], [t for _, t in pairs[5:]]),
        ],
        CLASSES,
    )
    alone = [reference(pairs, label) for label in range(3)]
    assert [scores[f"AP50 {name}"] for name in CLASSES] == pytest.approx(alone, abs=1e-6)
    assert len(set(alone)) == 3
    assert scores["AP50"] == pytest.approx(sum(alone) / 3)


def random_pair():
    low = 100 * torch.rand(9, 2)
    boxes = torch.cat([low, low + 10 + 30 * torch.rand(9, 2)], 1)
    labels = torch.randint(3, (9,))
    found = boxes + torch.tensor([0.5, 1, 4]).take(labels)[:, None] * torch.randn(9, 4)
    found = {"boxes": found, "labels": labels, "scores": torch.rand(9)}
    truth = {"boxes": boxes[2:], "labels": labels[2:], "iscrowd": (torch.arange(7) == 0).long()}
    return found, truth


def reference(pairs, label):
    """AP at .5 by faster-coco-eval, given the boxes of one class alone."""
    sides = lambda b: [*b[:2].tolist(), *(b[2:] - b[:2]).tolist()]
    notes, found = [], []
    for image, (detections, truth) in enumerate(pairs):
        for box, kind, crowd in zip(truth["boxes"], truth["labels"], truth["iscrowd"], strict=True):
            x, y, w, h = sides(box)
            note = {"image_id": image, "category_id": 1, "bbox": [x, y, w, h], "area": w * h}
            if kind == label:
                notes.append(note | {"id": len(notes) + 1, "iscrowd": int(crowd)})
        for box, kind, score in zip(
            *(detections[k] for k in ("boxes", "labels", "scores")), strict=True
        ):
            if kind == label:
                found.append(
                    {"image_id": image, "category_id": 1, "bbox": sides(box), "score": float(score)}
                )
    images = [{"id": i} for i in range(len(pairs))]
    truth = COCO({"images": images, "annotations": notes, "categories": [{"id": 1, "name": "it"}]})
    evaluation = COCOeval_faster(truth, truth.loadRes(found), iouType="bbox", print_function=str)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation.stats[1]


def test_detections_in_a_crowd_count_as_neither():
    truth = boxed((0, 0, 10, 10), (50, 50, 90, 90), labels=[1, 1])
    truth["iscrowd"] = torch.tensor([0, 1])
    found = detected((50, 50, 60, 60), (0, 0, 10, 10), labels=[1, 1], scores=[0.9, 0.5])
    assert average_precision([([found], [truth])], CLASSES)["AP50 WBC"] == pytest.approx(1.0)


def test_average_precision_of_nothing_found_is_zero():
    scores = average_precision([([NOTHING], [boxed((0, 0, 10, 10), labels=[1])])], CLASSES)
    assert scores == {"AP": 0.0, "AP50": 0.0, "AP50 WBC": 0.0}

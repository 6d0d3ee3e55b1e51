"""Boxes follow what they surround through every crop."""

import pytest
import torch
from torchvision import tv_tensors

from tangential_lab.experiments.detection import crops


@pytest.mark.parametrize(
    "change",
    [
        crops.centernet_training((128, 160), 64),
        crops.quick_ssd_training((128, 160), 2.0),
        crops.Window((128, 160)),
        crops.v2.Resize((128, 160)),
    ],
    ids=["centernet", "ssd", "centernet, evaluated", "ssd, evaluated"],
)
@pytest.mark.slow
def test_boxes_follow_what_they_surround(change, monkeypatch):
    steps = getattr(change, "transforms", [])
    kept = [t for t in steps if not isinstance(t, crops.v2.ColorJitter)]  # white stays white
    if steps:
        change = crops.v2.Compose(kept)
    seen = 0
    for _ in range(60):
        left, top = torch.randint(10, 150, (2,)).tolist()
        wide, high = torch.randint(30, 80, (2,)).tolist()
        pixels = torch.zeros(3, 240, 320, dtype=torch.uint8)
        pixels[:, top : top + high, left : left + wide] = 255
        box = torch.tensor([[left, top, left + wide, top + high]], dtype=torch.float32)
        target = {
            "boxes": tv_tensors.BoundingBoxes(box, format="XYXY", canvas_size=(240, 320)),
            "labels": torch.tensor([1]),
        }
        image, target = change(tv_tensors.Image(pixels), target)
        assert image.shape == (3, 128, 160)
        rows, columns = torch.nonzero(image[0] > 190, as_tuple=True)
        if len(target["boxes"]):
            seen += 1
            low, high_ = target["boxes"][0, :2].tolist(), target["boxes"][0, 2:].tolist()
            around = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert low + high_ == pytest.approx([int(x) for x in around], abs=1.6)
    assert seen > 30


def test_windows_show_the_published_share_of_the_image():
    window = crops.Window((512, 512), crops.SCALES, 128)
    draws = [window.make_params([torch.zeros(3, 480, 640)]) for _ in range(400)]
    assert {d["height"] for d in draws} == {384, 448, 512, 576, 640, 704, 768, 832}
    assert all(d["height"] == d["width"] for d in draws)
    centres = (
        [d["left"] + d["width"] / 2 for d in draws],
        [d["top"] + d["height"] / 2 for d in draws],
    )
    assert [(min(c), max(c)) for c in centres] == [
        (pytest.approx(128, abs=8), pytest.approx(640 - 128, abs=8)),
        (pytest.approx(128, abs=8), pytest.approx(480 - 128, abs=8)),
    ]

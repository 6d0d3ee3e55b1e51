"""Detectors against published counts, hand-computed losses, other code's AP and drawn boxes."""

import io
import json
import math
import pickle
from urllib.error import URLError

import numpy as np
import pytest
import torch
from faster_coco_eval import COCO, COCOeval_faster
from PIL import Image
from realdata import DATA, needs
from rehearsal import count, rehearse
from torch import nn
from torchvision import models, tv_tensors
from torchvision.models import ResNet18_Weights, VGG16_BN_Weights
from torchvision.models.detection import SSD300_VGG16_Weights, ssd300_vgg16

from tangential import audit
from tangential_lab.experiments.data.sources import DataError
from tangential_lab.experiments.detection import annotations, crops, peaks
from tangential_lab.experiments.detection import task as rooms
from tangential_lab.experiments.detection.annotations import bccd, coco
from tangential_lab.experiments.detection.boxes import average_precision
from tangential_lab.experiments.detection.centernet import CenterNet, resdcn18
from tangential_lab.experiments.detection.ssd import SSD300, Detector, Features, ssd300
from tangential_lab.experiments.detection.task import detection

SMALL = (64, 96)
NETS = {
    "centernet": lambda: CenterNet(3, widths=(8, 8, 16, 16), depth=1, ups=(8, 8, 8), head=8),
    "ssd": lambda: Detector(3, SMALL, Features(rooms.MINI_SSD._replace(width=1 / 16))),
}


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def boxed(*boxes, labels=None):
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        "labels": torch.tensor(labels if labels is not None else [0] * len(boxes)).long(),
    }


def batch(count=4):
    pixels = torch.randint(0, 256, (count, 3, *SMALL), dtype=torch.uint8)
    target = boxed((8, 8, 40, 48), (50, 20, 61, 30), (20, 10, 90, 60), labels=[0, 1, 2])
    return pixels, [target] * count


# ---- the nets are the published ones


def test_resdcn18_has_the_published_number_of_weights():
    backbone = count(models.resnet18()) - 513_000  # its classifier
    ups = [(512, 256), (256, 128), (128, 64)]
    stages = sum(
        (9 * i + 1) * o  # deformable convolution
        + (9 * i + 1) * 27  # its shifts and masks
        + 16 * o * o  # transposed convolution
        + 4 * o  # two BatchNorms
        for i, o in ups
    )
    heads = sum((9 * 64 + 1) * 64 + 65 * outputs for outputs in (80, 2, 2))
    assert count(resdcn18(80)) == backbone + stages + heads == 14_437_349  # published: 14.44 M


def test_backbone_is_torchvisions_resnet18():
    theirs, ours = models.resnet18().eval(), resdcn18(1).backbone.eval()
    state = {k: v for k, v in theirs.state_dict().items() if not k.startswith("fc.")}
    ours.load_state_dict(state)
    x = torch.randn(1, 3, 64, 64)
    pooled = theirs.avgpool(ours(x)).flatten(1)
    torch.testing.assert_close(theirs.fc(pooled), theirs(x))


def test_ssd300_has_the_published_convolutions_and_boxes():
    published = ssd300_vgg16(weights=None, weights_backbone=None)
    assert count(published) == SSD300_VGG16_Weights.COCO_V1.meta["num_params"]
    kernels = lambda net: sorted(p.shape for p in net.parameters() if p.dim() == 4)
    net = ssd300(90).eval()
    assert kernels(net) == kernels(published)
    with torch.no_grad():
        maps = list(net.ssd.backbone(torch.zeros(1, 3, 300, 300)).values())
    assert [x.shape[-1] for x in maps] == [38, 19, 10, 5, 3, 1]
    per_place = net.ssd.anchor_generator.num_anchors_per_location()
    cells = [x.shape[-1] ** 2 for x in maps]
    assert sum(n * c for n, c in zip(per_place, cells, strict=True)) == 8732


def test_every_ssd_convolution_before_a_map_is_normalised():
    features = Features(SSD300)
    count = lambda kind: sum(isinstance(m, kind) for m in features.modules())
    assert count(nn.Conv2d) == count(nn.BatchNorm2d) == 13 + 2 + 8


@pytest.mark.parametrize(
    ("weights", "theirs", "make", "backbone"),
    [
        (ResNet18_Weights, models.resnet18, resdcn18, lambda net: [net.backbone]),
        (
            VGG16_BN_Weights,
            models.vgg16_bn,
            ssd300,
            lambda net: [net.ssd.backbone.fine, net.ssd.backbone.coarse],
        ),
    ],
    ids=["centernet", "ssd"],
)
def test_pretrained_takes_torchvisions_weights(monkeypatch, weights, theirs, make, backbone):
    state = {k: torch.rand_like(v, dtype=torch.float32) for k, v in theirs().state_dict().items()}
    monkeypatch.setattr(weights, "get_state_dict", lambda self, **options: state)
    parts = backbone(make(2, pretrained=True))
    trained = {k: v for part in parts for k, v in part.state_dict().items()}
    assert len(trained) == sum(not k.startswith(("fc.", "classifier.")) for k in state)
    for name, value in trained.items():
        given = state.get(name, state.get(f"features.{name}"))
        assert torch.equal(value, given.to(value.dtype)), name


@pytest.mark.parametrize("make", [resdcn18, ssd300])
def test_weights_that_cannot_be_had_are_named(monkeypatch, tmp_path, make):
    def offline(*_args, **_options):
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", offline)
    wanted = r"checkpoints/\w+-\w+\.pth is missing: .*no route to host.*Get it from https://"
    with pytest.raises(DataError, match=wanted):
        make(2, pretrained=True)


def test_deformable_convolution_starts_as_half_a_plain_one():
    net = NETS["centernet"]()
    deformed = net.ups[0][0]
    x = torch.randn(2, 16, 5, 6)
    conv = deformed.conv
    plain = nn.functional.conv2d(x, conv.weight / 2, conv.bias, padding=1)
    torch.testing.assert_close(deformed(x), plain)


def test_bias_of_the_heat_makes_peaks_rare():
    pixels, _ = batch()
    heat = NETS["centernet"]().maps(pixels).heat.sigmoid()
    assert heat.mean().item() == pytest.approx(0.1, abs=0.05)


# ---- heat maps


@pytest.mark.parametrize("width", [1.0, 2.5, 7.0, 40.0, 128.0])
@pytest.mark.parametrize("height", [1.0, 3.0, 30.0, 127.5])
def test_radius_is_the_least_of_the_three_published(width, height):
    w, h, overlap = math.ceil(width), math.ceil(height), 0.7
    quadratics = [
        (1, h + w, w * h * (1 - overlap) / (1 + overlap)),
        (4, 2 * (h + w), (1 - overlap) * w * h),
        (4 * overlap, -2 * overlap * (h + w), (overlap - 1) * w * h),
    ]
    published = min((b + math.sqrt(b * b - 4 * a * c)) / 2 for a, b, c in quadratics)
    assert peaks.radius(torch.tensor([[width, height]])).item() == int(published)


def test_heat_falls_off_around_centres_and_takes_the_higher():
    square = (16, 24, 96, 104)  # 20 cells wide: radius 5, deviation 11 / 6
    made = peaks.objects(
        [boxed(square, (28, 24, 108, 104), labels=[1, 1])], torch.zeros(1, 2, 32, 32)
    )
    assert made.cell.tolist() == [[14, 16], [17, 16]]
    fall = lambda x, y: math.exp(-(x * x + y * y) / 2 / (11 / 6) ** 2)
    heat = made.heat[0, 1]
    assert heat[16, 14] == heat[16, 17] == 1
    assert heat[18, 14].item() == pytest.approx(fall(0, 2))
    assert heat[16, 15].item() == pytest.approx(fall(1, 0))  # not 2 cells from the other
    assert heat[21, 14].item() == pytest.approx(fall(0, 5))
    assert heat[22, 14] == heat[16, 8] == 0  # beyond the radius
    assert made.heat[0, 0].sum() == 0


def test_sizes_and_offsets_are_in_cells():
    made = peaks.objects([boxed(), boxed((9, 18, 37, 29))], torch.zeros(2, 1, 16, 16))
    assert made.image.tolist() == [1]
    assert made.cell.tolist() == [[5, 5]]  # centre 23, 23.5
    assert made.size.tolist() == [[7.0, 2.75]]
    assert made.offset.tolist() == [[0.75, 0.875]]


def drawn(targets, classes=2, cells=32):
    """Maps without an error."""
    made = peaks.objects(targets, torch.zeros(len(targets), classes, cells, cells))
    size, offset = torch.zeros(2, len(targets), 2, cells, cells)
    column, row = made.cell.unbind(1)
    size[made.image, :, row, column], offset[made.image, :, row, column] = made.size, made.offset
    return peaks.Maps(made.heat.logit(eps=1e-6), size, offset), made


def test_what_is_drawn_is_detected():
    targets = [boxed((10, 10, 50, 60), (60, 71, 90, 83), labels=[0, 1]), boxed((1, 2, 9, 5))]
    maps, made = drawn(targets)
    for found, target in zip(peaks.detections(maps), targets, strict=True):
        sure = found["scores"] > 0.99
        order = found["labels"][sure].argsort()
        torch.testing.assert_close(found["boxes"][sure][order], target["boxes"])
        assert torch.equal(found["labels"][sure][order], target["labels"])
    away = maps._replace(size=maps.size + 3, offset=maps.offset - 0.5)
    difference = peaks.loss(away, made) - peaks.loss(maps, made)
    assert difference.item() == pytest.approx(0.1 * 3 + 0.5, abs=1e-5)


def test_a_neighbour_of_a_peak_is_none_and_a_hundred_are_kept():
    heat = torch.full((1, 1, 32, 32), -20.0)
    heat[0, 0, 4, 4], heat[0, 0, 5, 5] = 2.0, 1.0
    flat = torch.zeros(1, 2, 32, 32)
    (found,) = peaks.detections(peaks.Maps(heat, flat, flat))
    assert len(found["scores"]) == 100
    assert found["scores"][0].item() == pytest.approx(1 / (1 + math.exp(-2)))
    assert found["scores"][1] < 1e-6


def test_focal_loss_by_hand():
    logits = torch.tensor([math.log(3), 0.0, -math.log(3)])  # p = 3/4, 1/2, 1/4
    heat = torch.tensor([1.0, 0.5, 0.0])
    by_hand = -(1 / 16 * math.log(3 / 4) + 1 / 16 / 4 * math.log(1 / 2) + 1 / 16 * math.log(3 / 4))
    assert peaks.focal_loss(logits, heat).item() == pytest.approx(by_hand)
    twice = peaks.focal_loss(logits.repeat(2), heat.repeat(2)).item()
    assert twice == pytest.approx(by_hand)  # a mean over centres


# ---- SSD's loss and decoding


class Fixed(nn.Module):
    """A head that always says the same."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, maps):
        return {
            "cls_logits": self.logits,
            "bbox_regression": torch.zeros(*self.logits.shape[:2], 4),
        }


def default_boxes(net):
    seen = []
    net.ssd.anchor_generator.register_forward_hook(lambda module, given, made: seen.append(made[0]))
    with torch.no_grad():
        net.eval()(torch.zeros(1, 3, *SMALL, dtype=torch.uint8))
    return seen[0]


def test_ssd_loss_by_hand():
    net = NETS["ssd"]()
    boxes = default_boxes(net)
    net.ssd.head = Fixed(torch.zeros(1, len(boxes), 4))
    size = torch.tensor([0.18 * SMALL[1], 0.18 * SMALL[0]])
    square = next(b for b in boxes if torch.allclose(b[2:] - b[:2], size) and b.min() > 0)
    target = boxed(square.tolist(), labels=[2])
    # overlaps above a half: the box itself; at .547 those that are longer by sqrt(2) one way and
    # shorter the other; at .529 the next larger square. Sides are encoded as 5 log(ratio).
    longer, larger = 5 * math.log(2) / 2, 5 * math.log(0.34 / 0.18) / 2
    regression = 2 * (2 * (longer - 0.5) + (larger - 0.5)) / 4
    classification = (1 + 3) * math.log(4)  # three negatives for every positive, four even classes
    loss = net.train()(torch.zeros(1, 3, *SMALL, dtype=torch.uint8), [target])
    assert loss.item() == pytest.approx(regression + classification, rel=1e-4)


def test_ssd_detects_its_default_boxes_and_no_background():
    net = NETS["ssd"]()
    boxes = default_boxes(net)
    number = next(i for i, b in enumerate(boxes) if b.min() > 0 and (b[2:] < 64).all())
    logits = torch.zeros(1, len(boxes), 4)
    logits[..., 0] = 20.0
    logits[0, number] = torch.tensor([0.0, 0.0, 30.0, 0.0])
    net.ssd.head = Fixed(logits)
    (found,) = net.eval()(torch.zeros(1, 3, *SMALL, dtype=torch.uint8))
    torch.testing.assert_close(found["boxes"], boxes[number : number + 1])
    assert found["labels"].tolist() == [1]  # of 0, 1, 2


# ---- both


@pytest.mark.parametrize("detector", NETS)
def test_loss_in_float64_shows_the_audit_what_is_invariant(detector):
    net = NETS[detector]()
    found = audit(net, [batch(2) for _ in range(2)], loss=lambda model, b: model(*b))
    weights = {n: p for n, p in net.named_parameters() if p.dim() > 1}
    before_norm = [n for n in weights if "where" not in n and "head" not in n]
    before_norm = [n for n in before_norm if not n.startswith(("heat", "size", "offset"))]
    assert {n for n in weights if found[n].kind in ("row", "weight")} == set(before_norm)


@pytest.mark.parametrize("detector", NETS)
def test_loss_of_a_batch_without_boxes_has_gradients(detector):
    net = NETS[detector]()
    loss = net(batch()[0], [boxed()] * 4)
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("detector", NETS)
def test_a_diverged_model_detects_nothing(detector):
    net = NETS[detector]().eval()
    with torch.no_grad():
        for values in net.parameters():
            values.fill_(math.nan)
        found = net(batch(2)[0])
    assert [len(f["boxes"]) for f in found] == [0, 0]


@pytest.mark.parametrize("detector", NETS)
def test_low_precision_leaves_loss_and_boxes_in_float32(detector):
    net = NETS[detector]()
    pixels, targets = batch()
    exact = net(pixels, targets)
    with torch.autocast("cpu", torch.bfloat16):
        loss = net(pixels, targets)
        net.eval()
        with torch.no_grad():
            found = net(pixels)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), rel=0.1)
    assert {f["boxes"].dtype for f in found} == {torch.float32}
    if detector == "ssd":
        whole = default_boxes(net)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(default_boxes(net), whole)


@pytest.mark.parametrize("detector", NETS)
def test_no_step_leaves_a_weight_without_a_gradient(detector):
    """DistributedDataParallel fails at the step after one that did."""
    net, shared = NETS[detector](), batch()
    alone = net(*shared).item()
    torch.distributed.init_process_group(
        "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1
    )
    try:
        copies = nn.parallel.DistributedDataParallel(net)
        for _ in range(2):
            loss = copies(*shared)
            loss.backward()
            assert loss.item() == pytest.approx(alone, rel=1e-5)
    finally:
        torch.distributed.destroy_process_group()


# ---- augmentation


@pytest.mark.parametrize(
    "change",
    [
        crops.centernet_training((128, 160), 64),
        crops.quick_ssd_training((128, 160), 2.0),
        crops.centernet_evaluation((128, 160)),
        crops.ssd_evaluation((128, 160)),
    ],
    ids=["centernet", "ssd", "centernet, evaluated", "ssd, evaluated"],
)
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


# ---- average precision


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


# ---- data


def sample(numbers):
    """As many images of noise, and what COCO's file of annotations says of them."""
    images = [
        {"id": 7 * i, "file_name": f"{i:012}.jpg", "height": 48, "width": 64} for i in numbers
    ]
    notes = [
        {"id": 3 * i, "image_id": 7 * i, "category_id": 5, "bbox": [4, 6, 30, 20], "iscrowd": 0}
        for i in numbers
    ]
    other = {"image_id": 7 * numbers[0], "category_id": 90}
    notes.append(other | {"id": 9001, "bbox": [0, 0, 64, 48], "iscrowd": 1})
    notes.append(other | {"id": 9002, "bbox": [3, 3, 0, 5], "iscrowd": 0})
    categories = [{"id": 90, "name": "brush"}, {"id": 5, "name": "plane"}]
    return {"images": images, "annotations": notes, "categories": categories}


@pytest.fixture
def tiny(tmp_path):
    """A folder laid out as COCO's, of six images and four."""
    home = tmp_path / "data" / "coco"
    (home / "annotations").mkdir(parents=True)
    for half, numbers in (("train2017", range(6)), ("val2017", range(10, 14))):
        said = sample(numbers)
        (home / "annotations" / f"instances_{half}.json").write_text(json.dumps(said))
        (home / half).mkdir()
        for image in said["images"]:
            noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
            Image.fromarray(noise).save(home / half / image["file_name"])
    return tmp_path / "data"


def test_coco_is_read_as_it_is_laid_out(tiny):
    source = coco(tiny)
    assert source.classes == ("plane", "brush")  # in the order of their ids
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 6, "test": 4}
    pixels, targets = source.splits["test"].__getitems__([1, 0])
    assert pixels.shape == (2, 3, 48, 64)
    assert targets[0]["boxes"].tolist() == [[4, 6, 34, 26]]
    assert targets[1]["boxes"].tolist() == [[4, 6, 34, 26], [0, 0, 64, 48]]  # not that of no width
    assert targets[1]["labels"].tolist() == [0, 1]
    assert targets[1]["iscrowd"].tolist() == [0, 1]


def test_crowds_are_shown_in_evaluation_alone(tiny):
    task = detection(preset="paper", data=tiny)
    assert {name: len(split) for name, split in task.splits.items()} == {
        "train": 5,
        "validation": 1,
        "test": 4,
    }
    tuned = task.splits["validation"].__getitems__([0])[1][0]
    assert tuned["iscrowd"].tolist() == [0, 1]
    assert all("iscrowd" not in t for t in task.splits["train"].__getitems__([0, 1, 2])[1])


@pytest.mark.parametrize("detector", NETS)
def test_detectors_are_trained_on_a_folder_of_cocos_layout(tiny, tmp_path, monkeypatch, detector):
    monkeypatch.setitem(rooms.SIZES, "centernet", (128, 128))  # 512 x 512 take their time
    task = detection(preset="paper", data=tiny, detector=detector)
    if detector == "ssd":  # its size is fixed, and the whole net takes its time
        thin = SSD300._replace(width=1 / 8)
        task = task._replace(model=lambda: Detector(2, (300, 300), Features(thin)))
    few = {name: split.only(np.arange(4)[: len(split)]) for name, split in task.splits.items()}
    scores = rehearse(task._replace(splits=few, batch_size=2, loader_workers=1), tmp_path)["test"]
    assert set(scores) == {"AP", "AP50"}
    assert 0 <= scores["AP"] <= scores["AP50"] <= 1


def test_the_ssd_of_the_paper_learns_from_a_step(tiny):
    task = detection(preset="paper", data=tiny, detector="ssd")
    model = task.model()
    loss = task.loss(model, task.splits["train"].__getitems__([0, 1]))
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    ("detector", "epochs", "batch_size", "drops"),
    [("centernet", 140, 114, (90, 120)), ("ssd", 120, 32, (80, 110))],
)
def test_learning_rate_falls_when_it_should(tiny, detector, epochs, batch_size, drops):
    task = detection(preset="paper", data=tiny, detector=detector)
    assert (task.epochs, task.batch_size) == (epochs, batch_size)
    rates = [task.schedule((epoch + 0.5) / epochs) for epoch in range(epochs)]
    wanted = [0.1 ** sum(epoch >= drop for drop in drops) for epoch in range(epochs)]
    assert rates == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda home: (home / "annotations/instances_val2017.json").unlink(), "instances_val2017"),
        (lambda home: (home / "annotations/instances_train2017.json").write_text("{"), "JSON"),
        (
            lambda home: (home / "annotations/instances_train2017.json").write_text("[1]"),
            "instances_train2017.json",
        ),
        (lambda home: (home / "val2017/000000000012.jpg").unlink(), "lacks 1 of the 4 images"),
        (
            lambda home: (home / "annotations/instances_val2017.json").write_text(
                json.dumps(sample(range(10, 14)) | {"categories": [{"id": 5, "name": "x"}]})
            ),
            "instances_val2017.json",
        ),
    ],
    ids=["no annotations", "broken JSON", "other JSON", "no image", "unknown category"],
)
def test_missing_and_broken_files_are_named(tiny, spoil, named):
    spoil(tiny / "coco")
    with pytest.raises(DataError, match=named) as raised:
        coco(tiny)
    assert "https://cocodataset.org" in str(raised.value)


def test_other_categories_are_refused(tiny):
    note = tiny / "coco/annotations/instances_val2017.json"
    renamed = [{"id": 90, "name": "brush"}, {"id": 5, "name": "aeroplane"}]
    note.write_text(json.dumps(sample(range(10, 14)) | {"categories": renamed}))
    with pytest.raises(DataError, match="other categories"):
        coco(tiny)


def test_a_broken_image_is_named(tiny):
    source = coco(tiny)
    (tiny / "coco/train2017/000000000003.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"000000000003\.jpg is no image"):
        source.splits["train"].__getitems__([3])


def test_broken_bccd_is_named(tmp_path):
    (tmp_path / "bccd").mkdir()
    (tmp_path / "bccd/bccd.npz").write_bytes(b"PK no archive")
    with pytest.raises(DataError, match=r"bccd\.npz is broken.*Get it from"):
        bccd(tmp_path)


@pytest.mark.parametrize("names", [["a.jpg", "b.jpg"], None])
def test_a_broken_photograph_of_bccd_is_named(tmp_path, names):
    whole = io.BytesIO()
    Image.new("RGB", (640, 480)).save(whole, "JPEG")
    photographs = [whole.getvalue(), whole.getvalue()[:400]]
    packed = {
        "jpeg": np.frombuffer(b"".join(photographs), np.uint8),
        "offsets": np.cumsum([0, *map(len, photographs)]),
    } | ({"files": np.array(names)} if names else {})
    named = "b\\.jpg" if names else "1"
    with pytest.raises(DataError, match=rf"BCCD is broken: photograph {named}: .*Get it from"):
        annotations._bccd(tmp_path / "BCCD", lambda: packed)


def test_small_nets_cannot_be_pretrained():
    with pytest.raises(ValueError, match="pretrained is True, allowed with preset 'mini' is False"):
        detection(pretrained=True)


# ---- blood cells


@needs("bccd")
def test_blood_cells_are_those_of_the_source():
    source = bccd(DATA)
    whole = source.splits["train"]
    assert source.classes == CLASSES
    assert {name: len(s) for name, s in source.splits.items()} == {
        "train": 205,
        "validation": 87,
        "test": 72,
    }
    assert np.bincount(whole.labels).tolist() == [4153, 372, 361]
    with np.load(DATA / "bccd/bccd.npz") as packed:
        number = int(whole.numbers[3])
        assert packed["split"][number] == 0
        mine = packed["image_index"] == number
        pixels, (target,) = whole.__getitems__([3])
        assert (2 * target["boxes"]).tolist() == packed["boxes"][mine].tolist()
        assert target["labels"].tolist() == packed["labels"][mine].tolist()
    assert pixels.shape == (1, 3, 240, 320)


@needs("bccd")
def test_prepared_photographs_are_read_once(monkeypatch):
    first = bccd(DATA)
    monkeypatch.setattr(
        "tangential_lab.experiments.detection.annotations._decoded",
        lambda file: pytest.fail("again"),
    )
    assert bccd(DATA).data == first.data


@needs("bccd")
@pytest.mark.parametrize("detector", NETS)
def test_mini_batches_are_the_seeds_and_can_be_trained_on(detector):
    task = detection(data=DATA, detector=detector)
    torch.manual_seed(3)
    pixels, targets = task.splits["train"].__getitems__([5, 6, 7])
    torch.manual_seed(3)
    sent = pickle.loads(pickle.dumps(task.splits["train"]))  # to a process that loads batches
    again, _ = sent.__getitems__([5, 6, 7])
    other, _ = task.splits["train"].__getitems__([5, 6, 7])
    assert torch.equal(pixels, again)
    assert not torch.equal(pixels, other)
    model = task.model().train()
    task.loss(model, (pixels, targets)).backward()
    with torch.no_grad():
        predictions = [task.predict(model.eval(), task.splits["test"].__getitems__([0, 1]))]
    assert task.metric.name in task.score(predictions)


@needs("bccd")
def test_the_small_centernets_shifts_learn_slowly():
    """At the others' rate they run away, in an epoch or two, from all that the map holds."""
    task = detection(data=DATA)
    model = task.model()
    others, shifts = task.groups(model)
    wheres = [up[0].where for up in model.ups]
    assert {id(p) for p in shifts["params"]} == {id(p) for w in wheres for p in w.parameters()}
    assert shifts["lr_scale"] == 0.1
    assert len(others["params"]) + len(shifts["params"]) == len(list(model.parameters()))
    assert len(detection(data=DATA, detector="ssd").groups(nn.Linear(2, 2))) == 1

"""What holds for both detectors."""

import math
from urllib.error import URLError

import pytest
import torch
from boxed_batches import NETS, batch, boxed, default_boxes
from torch import nn
from torchvision import models
from torchvision.models import ResNet18_Weights, VGG16_BN_Weights

from tangential import audit
from tangential_lab.experiments.data.sources import DataError
from tangential_lab.experiments.detection.centernet import resdcn18
from tangential_lab.experiments.detection.ssd import ssd300


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
@pytest.mark.slow
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
def test_missing_pretrained_weights_are_named(monkeypatch, tmp_path, make):
    def offline(*_args, **_options):
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", offline)
    wanted = r"checkpoints/\w+-\w+\.pth is missing: .*no route to host.*Get it from https://"
    with pytest.raises(DataError, match=wanted):
        make(2, pretrained=True)


@pytest.mark.parametrize("detector", NETS)
@pytest.mark.slow
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
    """DistributedDataParallel would fail at the next step."""
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

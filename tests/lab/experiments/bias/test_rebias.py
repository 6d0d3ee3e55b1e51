"""The nets of ReBias and their losses."""

import torch
from rehearsal import count
from torch.nn.functional import cross_entropy
from torchvision.models import resnet18

from tangential_lab.experiments.bias import rebias
from tangential_lab.experiments.bias.hsic import dependence
from tangential_lab.experiments.bias.task import bias


def test_the_nets_for_digits_have_the_published_shape():
    def weights(area):  # 3-16-32-64-128 with biases, BatchNorms, and ten classes
        convolutions = area * (3 * 16 + 16 * 32 + 32 * 64 + 64 * 128) + 240
        return convolutions + 2 * 240 + 128 * 10 + 10

    assert count(rebias.stacked(7)) == weights(49) == 531_210
    assert count(rebias.stacked(1)) == weights(1) == 12_810


def test_a_net_of_kernel_one_ignores_shape():
    x = torch.rand(4, 3, 14, 14)
    mixed = x.flatten(2)[:, :, torch.randperm(196)].view_as(x)
    for kernel_size, blind in ((1, True), (7, False)):
        net = rebias.stacked(kernel_size).eval()
        logits = net(x)[0], net(mixed)[0]
        assert torch.allclose(*logits, atol=1e-5) is blind


def test_bagnet_sees_five_pixels_across():
    net = rebias.bagnet18(9).eval()
    x = torch.rand(1, 3, 64, 64, requires_grad=True)
    features = net.body(x)
    assert features.shape[:2] == (1, 512)
    features[0, :, 3, 2].sum().backward()
    rows, columns = x.grad[0].abs().sum(0).nonzero().T
    assert (rows.min(), rows.max()) == (24, 28)  # eight pixels from one patch to the next
    assert (columns.min(), columns.max()) == (16, 20)


def test_bagnet_has_the_weights_of_its_layers():
    stem = 3 * 64 + 9 * 64 * 64 + 2 * 64

    def block(inputs, outputs, area, projected):
        convolutions = area * inputs * outputs + outputs * outputs + projected * inputs * outputs
        return convolutions + 2 * outputs * (2 + projected)

    stages = [(64, 64, 9), (64, 128, 1), (128, 256, 1), (256, 512, 1)]
    blocks = sum(block(i, o, area, 1) + block(o, o, 1, 0) for i, o, area in stages)
    assert count(rebias.bagnet18(9)) == stem + blocks + 9 * 512 + 9
    assert count(rebias.featured_resnet18(1000)) == 11_689_512  # torchvision's


def test_the_resnet_is_torchvisions():
    mine, theirs = rebias.featured_resnet18(9).eval(), resnet18(num_classes=9).eval()
    mine.load_state_dict(dict(zip(mine.state_dict(), theirs.state_dict().values(), strict=True)))
    x = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(mine(x)[0], theirs(x))


def test_either_net_minimises_its_own_loss(digits):
    task = bias(data=digits)
    batch = task.splits["train"].__getitems__(list(range(32)))
    torch.manual_seed(0)
    pair = task.model()
    inputs, labels = batch[0], batch[1][:, 0]

    def gradients(module, loss):
        pair.zero_grad()
        loss.backward()
        return [p.grad.clone() for p in module.parameters()]

    def losses():
        (f_logits, f), (g_logits, g) = pair(inputs)
        apart = dependence(f, g)
        return cross_entropy(f_logits, labels) + apart, cross_entropy(g_logits, labels) - apart

    wanted = gradients(pair.f, losses()[0]), gradients(pair.g, losses()[1])
    loss = task.loss(pair, batch)
    got = gradients(pair, loss)
    torch.testing.assert_close(got, [*wanted[0], *wanted[1]])
    torch.testing.assert_close(loss, sum(losses()))


def test_both_methods_start_from_the_same_net(digits):
    models = []
    for method in ("rebias", "plain"):
        torch.manual_seed(3)
        models.append(bias(data=digits, method=method).model())
    pair, alone = models
    assert all(
        torch.equal(p, q) for p, q in zip(pair.f.parameters(), alone.parameters(), strict=True)
    )

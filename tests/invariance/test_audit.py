"""The audit names exactly the scale-invariant weights, and leaves the model alone."""

import csv
import importlib
import json
import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import linear, normalize
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

import tangential
from tangential import SGDP, AdamP, audit, param_groups
from tangential.backends.rows import rows_of
from tangential.invariance.caveats import _holds
from tangential.invariance.copies import in_general_position
from tangential.invariance.evidence import TOLERANCE, Units, Verdict
from tangential.invariance.findings import Line
from tangential.invariance.precision import FLOAT64, widened
from tangential.invariance.probe import Probe
from tangential.invariance.proofs import functional
from tangential.invariance.published import _gate

ROW, WHOLE = ("row", 0, 1), ("weight", 0, 1)


class Model(nn.Module):
    """Modules by name, and how the output comes from them and the input."""

    def __init__(self, forward, **modules):
        super().__init__()
        self.compute = forward
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x):
        return self.compute(self, x)


class Scale(nn.Module):
    def __init__(self, *shape):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(shape))


class Attention(nn.Module):
    """Two heads of four, queries and keys normalised per head; rows of q, then k, then v."""

    def __init__(self, bias=False):
        super().__init__()
        self.in_proj = nn.Linear(8, 24, bias=bias)

    def forward(self, x):
        q, k, v = (y.unflatten(-1, (2, 4)).transpose(1, 2) for y in self.in_proj(x).chunk(3, -1))
        y = nn.functional.scaled_dot_product_attention(
            normalize(q, dim=-1), normalize(k, dim=-1), v
        )
        return y.transpose(1, 2).flatten(2)


def normed_heads(m, x):
    """Cosine attention of two heads: its queries and keys have units of four rows."""
    heads = [normalize(y.unflatten(-1, (2, 4)), dim=-1).transpose(1, 2) for y in (m.q(x), m.k(x))]
    return nn.functional.scaled_dot_product_attention(heads[0], heads[1], m.v(x)[:, None])


def fused_heads(m, x):
    """As above, queries and keys from one weight."""
    q, k = (
        normalize(y.unflatten(-1, (2, 4)), dim=-1).transpose(1, 2) for y in m.qk(x).chunk(2, -1)
    )
    return nn.functional.scaled_dot_product_attention(q, k, m.v(x)[:, None])


def sequence(*modules):
    return Model(lambda m, x: m.net(x), net=nn.Sequential(*modules))


def frozen_batch_norm():
    model = sequence(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6))
    model.net[1].running_var.uniform_(0.5, 2)
    model.net[1].eval()
    return model


def zeroed(model, *names):
    """Weights that start at zero, as many inits have it."""
    for name in names:
        nn.init.zeros_(model.get_parameter(name))
    return model


def frozen_bias():
    model = zeroed(sequence(nn.Linear(8, 6), nn.LayerNorm(6)), "net.0.bias")
    model.net[0].bias.requires_grad_(False)
    return model


def tied():
    model = Model(
        lambda m, x: m.b(m.norm(m.a(x))),
        a=nn.Linear(8, 8),
        norm=nn.BatchNorm1d(8),
        b=nn.Linear(8, 8),
    )
    model.b.weight = model.a.weight
    return model


def tied_normed():
    model = Model(
        lambda m, x: m.norm(m.b(m.norm(m.a(x)))),
        a=nn.Linear(8, 8, bias=False),
        norm=nn.BatchNorm1d(8, affine=False),
        b=nn.Linear(8, 8, bias=False),
    )
    model.b.weight = model.a.weight
    return model


IMAGE, VECTOR, TOKENS, SEQUENCE = (5, 3, 6, 6), (7, 8), (5, 12), (4, 5, 8)
conv = lambda bias=False, **kw: nn.Conv2d(3, 6, 3, bias=bias, **kw)
dense = lambda bias=False: nn.Linear(8, 6, bias=bias)

# name: (model, size of a batch, the invariant weights, the dead ones)
NETS = {
    "none": (lambda: sequence(conv(True), nn.ReLU()), IMAGE, {}, []),
    "none, linear": (lambda: sequence(dense(), nn.Tanh(), nn.Linear(6, 2)), VECTOR, {}, []),
    "batch norm": (
        lambda: sequence(conv(), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 2, 1)),
        IMAGE,
        {"net.0.weight": ROW},
        [],
    ),
    "batch norm, bias": (
        lambda: sequence(conv(True), nn.BatchNorm2d(6)),
        IMAGE,
        {"net.0.weight": ROW},
        ["net.0.bias"],
    ),
    "layer norm": (lambda: sequence(dense(), nn.LayerNorm(6)), VECTOR, {"net.0.weight": WHOLE}, []),
    "layer norm, bias": (lambda: sequence(dense(True), nn.LayerNorm(6)), VECTOR, {}, []),
    "layer norm, zero bias": (
        lambda: zeroed(sequence(dense(True), nn.LayerNorm(6)), "net.0.bias"),
        VECTOR,
        {},
        [],
    ),
    "layer norm, bias frozen at zero": (frozen_bias, VECTOR, {"net.0.weight": WHOLE}, []),
    "group norm": (
        lambda: sequence(conv(), nn.GroupNorm(3, 6)),
        IMAGE,
        {"net.0.weight": ("row", 0, 2)},
        [],
    ),
    "group norm, bias": (lambda: sequence(conv(True), nn.GroupNorm(3, 6)), IMAGE, {}, []),
    "group norm, one group": (
        lambda: sequence(conv(), nn.GroupNorm(1, 6)),
        IMAGE,
        {"net.0.weight": WHOLE},
        [],
    ),
    "instance norm": (
        lambda: sequence(conv(True), nn.InstanceNorm2d(6)),
        IMAGE,
        {"net.0.weight": ROW},
        ["net.0.bias"],
    ),
    "rms norm": (lambda: sequence(dense(), nn.RMSNorm(6)), VECTOR, {"net.0.weight": WHOLE}, []),
    "rms norm, bias": (lambda: sequence(dense(True), nn.RMSNorm(6)), VECTOR, {}, []),
    "scale between norms": (  # a vector that is invariant as a whole
        lambda: sequence(nn.RMSNorm(8), nn.RMSNorm(8)),
        VECTOR,
        {"net.0.weight": WHOLE},
        [],
    ),
    "weight norm": (
        lambda: sequence(weight_norm(dense(True)), nn.ReLU()),
        VECTOR,
        {"net.0.parametrizations.weight.original1": ROW},
        [],
    ),
    "spectral norm": (
        lambda: sequence(spectral_norm(dense(True)), nn.ReLU()),
        VECTOR,
        {"net.0.parametrizations.weight.original": WHOLE},
        [],
    ),
    "cosine head": (
        lambda: Model(
            lambda m, x: linear(normalize(m.body(x)), normalize(m.head.weight)),
            body=dense(),
            head=Scale(4, 6),
        ),
        VECTOR,
        {"head.weight": ROW, "body.weight": WHOLE},
        [],
    ),
    "residual": (
        lambda: Model(
            lambda m, x: m.out(x + m.norm(m.inner(x))),
            inner=nn.Linear(8, 8, bias=False),
            norm=nn.BatchNorm1d(8),
            out=nn.Linear(8, 3),
        ),
        VECTOR,
        {"inner.weight": ROW},
        [],
    ),
    "residual, norm after": (
        lambda: Model(
            lambda m, x: m.norm(x + m.inner(x)), inner=nn.Linear(8, 8), norm=nn.BatchNorm1d(8)
        ),
        VECTOR,
        {},
        ["inner.bias"],
    ),
    "layer scale near zero": (  # LN(Wx + 1e-6 Vx): W looks invariant, but is so only at the start
        lambda: Model(
            lambda m, x: m.norm(m.a(x) + m.scale.weight * m.tanh(m.b(x))),
            a=dense(),
            b=dense(),
            tanh=nn.Tanh(),
            scale=_small(Scale(6)),
            norm=nn.LayerNorm(6),
        ),
        VECTOR,
        {},
        [],
    ),
    "zero head": (
        lambda: zeroed(
            sequence(dense(), nn.BatchNorm1d(6), nn.Linear(6, 3)), "net.2.weight", "net.2.bias"
        ),
        VECTOR,
        {"net.0.weight": ROW},
        [],
    ),
    "transposed convolution": (
        lambda: sequence(nn.ConvTranspose2d(3, 6, 3, bias=False), nn.BatchNorm2d(6)),
        IMAGE,
        {"net.0.weight": ("row", 1, 1)},
        [],
    ),
    "transposed convolution, group norm": (
        lambda: sequence(nn.ConvTranspose2d(3, 6, 3, bias=False), nn.GroupNorm(2, 6)),
        IMAGE,
        {"net.0.weight": ("row", 1, 3)},
        [],
    ),
    "grouped convolution": (
        lambda: sequence(conv(groups=3), nn.BatchNorm2d(6), nn.Conv2d(6, 6, 3, groups=2)),
        IMAGE,
        {"net.0.weight": ROW},
        [],
    ),
    "depthwise convolution": (
        lambda: sequence(nn.Conv2d(3, 3, 3, groups=3, bias=False), nn.BatchNorm2d(3)),
        IMAGE,
        {"net.0.weight": ROW},
        [],
    ),
    "embedding": (
        lambda: Model(
            lambda m, x: m.norm(m.embedding((9 * x.sigmoid()).long())),
            embedding=nn.Embedding(10, 6),
            norm=nn.LayerNorm(6),
        ),
        TOKENS,
        {"embedding.weight": ROW},
        [],
    ),
    "embedding, positions": (
        lambda: Model(
            lambda m, x: m.norm(m.embedding((9 * x.sigmoid()).long()) + m.position.weight),
            embedding=nn.Embedding(10, 6),
            position=Scale(12, 6),
            norm=nn.LayerNorm(6),
        ),
        TOKENS,
        {},
        [],
    ),
    "heads": (
        lambda: Model(
            normed_heads, q=nn.Linear(8, 8, bias=False), k=nn.Linear(8, 8), v=nn.Linear(8, 4)
        ),
        SEQUENCE,
        {"q.weight": ("row", 0, 4)},
        [],
    ),
    "heads, fused": (
        lambda: Model(fused_heads, qk=nn.Linear(8, 16, bias=False), v=nn.Linear(8, 4)),
        SEQUENCE,
        {"qk.weight": ("row", 0, 4)},
        [],
    ),
    "heads, with values": (Attention, SEQUENCE, {}, []),
    "attention of torch": (
        lambda: Model(
            lambda m, x: m.mha(x, x, x)[0], mha=nn.MultiheadAttention(8, 2, batch_first=True)
        ),
        SEQUENCE,
        {},
        [],
    ),
    "tied": (tied, VECTOR, {}, ["a.bias"]),
    "tied, both normalised": (tied_normed, VECTOR, {"a.weight": ROW}, []),
    "frozen batch norm": (frozen_batch_norm, IMAGE, {}, []),
    "dropout": (
        lambda: sequence(dense(), nn.Dropout(0.3), nn.BatchNorm1d(6)),
        VECTOR,
        {"net.0.weight": ROW},
        [],
    ),
    "constants made in forward": (
        lambda: Model(lambda m, x: m.norm(m.a(x @ torch.eye(8))), a=dense(), norm=nn.LayerNorm(6)),
        VECTOR,
        {"a.weight": WHOLE},
        [],
    ),
    "one row": (
        lambda: sequence(nn.Linear(8, 1, bias=False), nn.BatchNorm1d(1)),
        VECTOR,
        {"net.0.weight": ROW},
        [],
    ),
    "rows of one element": (  # rescaled away altogether: nothing of such a weight matters
        lambda: sequence(nn.Conv2d(3, 3, 1, groups=3, bias=False), nn.BatchNorm2d(3)),
        IMAGE,
        {},
        ["net.0.weight"],
    ),
    "large eps": (
        lambda: sequence(conv(), nn.BatchNorm2d(6, eps=0.1)),
        IMAGE,
        {"net.0.weight": ROW},
        [],
    ),
    "complex": (
        lambda: Model(
            lambda m, x: normalize(
                torch.view_as_real(
                    x.to(torch.complex64 if x.dtype == torch.float32 else torch.complex128) @ m.w
                ).flatten(1)
            ),
            w=None,
        ),
        VECTOR,
        {"w": WHOLE},
        [],
    ),
}


def _small(module):
    nn.init.constant_(module.weight, 1e-6)
    return module


def built(name):
    model, size, invariant, dead = NETS[name]
    model = model()
    if name == "complex":
        model.w = nn.Parameter(torch.randn(8, 3, dtype=torch.complex64))
    return model, [torch.randn(size) for _ in range(3)], invariant, dead


def found(result):
    return {
        line.name: (line.kind, line.row_axis, line.row_groups)
        for line in result.lines
        if line.kind in ("row", "weight")
    }


@pytest.mark.parametrize("name", NETS)
def test_exactly_the_invariant_weights(name):
    model, batches, invariant, dead = built(name)
    result = audit(model, batches, verify=True)
    assert [line.name for line in result.lines] == [n for n, _ in model.named_parameters()]
    assert found(result) == invariant
    assert result.names("dead") == dead
    assert [line.name for line in result.lines if not line.verified] == []


class TestFunctionalProof:
    """It must not agree with whatever it is told."""

    def agrees(self, name, verdict):
        model, batches, _, _ = built(name)
        probe = Probe(in_general_position(model, 0, FLOAT64), None, 0)
        return functional(probe, widened(batches[0]), {"net.0.weight": verdict}, 0)["net.0.weight"]

    @pytest.mark.parametrize(
        ("name", "truth"),
        [("batch norm", ROW), ("group norm", ("row", 0, 2)), ("layer norm", WHOLE), ("none", None)],
    )
    @pytest.mark.parametrize(
        "claim", [None, "dead", ROW, ("row", 0, 2), ("row", 1, 1), ("row", 0, 3), WHOLE], ids=str
    )
    def test_bears_out_the_truth_alone(self, name, truth, claim):
        if claim is None or claim == "dead":
            verdict = Verdict(claim or "variant")
        else:
            verdict = Verdict(claim[0], Units(*claim))
        assert self.agrees(name, verdict) == (claim == truth)


def test_a_probe_is_afterwards_what_it_was():
    model, batches, *_ = built("frozen batch norm")
    probe = Probe(model, None, 0)
    before = probe.value(batches[0], 0, {})
    with probe.without(["net.0.bias"]), probe.batch_statistics(["net.1"]):
        assert probe.value(batches[0], 0, {}) != before
    assert probe.value(batches[0], 0, {}) == before


class TestCatches:
    def notes(self, model, name, size, **options):
        return " ".join(audit(model, [torch.randn(size) for _ in range(3)], **options)[name].notes)

    def test_bias_before_a_normalisation(self):
        model, batches, *_ = built("layer norm, zero bias")
        result = audit(model, batches)
        words = "scale-invariant as a whole but for the bias before the normalisation (net.0.bias)"
        assert result["net.0.weight"].notes == (words,)
        model, batches, *_ = built("group norm, bias")
        assert "by unit of 2 rows but for" in audit(model, batches)["net.0.weight"].notes[0]

    def test_bias_that_batch_norm_subtracts(self):
        model, batches, *_ = built("batch norm, bias")
        assert "subtracts it again" in audit(model, batches)["net.0.bias"].notes[0]

    def test_no_bias_is_blamed_where_there_is_no_normalisation(self):
        model, batches, *_ = built("none")
        assert audit(model, batches)["net.0.weight"].notes == ()

    def test_no_bias_is_blamed_by_chance(self):
        """One batch leaves less than TOLERANCE by chance, once in 1,250 weights."""
        assert _holds(Verdict("weight", radial=1e-12), FLOAT64.sure)
        assert not _holds(Verdict("weight", radial=TOLERANCE / 10), FLOAT64.sure)

    def test_frozen_batch_norm(self):
        model, batches, *_ = built("frozen batch norm")
        result = audit(model, batches)
        assert "by row if BatchNorm were in training mode" in result["net.0.weight"].notes[0]
        assert any("Frozen BatchNorm (net.1)" in words for words in result.notes)

    def test_frozen_batch_norm_of_another_kind(self):
        frozen = pytest.importorskip("torchvision.ops").FrozenBatchNorm2d(6)
        result = audit(sequence(conv(), frozen), [torch.randn(IMAGE) for _ in range(3)])
        assert found(result) == {}
        assert any("Frozen BatchNorm (net.1)" in words for words in result.notes)

    def test_eval_mode(self):
        model, batches, *_ = built("batch norm")
        training, evaluated = audit(model, batches), audit(model.eval(), batches)
        assert (training.mode, evaluated.mode) == ("training", "eval")
        assert found(training) == {"net.0.weight": ROW}
        assert found(evaluated) == {}
        assert "if BatchNorm were in training mode" in evaluated["net.0.weight"].notes[0]
        assert any("In eval mode net.1" in words for words in training.notes)

    def test_eval_mode_with_one_sample_is_no_error(self):
        model = sequence(nn.Linear(8, 6), nn.BatchNorm1d(6)).eval()
        assert found(audit(model, [torch.randn(1, 8) for _ in range(2)])) == {}

    def test_tied_weights(self):
        model, batches, *_ = built("tied")
        assert "tied with b.weight" in audit(model, batches)["a.weight"].notes

    @pytest.mark.parametrize("noisy", [True, False])
    def test_noise(self, noisy):
        def forward(m, x):
            return m.norm(m.a(x) * (torch.rand(6, dtype=x.dtype) if noisy else 1))

        model = Model(forward, a=dense(), norm=nn.BatchNorm1d(6))
        result = audit(model, [torch.randn(VECTOR) for _ in range(3)], verify=True)
        assert found(result) == {"a.weight": ROW}
        assert any("noise" in words for words in result.notes) == noisy
        assert all(line.verified for line in result.lines)

    def test_frozen_weights(self):
        model = sequence(dense(), nn.LayerNorm(6)).requires_grad_(False)
        model.net[1].weight.requires_grad_(True)
        assert self.notes(model, "net.0.weight", VECTOR) == "frozen (requires_grad=False)"

    def test_rows_of_some_heads(self):
        assert "only rows 0-15 along axis 0, in units of 4 are" in self.notes(
            Attention(), "in_proj.weight", SEQUENCE
        )

    def test_rows_without_gradient(self):
        model, _, _, _ = built("embedding")
        result = audit(model, [torch.full((2, 3), -9.0), torch.full((2, 3), 0.0)])
        assert found(result) == {"embedding.weight": ROW}
        assert result["embedding.weight"].notes == ("8 units had no gradient",)

    def test_unused_weight(self):
        model = Model(lambda m, x: m.a(x), a=dense(), b=dense())
        result = audit(model, [torch.randn(VECTOR) for _ in range(2)], verify=True)
        assert result.names("dead") == ["b.weight"]
        words = "no gradient: these batches do not use it, or it is under detach or no_grad"
        assert result["b.weight"].notes == (words,)
        assert result["b.weight"].gate == ("off", "off")
        assert result["b.weight"].verified

    def test_eps_that_counts(self):
        model = sequence(conv(), nn.BatchNorm2d(6, eps=0.1))
        assert "only up to the eps" in self.notes(model, "net.0.weight", IMAGE)
        model.net[1].eps = 1e-9
        assert self.notes(model, "net.0.weight", IMAGE) == ""

    def test_one_batch(self):
        model = sequence(dense(), nn.LayerNorm(6))
        assert any(
            words.startswith("One batch") for words in audit(model, [torch.randn(VECTOR)]).notes
        )


class TestGate:
    """What the published gate would do, beside the truth."""

    @pytest.mark.parametrize(
        ("said", "grad"),
        [
            ("row", [[4.0, -3.0], [0.0, 1.0]]),
            ("weight", [[3.0, 4.0], [-25.0, 0.0]]),
            ("off", [[3.0, 4.0], [1.0, 0.0]]),
        ],
    )
    def test_is_the_optimizers_gate(self, said, grad):
        start = torch.tensor([[3.0, 4.0], [1.0, 0.0]])
        ends = []
        for projection in ("auto", said):
            weight = nn.Parameter(start.clone())
            weight.grad = torch.tensor(grad)
            SGDP([weight], lr=0.1, weight_decay=0.1, projection=projection).step()
            ends.append(weight.detach())
        assert torch.equal(*ends)
        assert _gate(start, torch.tensor(grad)) == said

    def test_right_on_batch_norm(self):
        model, batches, *_ = built("batch norm")
        result = audit(model, batches)
        assert result["net.0.weight"].gate == ("row",) * 3
        assert result["net.0.weight"].eps_radial < 1e-2
        assert (result["net.0.weight"].wrong, result["net.0.weight"].missed) == (0, 0)

    def test_misses_other_axes(self):
        model, batches, *_ = built("transposed convolution")
        result = audit(model, batches)
        assert "row" not in result["net.0.weight"].gate
        assert [line.name for line in result.missed] == ["net.0.weight"]
        assert result["net.0.weight"].missed == 1
        assert result.wrong == []

    def line(self, kind, gate, groups=1):
        return Line("w", (4, 4), 16, kind, 0, groups, 0.0, 0.0, None, tuple(gate.split()), ())

    @pytest.mark.parametrize(
        ("kind", "gate", "groups", "wrong", "missed", "flicker"),
        [
            ("variant", "off off weight off", 1, 0.25, 0, 0.25),
            ("variant", "row off row weight", 1, 0.75, 0, 0.5),
            ("row", "row row weight off", 1, 0, 0.5, 0.5),
            ("row", "row weight weight off", 2, 0.25, 0.75, 0.5),
            ("weight", "weight weight off row", 1, 0.25, 0.25, 0.5),
            ("dead", "row row", 1, 0, 0, 0),
        ],
    )
    def test_wrong_missed_and_flicker(self, kind, gate, groups, wrong, missed, flicker):
        line = self.line(kind, gate, groups)
        assert (line.wrong, line.missed, line.flicker) == (wrong, missed, flicker)

    def test_matrices_pass_by_chance(self):
        """|N(0, 1)| < 0.1 in 8 % of the gradients of a scale-variant matrix (METHOD, section 2)."""
        model = Model(lambda m, x: x @ m.w.weight, w=Scale(16, 16))
        result = audit(model, [torch.randn(4, 16) for _ in range(200)])
        assert result["w.weight"].kind == "variant"
        assert 0.03 < result["w.weight"].wrong < 0.15
        assert set(result["w.weight"].gate) == {"off", "weight"}


def test_the_model_is_left_as_it_was():
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Dropout(0.5), nn.BatchNorm2d(6), nn.Linear(4, 2)
    )
    model[3].eval()
    model[0].bias.requires_grad_(False)
    grad = model[4].weight.grad = torch.ones(2, 4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    generator = torch.get_rng_state()
    audit(model, [torch.randn(IMAGE) for _ in range(2)], verify=True)
    after = model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert model[4].weight.grad is grad
    assert grad.eq(1).all()
    assert all(p.grad is None for n, p in model.named_parameters() if n != "4.weight")
    assert [n for n, p in model.named_parameters() if not p.requires_grad] == ["0.bias"]
    assert [module.training for module in model] == [True, True, True, False, True]
    assert model[1].eps == 1e-5
    assert {p.dtype for p in model.parameters()} == {torch.float32} == {torch.get_default_dtype()}
    torch.set_rng_state(generator)  # the batches above were drawn in between
    [torch.randn(IMAGE) for _ in range(2)]
    drawn_by_batches = torch.get_rng_state()
    torch.set_rng_state(generator)
    audit(model, (torch.randn(IMAGE) for _ in range(2)))
    assert torch.equal(torch.get_rng_state(), drawn_by_batches)


def test_the_same_seed_says_the_same():
    model, batches, *_ = built("dropout")
    first, again, other = (audit(model, batches, seed=seed).records() for seed in (1, 1, 2))
    assert first == again
    assert first != other


class TestInputs:
    def model(self):
        return sequence(nn.Linear(8, 6), nn.BatchNorm1d(6))

    @pytest.mark.parametrize(
        "form",
        [
            lambda x: x,
            lambda x: (x,),
            lambda x: [x],
            lambda x: {"x": x},
            lambda x: lambda model: model(x.to(next(model.parameters()).dtype)),
        ],
        ids=["tensor", "tuple", "list", "mapping", "function"],
    )
    def test_batches(self, form):
        assert found(audit(self.model(), [form(torch.randn(VECTOR))] * 2)) == {"net.0.weight": ROW}

    def test_loss(self):
        batches = [(torch.randn(VECTOR), torch.randint(6, (7,))) for _ in range(2)]

        def loss(model, batch):
            return nn.functional.cross_entropy(model(batch[0]), batch[1])

        assert found(audit(self.model(), batches, loss=loss, verify=True)) == {"net.0.weight": ROW}

    @pytest.mark.parametrize(
        "outputs",
        [lambda y: (y, None), lambda y: {"a": [y.argmax(), y], "b": 3}, lambda y: y[0, 0]],
        ids=["tuple", "tree", "scalar"],
    )
    def test_outputs(self, outputs):
        model = Model(lambda m, x: outputs(m.net(x)), net=nn.Sequential(dense(), nn.LayerNorm(6)))
        result = audit(model, [torch.randn(VECTOR) for _ in range(2)])
        assert found(result) == {"net.0.weight": WHOLE}

    def test_narrow_weights(self):
        model = sequence(dense(), nn.LayerNorm(6)).to(torch.bfloat16)
        result = audit(model, [torch.randn(VECTOR, dtype=torch.bfloat16) for _ in range(2)])
        assert found(result) == {"net.0.weight": WHOLE}

    @pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
    def test_weights_computed_by_a_hook(self):
        model = sequence(nn.utils.weight_norm(dense()), nn.ReLU())
        model(torch.randn(VECTOR))
        result = audit(model, [torch.randn(VECTOR) for _ in range(2)])
        assert found(result) == {"net.0.weight_v": ROW}

    @pytest.mark.parametrize(
        ("model", "batches", "error", "words"),
        [
            ("resnet50", [1], TypeError, "model is a str"),
            (nn.Linear(2, 2), torch.ones(2, 2), TypeError, "batches is a Tensor"),
            (nn.Linear(2, 2), {"x": 1}, TypeError, "batches is a dict"),
            (nn.Linear(2, 2), 3, TypeError, "batches is a int"),
            (nn.Linear(2, 2), [], ValueError, "batches is empty"),
            (nn.ReLU(), [torch.ones(2)], ValueError, "no weights"),
            (nn.LazyLinear(2), [torch.ones(2)], ValueError, "weight is not initialised"),
            (nn.Linear(2, 2), [torch.full((2, 2), math.nan)], ValueError, "batch 0 is nan"),
            (nn.Bilinear(2, 2, 2), [(torch.ones(2, 2),)], TypeError, "does not fit Bilinear"),
        ],
    )
    def test_errors(self, model, batches, error, words):
        with pytest.raises(error, match=words):
            audit(model, batches)

    @pytest.mark.parametrize(
        ("loss", "words"),
        [
            (lambda model, x: model(x), "allowed is a finite scalar"),
            (lambda model, x: 3.0, "is <class 'float'>"),
            (lambda model, x: x.sum(), "does not depend on the weights"),
        ],
    )
    def test_loss_errors(self, loss, words):
        with pytest.raises(ValueError, match=words):
            audit(self.model(), [torch.randn(VECTOR)], loss=loss)

    def test_outputs_without_a_float(self):
        with pytest.raises(ValueError, match="no floating-point tensor"):
            audit(Model(lambda m, x: m.a(x).argmax(), a=dense()), [torch.randn(VECTOR)])


TANGENT = {
    "a.0.weight": ("row", 0, 1),
    "b.0.weight": ("row", 1, 2),
    "c.0.weight": ("weight", 0, 1),
}


WRAPPERS = {
    "plain": lambda m: m,
    "compiled": partial(torch.compile, backend="eager"),
    "parallel": nn.DataParallel,
    "parallel compiled": lambda m: nn.DataParallel(torch.compile(m, backend="eager")),
}


class TestParamGroups:
    def model(self):
        return Model(
            lambda m, x: m.c(m.b(m.a(x)).mean((2, 3))),
            a=nn.Sequential(nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6)),
            b=nn.Sequential(nn.ConvTranspose2d(6, 4, 3, bias=False), nn.GroupNorm(2, 4)),
            c=nn.Sequential(nn.Linear(4, 6, bias=False), nn.LayerNorm(6), nn.Linear(6, 2)),
        )

    def groups(self):
        model = self.model()
        result = audit(model, [torch.randn(IMAGE) for _ in range(3)])
        return model, result, param_groups(model, result)

    def test_are_what_the_audit_says(self):
        model, _, groups = self.groups()
        said = {
            id(p): (g["projection"], g["row_axis"], g["row_groups"])
            for g in groups
            for p in g["params"]
        }
        named = {name: said.pop(id(p)) for name, p in model.named_parameters()}
        assert said == {}
        off = dict.fromkeys(named, ("off", 0, 1))
        assert named == off | TANGENT

    @pytest.mark.parametrize("optimizer", [AdamP, SGDP])
    def test_steps_are_tangent(self, optimizer):
        """Along every invariant unit the first step has no radial part."""
        model, _, groups = self.groups()
        model(torch.randn(IMAGE)).square().sum().backward()
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        optimizer(groups, lr=1e-3).step()
        for name, units in TANGENT.items():
            start, end = before[name].double(), model.get_parameter(name).detach().double()
            rows = rows_of(start, Units(*units))
            radial = rows.dot(end - start, start) / rows.dot(start, start)
            assert radial.abs().max() < 1e-6 < (end - start).norm()

    def test_torch_optimizers_take_them(self):
        optimizer = torch.optim.AdamW(self.groups()[2], lr=1e-3)
        assert [group["projection"] for group in optimizer.param_groups].count("off") == 1

    def test_errors(self):
        model, result, _ = self.groups()
        with pytest.raises(ValueError, match=r"0.weight is not in the audit"):
            param_groups(nn.Sequential(nn.Linear(2, 2)), result)
        model.c[2] = nn.Linear(6, 3)
        with pytest.raises(ValueError, match=r"c.2.weight has shape \(3, 6\), but \(2, 6\)"):
            param_groups(model, result)

    def test_wrong_types_are_named(self):
        model, result, _ = self.groups()
        with pytest.raises(TypeError, match=r"audit must be what .*audit\(.*returns, got None"):
            param_groups(model, None)
        with pytest.raises(
            TypeError, match=r"model must be a torch.nn.Module, got an object of type Audit: call"
        ):
            param_groups(result, model)

    @pytest.mark.parametrize("outer", WRAPPERS.values(), ids=WRAPPERS)
    @pytest.mark.parametrize("inner", WRAPPERS.values(), ids=WRAPPERS)
    def test_wrappers_do_not_matter(self, inner, outer):
        """Whether the model, the audited model or both are wrapped."""
        model, _, groups = self.groups()
        result = audit(inner(model), [torch.randn(IMAGE) for _ in range(3)])
        said = [
            [{**g, "params": [id(p) for p in g["params"]]} for g in x]
            for x in (groups, param_groups(outer(model), result))
        ]
        assert said[0] == said[1]

    @pytest.mark.parametrize("wrap", [nn.DataParallel, partial(torch.compile, backend="eager")])
    def test_errors_name_weights_inside_wrappers(self, wrap):
        _, result, _ = self.groups()
        with pytest.raises(ValueError, match=r"^0.weight is not in the audit"):
            param_groups(wrap(nn.Sequential(nn.Linear(2, 2))), result)

    def test_a_model_with_a_module_of_the_wrappers_name(self):
        """Its weights have equal names without "module"."""
        both = Model(
            lambda m, x: m.head(m.module(x)),
            head=nn.Linear(4, 4),
            module=Model(lambda m, x: m.head(x), head=nn.Linear(4, 4)),
        )
        result = audit(both, [torch.randn(8, 4) for _ in range(3)])
        for model in (both, nn.DataParallel(both)):
            assert sum(len(g["params"]) for g in param_groups(model, result)) == 4


class TestOutput:
    def result(self):
        model, batches, *_ = built("batch norm, bias")
        return audit(model, batches, verify=True)

    def test_summary_and_shares(self):
        result = self.result()
        share = 6 * 27 / (6 * 27 + 18)
        assert result.share("row") == pytest.approx(share)
        assert result.summary.startswith("90.0 % of the weights are scale-invariant by row")
        assert sum(result.share(k) for k in ("row", "weight", "variant", "dead")) == 1

    def test_csv_and_json(self, tmp_path):
        result = self.result()
        result.to_csv(tmp_path / "a.csv")
        result.to_json(tmp_path / "a.json")
        lines = list(csv.DictReader((tmp_path / "a.csv").read_text().splitlines()))
        whole = json.loads((tmp_path / "a.json").read_text())
        assert [x["name"] for x in lines] == [x["name"] for x in whole["weights"]]
        assert lines[0] | {"radial": ""} == {
            "name": "net.0.weight",
            "shape": "6 3 3 3",
            "size": "162",
            "kind": "row",
            "row_axis": "0",
            "row_groups": "1",
            "radial": "",
            "eps_radial": lines[0]["eps_radial"],
            "verified": "True",
            "gate": "row row row",
            "notes": "",
            "remedy": "",
            "projection": "row",
            "flicker": "0.0",
            "wrong": "0.0",
            "missed": "0.0",
        }
        assert whole["weights"][0]["shape"] == [6, 3, 3, 3]
        assert whole["shares"]["row"] == pytest.approx(0.9)
        assert whole["summary"] == result.summary

    def test_unknown_name(self):
        with pytest.raises(KeyError, match="nothing"):
            self.result()["nothing"]


def test_the_package_has_the_function_after_every_import():
    importlib.import_module("tangential.invariance.audits")
    importlib.import_module("tangential_lab.cli.audit")
    assert tangential.audit is audit
    assert callable(audit)

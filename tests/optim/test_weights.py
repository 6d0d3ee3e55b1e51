"""Every kind of weight: layouts, dtypes, complex, empty, zero, not finite."""

import copy
import itertools
import warnings

import numpy as np
import pytest
import torch
from oracle import Oracle
from table import OUTCOMES, close, every_backend, every_rule, gradient, leaf

from tangential import SGDP, AdamP

pytestmark = [every_backend, every_rule]
LAYOUTS = {
    "channels_last": lambda x: x.to(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(0, 3).contiguous().transpose(0, 3),
    "sliced": lambda x: torch.zeros(9, 12, 3, 6)[1:9, ::2, :, 2:5].copy_(x),
    "one huge slice": lambda x: torch.zeros(8, 6, 3, 3, 2)[..., 1].copy_(x),
}
LOW = {torch.float32: 1e-6, torch.bfloat16: 1e-2, torch.float16: 2e-3}


def usual(cls):
    return {"lr": 0.01, "weight_decay": 0.1} | ({"momentum": 0.9} if cls is SGDP else {})


def rule_of(cls):
    return "adam" if cls is AdamP else "sgd"


def paired(x):
    """Pairs of reals [..., 2] as a complex tensor."""
    return torch.complex(torch.tensor(x[..., 0]), torch.tensor(x[..., 1]))


@pytest.mark.parametrize(
    ("of_weight", "of_grad"),
    [
        pytest.param(LAYOUTS[a], LAYOUTS[b], id=f"{a}, {b}", marks=[pytest.mark.slow] * (a != b))
        for a, b in itertools.product(LAYOUTS, repeat=2)
    ],
)
@pytest.mark.parametrize("options", [{}, {"caution": True, "row_axis": 1}, {"row_groups": 4}])
def test_layout_does_not_matter(cls, backend, of_weight, of_grad, options):
    x = torch.randn(8, 6, 3, 3)
    plain, other = leaf(x.clone()), leaf(of_weight(x))
    optimizers = [cls([p], **backend, **usual(cls), **options) for p in (plain, other)]
    strides = other.stride()
    for t in range(4):
        plain.grad = torch.randn(8, 6, 3, 3)
        if t % 2:
            plain.grad -= plain * (plain.grad * plain).sum() / (plain * plain).sum()
            plain.grad = plain.grad.detach()
        other.grad = of_grad(plain.grad)
        for optimizer in optimizers:
            optimizer.step()
        torch.testing.assert_close(other, plain, rtol=1e-5, atol=1e-6)
    assert other.stride() == strides


@pytest.mark.parametrize("dtype", LOW, ids=str)
@pytest.mark.parametrize("options", [{}, {"caution": True}, {"nesterov": True}])
def test_low_precision_stays_near_the_oracle(cls, backend, dtype, options):
    """Sums and arithmetic are float32: only rounding the weight and the state costs anything."""
    rng = np.random.default_rng(0)
    oracle = Oracle(rng.standard_normal((32, 24)), rule_of(cls), **usual(cls), **options)
    p = leaf(torch.tensor(oracle.w).to(dtype))
    optimizer = cls([p], **backend, **usual(cls), **options)
    for t in range(9):
        oracle.w = p.detach().double().numpy()  # compare single steps from the same weight
        oracle.m, oracle.v = (
            optimizer.state[p][name].double().numpy() if optimizer.state[p] else np.zeros((32, 24))
            for name in (*optimizer.buffers, *optimizer.buffers)[:2]
        )
        g = torch.tensor(gradient(oracle, OUTCOMES[t % 3], rng)).to(dtype)
        p.grad = g
        oracle.step(g.double().numpy())
        optimizer.step()
        assert p.dtype == optimizer.state[p][optimizer.buffers[0]].dtype == dtype
        assert close(p, oracle.w, LOW[dtype])


def test_float16_stays_finite_where_adamws_does(cls, backend):
    """Row norms past 65504, a gradient that squares past it, and moments that underflow."""
    for scale in (1e-7, 1e-3, 1.0, 300.0, 6e4):
        g = (torch.randn(32, 32) * scale).clamp(-6e4, 6e4).half()
        w = (torch.randn(32, 32) * 100).half()
        ours, theirs = leaf(w.clone()), leaf(w.clone())
        optimizer = cls([ours], **backend, lr=1e-3)
        reference = torch.optim.AdamW if cls is AdamP else torch.optim.SGD
        reference = reference([theirs], lr=1e-3)
        for _ in range(3):
            ours.grad, theirs.grad = g.clone(), g.clone()
            optimizer.step()
            reference.step()
        assert not (theirs.isfinite() & ~ours.isfinite()).any(), scale
        assert ours.isfinite().all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("projection", ["auto", "row", "weight"])
def test_bad_gradients_damage_the_same_values_as_in_torchs_optimizers(
    cls, backend, bad, projection
):
    reference = torch.optim.AdamW if cls is AdamP else torch.optim.SGD
    settings = {"lr": 0.01} | ({"momentum": 0.9} if cls is SGDP else {"weight_decay": 0.1})
    ours, theirs = (leaf(torch.full((4, 6), 0.5)) for _ in range(2))
    optimizer = cls([ours], **backend, projection=projection, **settings)
    other = reference([theirs], **settings)
    for t in range(3):
        g = torch.randn(4, 6)
        if t == 0:
            g[1, 2] = bad
        ours.grad, theirs.grad = g.clone(), g.clone()
        optimizer.step()
        other.step()
        assert torch.equal(ours.isfinite(), theirs.isfinite())
        assert torch.equal(ours.isnan(), theirs.isnan())


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
@pytest.mark.parametrize("options", [{}, {"caution": True}, {"row_axis": -1}, {"nesterov": True}])
def test_complex_is_pairs_of_reals(cls, backend, dtype, options):
    rng = np.random.default_rng(0)
    for shape in [(6, 4), (5,), (), (0, 3)]:
        w = rng.standard_normal((*shape, 2))
        oracle = Oracle(w, rule_of(cls), axes=len(shape), **usual(cls), **options)
        p = leaf(paired(w).to(dtype))
        optimizer = cls([p], **backend, **usual(cls), **options)
        for t in range(6):
            g = gradient(oracle, OUTCOMES[t % 3], rng)
            p.grad = paired(g).to(dtype)
            oracle.step(g)
            optimizer.step()
            tolerance = 1e-12 if dtype == torch.complex128 else 1e-5
            assert close(torch.view_as_real(p.detach()), oracle.w, tolerance)
            assert len(shape) > 1 or oracle.outcome == "none"


@pytest.mark.parametrize("shape", [(5,), ()])
def test_complex_vectors_are_torchs(cls, backend, shape):
    """Not projected, and each part's second moment from its own square, never from g * g."""
    ours = leaf(torch.randn(shape, dtype=torch.complex128))
    theirs = leaf(ours.clone())
    optimizer = cls([ours], **backend, **usual(cls) | {"weight_decay": 0})
    if cls is AdamP:
        other = torch.optim.AdamW([theirs], lr=0.01, weight_decay=0, foreach=False)
    else:
        other = torch.optim.SGD([theirs], lr=0.01, momentum=0.9, foreach=False)
    for _ in range(5):
        ours.grad = torch.randn(shape, dtype=torch.complex128)
        theirs.grad = ours.grad.clone()
        optimizer.step()
        other.step()
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)


def test_gradient_may_be_a_lazy_conjugate(cls, backend):
    g = torch.randn(3, 4, dtype=torch.complex64)
    params = [leaf(torch.ones(3, 4, dtype=torch.complex64)) for _ in range(2)]
    for p, grad in zip(params, (g.conj(), g.conj().resolve_conj()), strict=True):
        p.grad = grad
        cls([p], **backend, **usual(cls)).step()
    torch.testing.assert_close(*params)


def test_lazy_modules_materialise_after_the_optimizer_is_built(cls, backend):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch: lazy modules are experimental
        layer = torch.nn.LazyLinear(3)
    optimizer = cls(layer.parameters(), **backend, row_groups=2, **usual(cls))
    layer(torch.randn(2, 5)).sum().backward()
    with pytest.raises(ValueError, match=r"row_groups is 2, but .* \(3, 5\) has 3 rows"):
        optimizer.step()
    optimizer.param_groups[0]["row_groups"] = 3
    optimizer.step()


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0,), (0, 0, 2)])
@pytest.mark.parametrize("projection", ["auto", "row", "weight", "off"])
def test_empty_weights_step(cls, backend, shape, projection):
    p = leaf(torch.zeros(shape))
    p.grad = torch.zeros(shape)
    optimizer = cls([p], lr=0.1, **backend, projection=projection, caution=True)
    optimizer.step()
    assert optimizer.state[p][optimizer.buffers[0]].shape == shape


def test_zero_weights_and_zero_gradients_stay_finite(cls, backend):
    for w, g, eps in itertools.product((0.0, 1.0), (0.0, 1.0), (0.0, 1e-8)):
        if g == eps == 0.0 and cls is AdamP:
            continue  # 0/0, in torch's Adam too
        p = leaf(torch.full((3, 4), w))
        p.grad = torch.full((3, 4), g)
        cls([p], lr=0.1, **backend, eps=eps, weight_decay=0.1).step()
        assert p.isfinite().all(), (w, g, eps)


def test_rows_of_one_element_keep_their_momentum(cls, backend):
    """An all-zero gradient fires the published row view and erases the whole momentum step."""
    p = leaf(torch.full((6, 1), 2.0))
    optimizer = cls([p], **backend, projection="row", **usual(cls))
    p.grad = torch.ones(6, 1)
    optimizer.step()
    before = p.detach().clone()
    p.grad = torch.zeros(6, 1)
    optimizer.step()
    assert ((before - p) > 1e-3).all()


def test_mixed_dtypes_and_frozen_weights_in_one_group(cls, backend):
    params = [leaf(torch.randn(4, 3).to(d)) for d in (torch.float64, torch.float16, torch.float32)]
    params += [leaf(torch.randn(4, 3)), leaf(torch.randn(3, 4, dtype=torch.complex64))]
    alone = copy.deepcopy(params)
    together = cls(params, **backend, **usual(cls))
    apart = [cls([p], **backend, **usual(cls)) for p in alone]
    for _ in range(3):
        for i, (p, q) in enumerate(zip(params, alone, strict=True)):
            p.grad = torch.randn_like(p) if i != 3 else None
            q.grad = p.grad
        together.step()
        for optimizer in apart:
            optimizer.step()
    for p, q in zip(params, alone, strict=True):
        torch.testing.assert_close(p, q)


def test_weights_past_one_batch_of_elements(cls, backend, monkeypatch):
    from tangential.backends import foreach

    params = [leaf(torch.randn(n, 7)) for n in range(1, 20)]
    twins = copy.deepcopy(params)
    for p, q in zip(params, twins, strict=True):
        p.grad = torch.randn_like(p)
        q.grad = p.grad.clone()
    cls(params, **backend, **usual(cls)).step()
    monkeypatch.setattr(foreach, "CHUNK", 100)
    cls(twins, **backend, **usual(cls)).step()
    for p, q in zip(params, twins, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-7)


def test_sums_do_not_depend_on_the_number_of_threads(cls, backend):
    from tangential.backends import Units, rows_of

    x, y = torch.randn(2, 3, 70_001)
    threads = torch.get_num_threads()
    sums = []
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            sums.append(
                [rows_of(x, Units(projection)).dot(x, y) for projection in ("row", "weight")]
            )
    finally:
        torch.set_num_threads(threads)
    for other in sums[1:]:
        assert all(torch.equal(a, b) for a, b in zip(sums[0], other, strict=True))
    torch.testing.assert_close(
        sums[0][1].double(), (x.double() * y.double()).sum().view(1), rtol=1e-4, atol=1e-3
    )

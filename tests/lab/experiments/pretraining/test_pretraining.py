"""Pretraining: the small GPT, its units, its windows and shards of tokens."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from rehearsal import rehearse, scored, trained
from tiny_texts import LINES, wikitext

import tangential
from tangential.optim import amendment_of
from tangential_lab.experiments.data.sources import DataError
from tangential_lab.experiments.pretraining import pretraining, task, windows
from tangential_lab.experiments.pretraining.gpt import GPT, Sizes
from tangential_lab.experiments.pretraining.windows import Windows
from tangential_lab.training import OPTIMIZERS, split_groups
from tangential_lab.training.optimizers.rotation import RescaledAdamW

TINY = Sizes(layers=2, width=16, heads=2, context=8)


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(task, "SMALL", TINY)
    monkeypatch.setattr(task, "GPT2", TINY)
    monkeypatch.setattr(task, "PAPER_BATCH", 4)
    monkeypatch.setattr(task, "VALIDATION_WINDOWS", 6)


def net(*, tied=False):
    torch.manual_seed(0)
    return GPT(11, TINY, tied=tied)


# ---- the net


def test_a_prediction_depends_only_on_earlier_tokens():
    model, tokens = net(), torch.randint(0, 11, (1, 8))
    changed = tokens.clone()
    changed[0, 5:] = (changed[0, 5:] + 1) % 11
    before, after = model(tokens), model(changed)
    assert torch.equal(before[0, :5], after[0, :5])
    assert not torch.allclose(before[0, 5], after[0, 5])


def test_attention_depends_on_the_distance_of_positions():
    """The same two tokens at other positions give the same attention, rotated or not."""
    attention = net().blocks[0].attention.double()
    x = torch.randn(1, 1, 16, dtype=torch.float64)
    heads = lambda part: part(x).view(1, 1, 2, 8).transpose(1, 2).expand(1, 2, 8, 8)
    query, key = (attention._rotated(heads(part), 8) for part in (attention.query, attention.key))
    scores = (query @ key.mT)[0, 0]
    for distance in (0, 1, 3):
        same = scores.diagonal(-distance)
        torch.testing.assert_close(same, same[:1].expand_as(same))
    assert not torch.isclose(scores[1, 0], scores[3, 0])


def test_the_head_may_be_the_embedding():
    tied, untied = net(tied=True), net()
    assert tied.head.weight is tied.embedding.weight
    assert untied.head.weight is not untied.embedding.weight
    count = lambda model: sum(p.numel() for p in model.parameters())
    assert count(untied) - count(tied) == 11 * 16


def test_logits_are_bounded():
    model = net()
    with torch.no_grad():
        model.head.weight.mul_(1e6)
    assert model(torch.randint(0, 11, (2, 8))).abs().max() <= 30


def test_the_audit_proves_the_units_that_the_task_declares(tiny, home):
    made = pretraining(text="pydoc")
    model = made.model()
    batches = [made.splits["train"].__getitems__([i, i + 1]) for i in range(0, 6, 2)]
    result = tangential.audit(model, batches, loss=made.loss)
    rows = {line.name: line.row_groups for line in result.lines if line.kind == "row"}
    heads = {name for name in rows if name.endswith(("query.weight", "key.weight"))}
    assert len(heads) == 2 * TINY.layers
    assert rows.keys() == heads | {"embedding.weight"}
    names = {id(p): name for name, p in model.named_parameters()}
    declared = [group for group in made.groups(model) if "row_groups" in group]
    assert {names[id(p)]: g["row_groups"] for g in declared for p in g["params"]} == {
        name: rows[name] for name in heads
    }


def test_only_optimizers_that_use_units_hear_of_heads(tiny):
    made = pretraining(text="pydoc")
    for name, entry in OPTIMIZERS.items():
        model = made.model()
        groups = split_groups(made, model, frozenset(), 0.1)
        optimizer = entry.build(groups, lr=0.1, weight_decay=0.0)
        sizes = {group.get("row_groups", 1) for group in optimizer.param_groups}
        has_units = isinstance(optimizer, (tangential.AdamP, tangential.SGDP, RescaledAdamW))
        has_units |= amendment_of(optimizer, optimizer.param_groups[0]) is not None
        assert sizes == ({1, 8} if has_units else {1}), name
        assert sum(len(group["params"]) for group in optimizer.param_groups) == len(
            [*model.parameters()]
        )


# ---- the windows


def test_windows_are_consecutive_and_never_cross_a_text():
    texts = [np.arange(10, dtype=np.uint16), np.arange(100, 107, dtype=np.uint16)]
    split = Windows(texts, 3)
    assert len(split) == 3 + 2
    tokens, targets = split.__getitems__([2, 3])
    assert tokens.tolist() == [[6, 7, 8], [100, 101, 102]]
    assert targets.tolist() == [[7, 8, 9], [101, 102, 103]]
    assert len(Windows(texts, 3, most=2)) == 2


def test_a_text_that_is_too_short_is_named(tiny, home):
    wikitext(home / "wikitext-2", dict.fromkeys(LINES, "a b\n"))
    with pytest.raises(DataError, match=r"WikiText-2 .*: a text must have at least 9 tokens, got"):
        pretraining(data=home, text="wikitext2")


def shard(path, tokens, magic=windows.MAGIC):
    path.parent.mkdir(parents=True, exist_ok=True)
    header = np.zeros(windows.HEADER, np.int32)
    header[:3] = magic, windows.VERSION, len(tokens)
    path.write_bytes(header.tobytes() + np.asarray(tokens, np.uint16).tobytes())


def test_shards_are_read_in_order(tiny, home):
    for i in (1, 2):
        shard(home / f"fineweb10B/fineweb_train_{i:06d}.bin", range(1000 * i, 1000 * i + 50))
    shard(home / "fineweb10B/fineweb_val_000000.bin", range(60))
    made = pretraining(preset="paper", data=home)
    tokens, targets = made.splits["train"].__getitems__([5, 6])
    assert tokens[:, 0].tolist() == [1040, 2000]
    assert torch.equal(tokens[:, 1:], targets[:, :-1])
    assert len(made.splits["validation"]) == 6
    assert made.epochs * len(made.splits["train"]) / made.batch_size == task.PAPER_STEPS
    loss = made.loss(made.model(), (tokens, targets))
    assert loss.item() == pytest.approx(math.log(50_304), rel=0.02)


def test_a_broken_shard_is_named(tiny, home):
    with pytest.raises(DataError, match="fineweb10B"):
        pretraining(preset="paper", data=home)
    shard(home / "fineweb10B/fineweb_train_000001.bin", range(50))
    with pytest.raises(DataError, match=r"has no file \*_val_\*\.bin"):
        pretraining(preset="paper", data=home)
    shard(home / "fineweb10B/fineweb_val_000000.bin", range(60), magic=1)
    with pytest.raises(DataError, match=r"cannot read .*fineweb_val_000000.bin as a shard"):
        pretraining(preset="paper", data=home)
    with pytest.raises(ValueError, match="text must be 'auto' with preset 'paper', got 'pydoc'"):
        pretraining(preset="paper", data=home, text="pydoc")


# ---- the task


def test_the_score_is_the_mean_over_all_tokens(tiny):
    made = pretraining(text="pydoc")
    model, split = made.model(), made.splits["validation"]
    batches = [split.__getitems__([0, 1, 2]), split.__getitems__([3])]
    result = made.score([made.predict(model, batch) for batch in batches])
    tokens, targets = split.__getitems__([0, 1, 2, 3])
    expected = F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())
    assert result["loss"] == pytest.approx(expected.item(), rel=1e-5)


def test_wikitext_is_read_by_bytes(tiny, home):
    wikitext(home / "wikitext-2", dict.fromkeys(LINES, "the cat — is here\n" * 20))
    made = pretraining(data=home, text="wikitext2")
    assert made.metric.chance_score == math.log(256)
    tokens, _ = made.splits["train"].__getitems__([0])
    assert bytes(tokens[0].tolist()) == "the cat — is".encode()[:8]


@pytest.mark.slow
def test_a_mini_is_rehearsed_and_learns(tiny, home):
    made = pretraining(text="pydoc")
    before = rehearse(made, home)["test"]
    assert before["loss"] == pytest.approx(made.metric.chance_score, rel=0.1)
    after = scored(made, trained(made, 60)[0])
    assert after["loss"] < 0.9 * made.metric.chance_score

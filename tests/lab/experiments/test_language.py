"""The language model is the published one, and its memory is what a longer segment would be."""

import math
import zipfile
from collections import Counter
from copy import deepcopy
from itertools import pairwise

import numpy as np
import pytest
import torch
from realdata import DATA, needs
from rehearsal import count, rehearse, scored, trained
from torch import nn
from torch.func import functional_call

from tangential import AdamP, audit
from tangential_lab.experiments.data.sources import DataError
from tangential_lab.experiments.language import task as room
from tangential_lab.experiments.language import texts, transformer_xl
from tangential_lab.experiments.language.reader import Reader
from tangential_lab.experiments.language.streams import Segments, Streams
from tangential_lab.experiments.language.task import SETTINGS, language
from tangential_lab.experiments.language.transformer_xl import (
    BASE,
    Reach,
    Sizes,
    TransformerXL,
    Vocabulary,
)
from tangential_lab.training import OPTIMIZERS, ProcessShare, Spec
from tangential_lab.training.trial import Trial, TrialOptions, TrialStopped

WORDS = 11
TINY = Sizes(layers=3, width=8, heads=2, head_width=3, inner=10, dropout=0.0)
FAR = Reach(100)


def net(sizes=TINY, words=WORDS, **options):
    """In float64, its weights so large that what is attended to matters."""
    return roused(TransformerXL(words, sizes, **options).double()).eval()


@torch.no_grad()
def roused(model):
    for param in model.parameters():
        param += 0.5 * torch.randn_like(param)
    return model


def tokens(streams, length):
    return torch.randint(WORDS, (streams, length))


def nothing(model, streams):
    return torch.zeros(len(model.layers), streams, 0, TINY.width, dtype=torch.float64)


def logits(model, parts, reach):
    """Of segment after segment [b, all, words]; the memory begins empty."""
    memory, outs = nothing(model, len(parts[0])), []
    for part in parts:
        states, memory = model.read(part, memory, reach)
        outs.append(states @ model.vocabulary.weight.T + model.vocabulary.bias)
    return torch.cat(outs, 1)


# ---- attention


def test_the_relative_shift_is_the_naive_loop():
    """Column j of what is shifted is distance k - j."""
    for queries, keys in [(1, 1), (1, 4), (4, 4), (3, 7), (5, 6)]:
        by_distance = torch.randn(2, 3, queries, keys + 1)
        moved = transformer_xl.shifted(by_distance)
        assert moved.shape == (2, 3, queries, keys)
        for i in range(queries):
            for j in range(keys - queries + i + 1):
                distance = keys - queries + i - j
                assert torch.equal(moved[..., i, j], by_distance[..., i, keys - distance])


def test_a_layer_attends_as_the_paper_writes_it():
    """Equation 8 of the paper, pair by pair: (W_q x + u).(W_k x) + (W_q x + v).(W_r R)."""
    model = net()
    layer, x, past = model.layers[0], torch.randn(8).double(), torch.randn(2, 8).double()
    x = torch.randn(3, 8).double()
    u, v = model.content_bias, model.position_bias
    waves = transformer_xl.sinusoids(5, x)
    hidden = transformer_xl.unseen(3, 5, FAR, x.device)
    found = layer(x[None], past[None], waves, u, v, hidden)[0]
    everything = torch.cat([past, x])
    outs = []
    for i in range(3):
        heads = []
        for h in range(2):
            own = slice(3 * h, 3 * h + 3)
            query = layer.query.weight[own] @ x[i]
            keys, values = (
                everything @ layer.key_value.weight[start:][own].T for start in (0, 2 * 3)
            )
            scores = []
            for j in range(2 + i + 1):
                angles = [(2 + i - j) / 10_000 ** (n / 8) for n in range(0, 8, 2)]
                wave = torch.tensor([*map(math.sin, angles), *map(math.cos, angles)]).double()
                place = layer.position.weight[own] @ wave
                scores.append(((query + u[h]) @ keys[j] + (query + v[h]) @ place) / math.sqrt(3))
            weights = torch.stack(scores).softmax(0)
            heads.append(weights @ values[: len(scores)])
        attended = layer.attention_norm(x[i] + layer.out.weight @ torch.cat(heads))
        outs.append(layer.feed_norm(attended + layer.outer(layer.inner(attended).relu())))
    torch.testing.assert_close(found, torch.stack(outs))


def test_distances_are_told_apart_up_to_the_clamp():
    waves = transformer_xl.sinusoids(5, torch.empty(6), clamp=3)
    assert waves.shape == (6, 6)
    assert torch.equal(waves[0], waves[2])  # distances 5, 4 and 3
    assert not torch.equal(waves[2], waves[3])
    assert torch.equal(waves[-1], torch.tensor([0.0, 0, 0, 1, 1, 1]))


def test_the_mask_of_the_same_length_by_hand():
    """Four keys, of which the first two are memory: with three in sight, each query sees three."""
    later = transformer_xl.unseen(2, 4, Reach(3), torch.device("cpu"))
    assert later.tolist() == [[False, False, False, True], [False, False, False, False]]
    window = transformer_xl.unseen(2, 4, Reach(3, same_length=True), torch.device("cpu"))
    assert window.tolist() == [[False, False, False, True], [True, False, False, False]]


# ---- memory


@pytest.mark.parametrize("cuts", [[4, 6], [1, 2, 3, 4], [9, 1]])
def test_a_memory_gives_the_logits_of_one_long_segment(cuts):
    model, text = net(), tokens(2, 10)
    whole = logits(model, [text], FAR)
    assert (logits(model, text.split(cuts, 1), FAR) - whole).abs().max() < 1e-12
    forgetful = logits(model, text.split(cuts, 1), Reach(0))
    assert (forgetful[:, : cuts[0]] - whole[:, : cuts[0]]).abs().max() < 1e-12
    assert (forgetful[:, cuts[0] :] - whole[:, cuts[0] :]).abs().max() > 1e-3


@pytest.mark.parametrize("clamp", [None, 2])
def test_with_the_same_length_a_short_memory_is_enough(clamp):
    """Where every position sees four, four are all that later segments need."""
    model, text, reach = net(), tokens(2, 12), Reach(4, same_length=True, clamp=clamp)
    whole = logits(model, [text], reach)
    for cuts in (3, 4, 5, 1):
        assert (logits(model, text.split(cuts, 1), reach) - whole).abs().max() < 1e-12
    assert (logits(model, [text], FAR) - whole).abs().max() > 1e-3


def test_the_memory_is_the_last_inputs_of_every_layer_without_history():
    model, text = net(), tokens(2, 7)
    _, long = model.read(text, nothing(model, 2), FAR)
    _, short = model.read(text, nothing(model, 2), Reach(3))
    assert long.shape == (3, 2, 7, 8)
    assert torch.equal(short, long[:, :, 4:])
    assert torch.equal(long[0], model.vocabulary.embed(text))
    assert not long.requires_grad


def test_what_comes_later_changes_nothing_before():
    model, text = net(), tokens(1, 9)
    before = logits(model, text.split(3, 1), FAR)
    for place in range(9):
        other = text.clone()
        other[0, place] = (other[0, place] + 1) % WORDS
        after = logits(model, other.split(3, 1), FAR)
        assert torch.equal(after[:, :place], before[:, :place])
        assert (after[:, place:] != before[:, place:]).any(-1).all()


def test_gradients_are_those_of_differences():
    model, text = net(TINY._replace(layers=1, cutoffs=(4, 7))), tokens(1, 5)
    memory = torch.randn(1, 1, 2, 8).double()
    names = ["content_bias", "position_bias", "layers.0.position.weight", "vocabulary.weight"]
    weights = [dict(model.named_parameters())[name].detach().clone() for name in names]

    def nats(*changed):
        replaced = dict(zip(names, changed, strict=True))
        inputs = (text[:, :-1], text[:, 1:], memory, FAR)
        return functional_call(model, replaced, inputs)[0].sum()

    assert torch.autograd.gradcheck(nats, [weight.requires_grad_() for weight in weights])


# ---- the softmax


def vocabulary(words, width, cutoffs):
    made = Vocabulary(words, width, cutoffs).double()
    for param in made.parameters():
        nn.init.normal_(param)
    return made


def probabilities(table, state):
    """Of all words after a state, by hand: p(cluster) p(word | cluster)."""
    frequent = table.sizes[0]
    scores = table.weight @ state + table.bias
    clusters = table.cluster_weight @ state + table.cluster_bias
    head = torch.cat([scores[:frequent], clusters]).softmax(0)
    bounds = [*table.starts, len(table.weight)]
    return torch.cat(
        [head[:frequent]]
        + [
            head[frequent + number] * scores[low:high].softmax(0)
            for number, (low, high) in enumerate(pairwise(bounds[1:]))
        ]
    )


def test_the_adaptive_softmax_is_a_distribution_over_all_words():
    table, state = vocabulary(10, 4, (3, 5)), torch.randn(4).double()
    by_hand = probabilities(table, state)
    found = table.nats(state.expand(10, 4), torch.arange(10))
    torch.testing.assert_close(found, -by_hand.log())
    assert found.neg().exp().sum().item() == pytest.approx(1)


def test_it_is_that_of_torch_where_torch_has_it():
    """Without biases in the tails, whose projections are the identity."""
    table = vocabulary(10, 4, (3, 5))
    theirs = nn.AdaptiveLogSoftmaxWithLoss(4, 10, [3, 5], div_value=1, head_bias=True).double()
    with torch.no_grad():
        table.bias[3:] = 0
        theirs.head.weight.copy_(torch.cat([table.weight[:3], table.cluster_weight]))
        theirs.head.bias.copy_(torch.cat([table.bias[:3], table.cluster_bias]))
        for tail, rows in zip(theirs.tail, (table.weight[3:5], table.weight[5:]), strict=True):
            tail[0].weight.copy_(torch.eye(4))
            tail[1].weight.copy_(rows)
    states, targets = torch.randn(20, 4).double(), torch.randint(10, (20,))
    torch.testing.assert_close(table.nats(states, targets), -theirs(states, targets).output)


def test_without_clusters_it_is_the_full_softmax():
    table, states, targets = vocabulary(10, 4, ()), torch.randn(6, 4).double(), torch.arange(6)
    full = (states @ table.weight.T + table.bias).log_softmax(1)
    torch.testing.assert_close(table.nats(states, targets), -full[range(6), targets])


def test_clusters_scored_by_their_words_are_the_full_softmax():
    """A cluster as likely as its words together: its score is their scores' logsumexp."""
    table, state = vocabulary(10, 4, (3, 5)), torch.randn(4).double()
    scores = table.weight @ state + table.bias
    with torch.no_grad():
        table.cluster_weight.zero_()
        table.cluster_bias.copy_(torch.stack([scores[3:5].logsumexp(0), scores[5:].logsumexp(0)]))
    found = table.nats(state.expand(10, 4), torch.arange(10))
    torch.testing.assert_close(found, -scores.log_softmax(0))


def test_a_cluster_that_is_not_met_has_gradients_of_zero():
    table = vocabulary(10, 4, (3, 5))
    table.nats(torch.randn(6, 4).double(), torch.tensor([0, 1, 2, 3, 4, 4])).sum().backward()
    assert all(param.grad is not None for param in table.parameters())
    assert not table.weight.grad[5:].any()
    assert table.weight.grad[:5].any(1).all()


@pytest.mark.parametrize("cutoffs", [(5, 3), (0,), (10,), (3, 3)])
def test_cutoffs_that_do_not_rise_are_refused(cutoffs):
    with pytest.raises(ValueError, match="allowed are rising numbers between 0 and the 10 words"):
        Vocabulary(10, 4, cutoffs)


def test_words_that_are_read_are_rows_of_the_same_table():
    table = vocabulary(10, 4, (3, 5))
    assert torch.equal(table.embed(torch.tensor([[7, 2]])), 2 * table.weight[[7, 2]][None])


# ---- the published net


@pytest.fixture(scope="module")
def base():
    with torch.device("meta"):
        return TransformerXL(267_735, BASE)


def test_the_base_model_has_its_published_number_of_weights(base):
    """As its training script prints: 151,107,538, of which 41,066,400 are those of the layers."""
    assert count(base) == 151_107_538
    assert count(base.layers) == 41_066_400


def test_weight_norm_adds_a_length_to_every_row(base):
    with torch.device("meta"):
        normed = TransformerXL(267_735, BASE, weight_norm=True)
    rows = 16 * (410 + 2 * 410 + 410 + 410 + 2100 + 410)
    assert count(normed) == count(base) + rows
    assert not any("parametrizations" in name for name, _ in normed.vocabulary.named_parameters())


def test_weight_norm_begins_as_the_net_without():
    text = tokens(2, 6)
    torch.manual_seed(5)
    plain = TransformerXL(WORDS, TINY)
    torch.manual_seed(5)
    normed = TransformerXL(WORDS, TINY, weight_norm=True)
    memory = torch.zeros(3, 2, 0, 8)
    both = [model(text[:, :-1], text[:, 1:], memory, FAR)[0] for model in (plain, normed)]
    torch.testing.assert_close(*both)


def test_initial_weights_are_as_published():
    model = TransformerXL(2000, Sizes(1, 64, 4, 16, 256))
    for name, param in model.named_parameters():
        norm = name.endswith("norm.weight")
        if name.endswith(("norm.bias", "inner.bias", "outer.bias", "vocabulary.bias")):
            assert not param.any()
        else:
            assert param.mean().item() == pytest.approx(float(norm), abs=0.01)
            assert param.std().item() == pytest.approx(0.02, rel=0.4)


def reader(*, dropout=0.0, **options):
    sizes = TINY._replace(cutoffs=(4, 7), dropout=dropout)
    return Reader(TransformerXL(WORDS, sizes, **options), Reach(4), Reach(6, same_length=True), 3)


@pytest.mark.parametrize("weight_norm", [False, True])
def test_the_audit_finds_the_directions_of_weight_norm_and_nothing_else(weight_norm):
    model = roused(reader(dropout=0.1, weight_norm=weight_norm))  # a new net's queries do little
    batches = [(tokens(4, 5), tokens(4, 5), True), (tokens(4, 5), tokens(4, 5), False)]
    found = audit(model, batches, loss=lambda model, batch: model(*batch), verify=True)
    directions = {name for name, _ in model.named_parameters() if name.endswith("original1")}
    assert len(directions) == 3 * 6 * weight_norm
    assert set(found.names("row")) == directions
    assert not found.names("weight")
    assert all(line.verified for line in found.lines)


# ---- the reader


def test_training_remembers_in_a_buffer_from_segment_to_segment():
    model, text = reader().train(), tokens(2, 16)
    for start in (0, 5, 10):
        model(text[:, start : start + 5], text[:, start + 1 : start + 6], start == 0)
        assert model.memory.shape == (3, 2, 4, 8)
    model(text[:, 10:15], text[:, 11:16], True)
    _, alone = model.net.read(text[:, 10:15], torch.zeros(3, 2, 0, 8), Reach(4))
    assert torch.equal(model.memory, alone)


def test_training_is_that_on_one_long_segment():
    """The last of two segments has the loss that it has within the whole, and no longer a past."""
    model, text = reader().double().train(), tokens(2, 9)
    model(text[:, :4], text[:, 1:5], True)
    second = model(text[:, 4:8], text[:, 5:9], False)
    memory = torch.zeros(3, 2, 0, 8, dtype=torch.float64)
    whole, _ = model.net(text[:, :8], text[:, 1:9], memory, FAR)
    torch.testing.assert_close(second, whole.view(2, 8)[:, 4:].mean())
    forgotten = model(text[:, 4:8], text[:, 5:9], True)
    assert abs(forgotten - second) > 1e-9


def test_evaluation_reads_whole_streams_and_leaves_the_memory_of_training():
    model, text = reader().double(), tokens(3, 12)
    model.train()(text[:2, :5], text[:2, 1:6], True)
    kept = model.memory.clone()
    found = model.eval()(text[:, :-1], text[:, 1:])
    assert torch.equal(model.memory, kept)
    memory = torch.zeros(3, 3, 0, 8, dtype=torch.float64)
    whole, _ = model.net(text[:, :-1], text[:, 1:], memory, Reach(6, same_length=True))
    torch.testing.assert_close(found, whole.view(3, 11).sum(1))


def test_another_number_of_streams_is_refused_unless_it_begins():
    model = reader().train()
    model(tokens(2, 5), tokens(2, 5), True)
    with pytest.raises(ValueError, match="tokens are of 3 streams, allowed are the 2 of"):
        model(tokens(3, 5), tokens(3, 5), False)
    model(tokens(3, 5), tokens(3, 5), True)
    assert model.memory.shape[1] == 3


def test_a_memory_is_loaded_whatever_its_size():
    model, other = reader().train(), reader().train()
    model(tokens(2, 5), tokens(2, 5), True)
    for target in (other, deepcopy(other)):
        target.load_state_dict(model.state_dict())
        assert torch.equal(target.memory, model.memory)
    other(tokens(2, 5), tokens(2, 5), False)
    assert not torch.equal(other.memory, model.memory)


def steps(model, optimizer, segments, numbers):
    for number in numbers:
        batch = segments.__getitems__([2 * number, 2 * number + 1])
        optimizer.zero_grad()
        model(*batch).backward()
        optimizer.step()


def test_a_resumed_training_is_an_uninterrupted_one():
    segments = Segments(Streams(np.arange(100, dtype=np.int32) % WORDS, 2), 5)

    def fresh():
        torch.manual_seed(3)
        model = reader(dropout=0.1, weight_norm=True).train()
        return model, AdamP(model.parameters(), lr=1e-2)

    whole, optimizer = fresh()
    steps(whole, optimizer, segments, range(6))
    first, optimizer = fresh()
    steps(first, optimizer, segments, range(3))
    saved, chance = deepcopy((first.state_dict(), optimizer.state_dict())), torch.get_rng_state()
    second, optimizer = fresh()
    second.load_state_dict(saved[0])
    optimizer.load_state_dict(saved[1])
    torch.set_rng_state(chance)
    steps(second, optimizer, segments, range(3, 6))
    ends = [*zip(whole.state_dict().items(), second.state_dict().values(), strict=True)]
    assert [name for (name, value), other in ends if not torch.equal(value, other)] == []


# ---- streams and segments


def test_streams_are_parts_of_one_length_and_targets_the_next_tokens():
    inputs, targets = Streams(np.arange(12), 3).__getitems__([0, 2])
    assert inputs.tolist() == [[0, 1, 2], [6, 7, 8]]
    assert targets.tolist() == [[1, 2, 3], [7, 8, 9]]


def test_segments_follow_one_another_in_every_stream():
    segments = Segments(Streams(np.arange(22), 3), 3)  # streams of 7: 2 segments, 1 token left
    assert len(segments) == 6
    batches = [segments.__getitems__([3 * i, 3 * i + 1, 3 * i + 2]) for i in range(2)]
    assert batches[0][0].tolist() == [[0, 1, 2], [7, 8, 9], [14, 15, 16]]
    assert batches[1][0].tolist() == [[3, 4, 5], [10, 11, 12], [17, 18, 19]]
    assert batches[1][1].tolist() == [[4, 5, 6], [11, 12, 13], [18, 19, 20]]
    assert [batch[2] for batch in batches] == [True, False]


def test_a_process_has_the_same_streams_in_every_batch():
    segments = Segments(Streams(np.arange(50), 4), 3)
    order = room._in_turn(len(segments), 4, torch.Generator())
    for number, indices in enumerate(order):
        for rank in range(2):
            inputs, _, first = segments.__getitems__(ProcessShare(rank, 2).of(indices.tolist()))
            starts = [12 * stream + 3 * number for stream in (2 * rank, 2 * rank + 1)]
            assert inputs[:, 0].tolist() == starts
            assert first is (number == 0)
    assert number == 3


def test_a_batch_of_several_segments_is_refused():
    with pytest.raises(ValueError, match=r"indices are of segments \[0, 1\], allowed is one"):
        Segments(Streams(np.arange(22), 3), 3).__getitems__([2, 3])


def test_streams_shorter_than_a_segment_are_refused():
    assert len(Segments(Streams(np.arange(10), 3), 3)) == 3
    with pytest.raises(ValueError, match=r"9 tokens, .* no segment of 3: allowed are 10 tokens"):
        Segments(Streams(np.arange(9), 3), 3)


def test_a_text_shorter_than_its_streams_is_refused():
    with pytest.raises(ValueError, match="3 tokens cannot be cut into 3 streams: allowed are 4"):
        Streams(np.arange(3), 3)


# ---- texts


def written(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path


def decoded(text, part, between):
    return between.join(text.vocabulary[number] for number in text.parts[part])


def test_characters_are_numbered_by_falling_frequency_and_parted(home):
    verse = "to be, or not to be: that is the question.\n" * 20
    written(home / "tinyshakespeare/input.txt", verse)
    text = texts.tinyshakespeare(home)
    size = len(verse)
    assert [len(text.parts[part]) for part in texts.PARTS] == [
        size * 9 // 10,
        size // 20,
        size // 20,
    ]
    assert "".join(decoded(text, part, "") for part in texts.PARTS) == verse
    counts = Counter(verse)
    falling = [counts[character] for character in text.vocabulary]
    assert falling == sorted(falling, reverse=True)
    assert len(falling) == len(counts)


LINES = {
    "train": " = Title = \n\n the cat saw the <unk> \n",
    "valid": " the dog \n",
    "test": " cat\n",
}


def wikitext(folder, lines=LINES):
    return [written(folder / f"wiki.{part}.tokens", text) for part, text in lines.items()]


def test_words_have_an_end_of_line_and_unknown_ones(home):
    wikitext(home / "wikitext-103")
    text = texts.wikitext103(home)
    train = "= Title = <eos> <eos> the cat saw the <unk> <eos>"
    assert decoded(text, "train", " ") == train
    assert decoded(text, "validation", " ") == "the <unk> <eos>"
    assert decoded(text, "test", " ") == "cat <eos>"
    assert text.vocabulary[0] == "<eos>"
    assert set(text.vocabulary) == set(train.split())


def test_texts_are_encoded_once_and_mapped(home, monkeypatch):
    wikitext(home / "wikitext-103")
    before = texts.wikitext103(home)
    monkeypatch.setattr(texts, "_encoded_words", None)
    after = texts.wikitext103(home)
    assert isinstance(after.parts["train"], np.memmap)
    assert np.array_equal(after.parts["train"], before.parts["train"])
    assert after.vocabulary == before.vocabulary
    monkeypatch.setattr(texts, "VERSION", texts.VERSION + 1)
    with pytest.raises(TypeError):  # it is encoded anew
        texts.wikitext103(home)


def test_a_word_that_training_has_not_is_refused_without_an_unknown_one(home):
    wikitext(home / "wikitext-103", {**LINES, "train": "the cat\n"})
    with pytest.raises(DataError, match=r"'dog' is not among .* which must then have <unk>"):
        texts.wikitext103(home)


def test_the_zip_and_the_files_are_the_same_text(home):
    paths = wikitext(home / "wikitext-103")
    (home / "wikitext2").mkdir()
    with zipfile.ZipFile(home / "wikitext2/wikitext2.zip", "w") as file:
        for path in paths:
            file.write(path, f"wikitext-2/{path.name}")
    one, other = texts.wikitext103(home), texts.wikitext2(home)
    assert one.vocabulary == other.vocabulary
    assert all(np.array_equal(one.parts[part], other.parts[part]) for part in texts.PARTS)


@pytest.mark.parametrize(
    ("folder", "file", "read"),
    [
        ("tinyshakespeare", "input.txt", texts.tinyshakespeare),
        ("wikitext-2", "wiki.valid.tokens", texts.wikitext2),
        ("wikitext-103", "wiki.train.tokens", texts.wikitext103),
    ],
)
def test_a_text_in_another_encoding_is_named(home, folder, file, read):
    wikitext(home / folder)
    (home / folder / file).write_bytes("caf\xe9 <unk>\n".encode("latin-1"))
    with pytest.raises(DataError, match=rf"{folder}/{file} is no text in UTF-8: 'utf-8'.* It is "):
        read(home)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_broken_member_of_the_zip_is_named(home, method):
    path = written(home / "wikitext2/wikitext2.zip", "")
    with zipfile.ZipFile(path, "w", method) as file:
        for part in LINES:
            file.writestr(f"wiki.{part}.tokens", f"{part} <unk> the cat\n" * 50)
        start = file.getinfo("wiki.valid.tokens").header_offset + 30 + len("wiki.valid.tokens")
    content = bytearray(path.read_bytes())
    content[start : start + 8] = b"\xff" * 8
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"2\.zip/wiki\.valid\.tokens is no text in.*Merity"):
        texts.wikitext2(home)


@pytest.mark.parametrize("content", ["no zip", None])
def test_a_zip_without_the_texts_is_told(home, content):
    path = written(home / "wikitext2/wikitext2.zip", content or "")
    if content is None:
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("readme.txt", "")
    with pytest.raises(DataError, match=r"wikitext2.zip is no zip of wiki.train.tokens, .*Merity"):
        texts.wikitext2(home)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"preset": "paper"}, r"wikitext-103/\{wiki.train.tokens,.*Merity et al. 2016"),
        ({"text": "wikitext2"}, r"wikitext-2/\{wiki.train.tokens,.*Merity et al. 2016"),
        ({"text": "tinyshakespeare"}, r"tinyshakespeare/\{input.txt\}.*karpathy/char-rnn"),
    ],
)
def test_missing_texts_are_told_with_where_to_get_them(home, options, expected):
    with pytest.raises(DataError, match=expected):
        language(data=home, **options)


@needs("wikitext2")
def test_wikitext2_has_its_published_counts():
    text = texts.wikitext2(DATA)
    assert [len(text.parts[part]) for part in texts.PARTS] == [2_088_628, 217_646, 245_569]
    assert len(text.vocabulary) == 33_278


@needs("tinyshakespeare")
def test_tinyshakespeare_has_its_published_counts():
    text = texts.tinyshakespeare(DATA)
    assert sum(len(part) for part in text.parts.values()) == 1_115_394
    assert len(text.vocabulary) == 65


# ---- the task


def test_without_data_the_text_is_pythons_help(home):
    task = language()
    assert "pydoc_data.topics" in task.data.about
    assert task.metric.name == "loss"
    written(home / "tinyshakespeare/input.txt", "all the world's a stage " * 100)
    assert "tinyshakespeare" in language(data=home).data.about
    assert "pydoc_data.topics" in language(data=home, text="pydoc").data.about


def test_the_paper_has_but_one_text(home):
    with pytest.raises(ValueError, match="text is 'pydoc', allowed with preset 'paper' is 'auto'"):
        language(preset="paper", data=home, text="pydoc")


def test_a_mini_is_rehearsed_and_learns(home, monkeypatch):
    small = SETTINGS["character"]._replace(sizes=Sizes(2, 32, 2, 16, 64), streams=8, length=16)
    monkeypatch.setitem(SETTINGS, "character", small)
    task = language(text="pydoc", weight_norm=True)
    before = rehearse(task, home)["test"]
    assert before["loss"] == pytest.approx(task.metric.chance_score, rel=0.1)
    assert before["perplexity"] == pytest.approx(math.exp(before["loss"]))
    after = scored(task, trained(task, 60)[0])
    assert after["loss"] < 0.75 * task.metric.chance_score


@pytest.mark.parametrize(
    ("part", "words", "expected"),
    [
        ("train", 9000, "9001 tokens, cut into 60 streams of 150, has no segment of 151"),
        ("valid", 3, "4 tokens cannot be cut into 10 streams: allowed are 11 tokens or more"),
        ("test", 3, "4 tokens cannot be cut into 10 streams"),
    ],
)
def test_a_part_that_is_too_short_is_named(home, monkeypatch, part, words, expected):
    lines = dict.fromkeys(LINES, "the cat <unk>\n" * 3000) | {part: "<unk> " * words + "\n"}
    wikitext(home / "wikitext-103", lines)
    monkeypatch.setitem(SETTINGS, "paper", SETTINGS["paper"]._replace(length=151))
    name = {"train": "train", "valid": "validation", "test": "test"}[part]
    with pytest.raises(DataError, match=rf"WikiText-103 .*, part '{name}': a text of {expected}"):
        language(preset="paper", data=home)


def tiny_paper(home, monkeypatch, sizes):
    """On segments that are shorter and fewer side by side."""
    train = " ".join(f"word{n % 700 * (n % 3)}" for n in range(2000))
    wikitext(home / "wikitext-103", {**LINES, "train": train + " <unk> \n"})
    written(home / "wikitext-103/wiki.valid.tokens", "word1 word2 word3 \n" * 10)
    written(home / "wikitext-103/wiki.test.tokens", "word3 word2 other \n" * 10)
    brief = SETTINGS["paper"]._replace(sizes=sizes, streams=2, length=10)
    monkeypatch.setitem(SETTINGS, "paper", brief)
    return language(preset="paper", data=home)


def test_the_paper_is_rehearsed_on_a_tiny_folder(home, monkeypatch):
    """The net at its size."""
    assert language_of_the_paper(home).batch_size == 60
    task = tiny_paper(home, monkeypatch, BASE._replace(cutoffs=(100, 200, 40_000)))
    scores = rehearse(task, home)
    assert 1 < scores["test"]["perplexity"] < 10 * task.metric.chance_score
    assert task.metric.higher_is_better is False


def test_the_paper_stops_and_resumes_as_if_uninterrupted(home, monkeypatch):
    """In the middle of an epoch: what the segments before have left is remembered."""
    sizes = Sizes(2, 16, 2, 8, 32, cutoffs=(100, 200), dropout=0.1)
    task = tiny_paper(home, monkeypatch, sizes)
    epochs = 8 * task.batch_size / len(task.splits["train"])
    assert epochs < 1

    def trial(task, folder=None, stop=bool):
        spec = Spec("adamp", "test", 1000, (("lr", 0.1), ("weight_decay", 1e-2)))
        run = TrialOptions(epochs=epochs, folder=folder, stop=stop)
        return Trial(task, OPTIMIZERS["adamp"], spec, run)

    def told(trained):
        record = trained.train()
        assert record["steps"] == 8
        return record["metrics"], record["curves"]["loss"]

    whole, resumed = trial(task), trial(task, home / "checkpoints")
    expected, asked = told(whole), iter([False, False, True])
    with pytest.raises(TrialStopped):
        trial(task, home / "checkpoints", lambda: next(asked)).train()
    assert told(resumed) == expected
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name
    assert told(trial(task._replace(max_grad_norm=None))) != expected


def language_of_the_paper(home):
    written(home / "full/wikitext-103/wiki.train.tokens", "the cat <unk> \n" * 3000)
    wikitext(home / "full/wikitext-103", dict.fromkeys(("valid", "test"), "the cat \n" * 10))
    return language(preset="paper", data=home / "full")


def test_the_paper_is_trained_for_200_000_steps(home):
    task = language_of_the_paper(home)
    segments = (12_000 - 1) // 60 // 150
    assert task.epochs == 200_000 / segments
    assert len(task.splits["train"]) == 60 * segments
    assert task.evaluation_batch_size == 10
    assert task.max_grad_norm == 0.25
    assert task.published["adam"]["lr"] == 2.5e-4
    assert [task.schedule(done) for done in (0, 0.5, 1)] == [1, 0.5, 0]


@pytest.mark.parametrize("text", ["pydoc", pytest.param("wikitext2", marks=needs("wikitext2"))])
def test_the_small_nets_begin_slowly(text):
    task = language(data=DATA, text=text)
    shares = [task.schedule(step / 100) for step in range(101)]
    assert shares[0] == 0.01
    assert shares[:10] == sorted(shares[:10])
    assert shares[10:] == sorted(shares[10:], reverse=True)
    assert shares[-1] == 0

"""What every backbone must keep, whatever it is: one case per file in configs/model and kind of data.

A backbone may refuse a kind of data when it is built (saying what it needs); there is no such case then. Refusals are tested
with the model that makes them.

By default every model meets the kinds that ask most (`HARD`) with all its options, and all other kinds in the tests of `BROAD`. The
whole product of tests, options and kinds is `slow`.
"""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from backbones.kinds import (
    CONFIGS,
    MODELS,
    ROWS,
    TARGETS,
    WORDS,
    attributes,
    batch_of,
    build,
    built,
    cases,
    of_images,
    padded,
    spec_of,
    without_dropout,
)
from omegaconf import OmegaConf

from mdm.data.base import UNKNOWN
from mdm.runs.members import make
from mdm.training.product import batch_lengths, product, shifts
from mdm.types import Batch, Context, Encoded, Feature, Fusion, Sequence


def take(batch: Batch, rows) -> Batch:
    rows = torch.as_tensor(rows)
    return Batch(tuple(batch.ids[i] for i in rows), {m: s[rows] for m, s in batch.sequences.items()}, batch.label[rows])


def parts_of(encoded: Encoded):
    """Every tensor in an encoding, by name."""
    for m, parts in encoded.items():
        for key, part in parts.items():
            if isinstance(part, Sequence):
                yield f"{m}.{key}.values", part.values[part.mask]
                yield f"{m}.{key}.mask", part.mask
            else:
                yield f"{m}.{key}", part


def assert_same(a: Fusion, b: Fusion, atol=1e-5):
    torch.testing.assert_close(a.prediction, b.prediction, atol=atol, rtol=atol)
    torch.testing.assert_close(a.z, b.z, atol=atol, rtol=atol)
    torch.testing.assert_close(a.unimodal, b.unimodal, atol=atol, rtol=atol)
    torch.testing.assert_close(a.parts, b.parts, atol=atol, rtol=atol)


BROAD = {"test_shapes_are_as_declared", "test_gradients_reach_every_parameter", "test_z_is_what_the_head_reads"}


def pytest_generate_tests(metafunc):
    slow = "not slow" not in metafunc.config.getoption("markexpr")
    if "case" in metafunc.fixturenames:
        metafunc.parametrize("case", list(cases(metafunc.function.__name__ in BROAD, slow)), indirect=True)
    for fixture, kinds in (("paired", PAIRED), ("worded", {"words"})):
        if fixture in metafunc.fixturenames:
            metafunc.parametrize(fixture, [param for param in cases(True, slow) if param.values[0][2] in kinds])


@pytest.fixture
def case(request):
    """A backbone in eval, and a batch of the kind of data that it was built for."""
    return deepcopy(built(request.param)).eval(), batch_of(request.param[2])


@pytest.mark.parametrize("model", MODELS)
def test_some_data_with_all_modalities_are_accepted(model):
    """So that a model which refuses everything does not pass for want of cases."""
    assert any(built((model, 0, kind)) is not None for kind in ("words", "vectors", "unaligned", "images"))


def test_shapes_are_as_declared(case):
    backbone, batch = case
    encoded = backbone.encode(batch)
    # In the order of the batch, which is the order of the lengths that `product` is given.
    assert list(encoded) == list(batch.sequences)
    for parts in encoded.values():
        assert parts
        assert all(len(p.mask if isinstance(p, Sequence) else p) == ROWS for p in parts.values())
    fusion = backbone.fuse(encoded)
    assert fusion.prediction.shape == (ROWS, len(TARGETS))
    assert fusion.z.shape == (ROWS, backbone.z_dim)
    assert {m: u.shape for m, u in fusion.unimodal.items()} == {m: (ROWS, d) for m, d in backbone.unimodal_dims.items()}
    assert {name: p.shape for name, p in fusion.parts.items()} == {name: (ROWS, d) for name, d in backbone.part_dims.items()}
    assert set(backbone.unimodal_dims) <= set(batch.sequences)
    assert_same(backbone(batch), fusion, atol=0)
    for term in backbone.own_terms(batch, encoded, fusion).values():
        assert term.shape == ()
        assert torch.isfinite(term)


def test_words_of_other_folds_move_no_weight_and_are_unknown(worded):
    """The same draws with three more words that training has not: every weight and buffer to the bit."""
    model, number, kind = worded
    backbone, options = built(worded), MODELS[model][number]
    spec, batch = spec_of(kind), batch_of(kind)
    words = Feature(WORDS.dim, tokens=True, vocabulary=(*WORDS.vocabulary, "a", "w55", "z"), others=3)
    torch.manual_seed(0)
    other = make(
        OmegaConf.merge(CONFIGS[model].backbone, options), spec=replace(spec, features={**spec.features, "language": words})
    )
    state = backbone.state_dict()
    assert {name: t.shape for name, t in other.state_dict().items()} == {name: t.shape for name, t in state.items()}
    assert all(torch.equal(value, state[name]) for name, value in other.state_dict().items())
    read = batch.sequences["language"]
    new, unknown = (Sequence(torch.where(read.values % 3 == 0, word, read.values), read.mask) for word in (13, UNKNOWN))
    made = [
        deepcopy(other).eval()(replace(batch, sequences={**batch.sequences, "language": sequence})) for sequence in (new, unknown)
    ]
    assert_same(*made, atol=0)


@pytest.mark.parametrize("training", [False, True])
def test_padding_changes_nothing(case, training):
    backbone, batch = case
    if training:
        without_dropout(backbone)
    with torch.no_grad():
        plain = backbone(batch)
        for where in ("front", "back", "inside"):
            assert_same(backbone(padded(batch, where)), plain)


def test_padding_gets_no_gradient(case):
    backbone, batch = case
    batch = padded(batch, "inside")
    sequences = {
        m: s if s.values.ndim == 2 else Sequence(s.values.clone().requires_grad_(), s.mask) for m, s in batch.sequences.items()
    }
    backbone(replace(batch, sequences=sequences)).prediction.sum().backward()
    for s in sequences.values():
        if s.values.requires_grad:
            assert (s.values.grad[~s.mask] == 0).all()
            assert s.values.grad[s.mask].abs().sum() > 0


def test_a_row_does_not_depend_on_its_batch(case):
    backbone, batch = case
    with torch.no_grad():
        together = backbone(batch)
        order = torch.tensor([3, 0, 6, 2, 5, 1, 4])
        assert_same(backbone(take(batch, order)), together[order])
        for i in range(ROWS):
            assert_same(backbone(take(batch, [i])), together[i : i + 1])


def concatenated(a: Encoded, b: Encoded) -> Encoded:
    def both(x, y):
        if isinstance(x, Sequence):
            return Sequence(torch.cat([x.values, y.values]), torch.cat([x.mask, y.mask]))
        return torch.cat([x, y])

    return {m: {key: both(part, b[m][key]) for key, part in parts.items()} for m, parts in a.items()}


@pytest.mark.parametrize("training", [False, True])
def test_fusion_treats_each_row_on_its_own(case, training):
    """In training too: statistics of joint rows must not see samples of the product."""
    backbone, batch = case
    if training:
        without_dropout(backbone)
    with torch.no_grad():
        a = backbone.encode(batch)
        b = {m: {k: p[torch.tensor([6, 6, 0, 1])] for k, p in parts.items()} for m, parts in a.items()}
        before = deepcopy(backbone.state_dict())
        both = backbone.fuse(concatenated(a, b))
        assert_same(both[:ROWS], backbone.fuse(a))
        assert_same(both[ROWS:], backbone.fuse(b))
        assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())


@pytest.mark.parametrize("training", [False, True])
def test_encoding_is_of_each_modality_alone(case, training):
    backbone, batch = case
    if training:
        without_dropout(backbone)
    with torch.no_grad():
        before = dict(parts_of(backbone.encode(batch)))
        for changed, s in batch.sequences.items():
            values = s.values.flip(0).flip(1) if s.values.ndim == 2 else s.values + s.values.abs() + 1
            sequences = {**batch.sequences, changed: Sequence(values, s.mask)}
            after = dict(parts_of(backbone.encode(replace(batch, sequences=sequences))))
            differs = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
            assert differs == {changed}


def test_gradients_reach_every_parameter(case):
    backbone, batch = case
    without_dropout(backbone)
    rows = torch.arange(ROWS)
    # All rows are one video, for models that read a segment among its neighbours; others do not look.
    every = Context(batch.sequences, rows.repeat(ROWS, 1), torch.ones(ROWS, ROWS, dtype=torch.bool), rows)
    batch = replace(batch, context=every)
    encoded = backbone.encode(batch)
    fusion = backbone.fuse(encoded)
    with torch.no_grad():
        for epoch in range(4):  # Self-MM's unimodal heads learn from labels that this moves
            backbone.after_step(batch, fusion.detach(), epoch)
    loss = (fusion.prediction - batch.label).square().mean()
    (loss + sum(backbone.own_terms(batch, encoded, fusion).values())).backward()
    learned = [(name, p) for name, p in backbone.named_parameters() if p.requires_grad]
    silent = [name for name, p in learned if p.grad is None or not p.grad.abs().sum() > 0]
    assert not silent


def test_z_and_unimodal_carry_gradient(case):
    backbone, batch = case
    fusion = backbone(batch)
    learned = [p for p in backbone.parameters() if p.requires_grad]
    for value in (fusion.z, *fusion.unimodal.values()):
        grads = torch.autograd.grad(value.square().sum(), learned, retain_graph=True, allow_unused=True)
        assert any(g is not None and g.abs().sum() > 0 for g in grads)


def test_z_is_what_the_head_reads(case):
    """Some module gets Z itself and returns the prediction; a copy, or a layer before it, would not be what is penalised."""
    backbone, batch = case
    calls = []
    hooks = [m.register_forward_hook(lambda _, given, out: calls.append((given, out))) for m in backbone.modules()]
    fusion = backbone.fuse(backbone.encode(batch))
    for hook in hooks:
        hook.remove()
    assert any(len(given) == 1 and given[0] is fusion.z and out is fusion.prediction for given, out in calls)


def test_state_dict_makes_the_round_trip(case, request):
    backbone, batch = case
    model, number, kind = request.node.callspec.params["case"]
    other = build(model, MODELS[model][number], kind)
    with torch.no_grad():
        for p in other.parameters():
            p.add_(1)
        other.load_state_dict(backbone.state_dict())
        assert_same(other.eval()(batch), backbone(batch), atol=0)


def test_half_precision_is_finite(case, half_precision):
    backbone, batch = case
    without_dropout(backbone)
    with half_precision():
        fusion = backbone(batch)
        loss = (fusion.prediction.float() - batch.label).abs().mean()
    loss.backward()
    assert all(torch.isfinite(v).all() for v in (fusion.prediction, fusion.z, *fusion.unimodal.values()))
    assert all(torch.isfinite(p.grad).all() for p in backbone.parameters() if p.grad is not None)


PAIRED = {"words", "vectors", "language and audio", "audio and video", "four", "images"}


def test_re_pairing_the_encoding_is_re_pairing_the_inputs(paired):
    """Where all lengths are equal nothing is stretched, so encode-then-move is move-then-encode."""
    backbone, kind = deepcopy(built(paired)).eval(), paired[2]
    batch = batch_of(kind, lengths=None if of_images(kind) else [5] * ROWS)
    lengths = batch_lengths(batch)
    index = shifts(lengths, np.random.default_rng(0))
    sequences = {m: s[torch.from_numpy(index[i])] for i, (m, s) in enumerate(batch.sequences.items())}
    with torch.no_grad():
        re_paired = backbone(replace(batch, sequences=sequences))
        moved = backbone.fuse(product(backbone.encode(batch), index, lengths))
        assert_same(moved, re_paired)
        assert (moved.z - backbone(batch).z).abs().max() > 1e-4


@pytest.mark.parametrize("training", [False, True])
def test_no_state_of_a_batch_stays_on_the_module(case, training):
    backbone, batch = case
    backbone.train(training)
    before, state = attributes(backbone), deepcopy(backbone.state_dict())
    first = backbone(batch)
    assert attributes(backbone) == before
    if not training:
        assert all(torch.equal(value, state[key]) for key, value in backbone.state_dict().items())
        backbone(take(batch, [0, 1]))
        assert_same(backbone(batch), first, atol=0)


def test_re_running_does_not_change_the_batch(case):
    backbone, batch = case
    before = {m: (s.values.clone(), s.mask.clone()) for m, s in batch.sequences.items()}
    backbone.train()(batch)
    for m, (values, mask) in before.items():
        assert torch.equal(batch.sequences[m].values, values)
        assert torch.equal(batch.sequences[m].mask, mask)

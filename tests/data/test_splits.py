"""Batches against a plain padding loop; what is estimated comes from the training fold alone; the test fold stays shut."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from mdm.data import views as views_module
from mdm.data.base import FOLDS, PADDING, UNKNOWN, Ragged, Segments
from mdm.data.folds import KFold
from mdm.data.gaussian import gaussian
from mdm.data.seal import select
from mdm.data.splits import Splits
from mdm.data.store import open_store
from mdm.data.synthetic import synthetic
from mdm.data.views import release
from mdm.data.writing import write_store

SIZES = {"train": 23, "valid": 6, "test": 8}
VOCABULARY = ("<pad>", "<unk>", *(f"w{i:02}" for i in range(2, 20)))


def table(seed=0, **fields):
    """Segments in mixed order of folds, unaligned, some without video; words 12 to 19 occur only outside training."""
    rng = np.random.default_rng(seed)
    fold = rng.permutation(np.repeat([*FOLDS, ""], [*SIZES.values(), 3]))
    n = len(fold)
    lengths = {m: rng.integers(1, 9, n) for m in ("words", "vectors", "audio", "video")}
    lengths["vectors"] = lengths["words"]
    lengths["video"][rng.random(n) < 0.25] = 0
    words = [rng.integers(2, 12 if fold[i] == "train" else 20, t) for i, t in enumerate(lengths["words"])]

    def frames(name, dim, scale):
        return Ragged.of([(scale * rng.standard_normal((t, dim)) + scale).astype(np.float32) for t in lengths[name]], dim=dim)

    default = {
        "name": "tiny",
        "ids": tuple(f"s{i}" for i in range(n)),
        "fold": fold,
        "group": np.array([f"v{i // 2}{fold[i]}" for i in range(n)]),
        "label": np.clip(rng.standard_normal((n, 1)), -3, 3).astype(np.float32),
        "targets": ("sentiment",),
        "label_range": (-3.0, 3.0),
        "modalities": {"audio": frames("audio", 3, 100.0), "video": frames("video", 2, 0.1)},
        "text": {"words": Ragged.of(words, VOCABULARY), "vectors": frames("vectors", 4, 1.0)},
        "aligned": ("words", "vectors"),
        "marks": {"odd": rng.random(n) < 0.5},
    }
    return Segments(**default | fields)


@pytest.fixture(scope="module")
def segments():
    return table()


@pytest.fixture
def selection(tmp_path):
    return choose_epoch(tmp_path)


def choose_epoch(folder, epoch=3, value=1.0):
    """A selection of an epoch that is the best of four on disk, with a checkpoint."""
    (folder / "best.ckpt").write_bytes(b"weights")
    maes = [value if k == epoch else value + 1 for k in range(4)]
    (folder / "curve.csv").write_text("epoch,valid/mae\n" + "".join(f"{k}.0,{mae!r}\n" for k, mae in enumerate(maes)))
    return select(folder / "best.ckpt", folder / "curve.csv", epoch, "valid/mae", value)


def rows_of(segments, fold):
    return [i for i in range(len(segments)) if segments.fold[i] == fold]


def padded(sequences):
    """The plain loop: zeros behind, to the longest (at least one step)."""
    longest = max(1, *(len(s) for s in sequences))
    values = np.zeros((len(sequences), longest, *sequences[0].shape[1:]), dtype=np.result_type(*sequences))
    mask = np.zeros((len(sequences), longest), dtype=bool)
    for i, s in enumerate(sequences):
        for t, step in enumerate(s):
            values[i, t] = step
            mask[i, t] = True
    return values, mask


def order_of(loader, epoch=0):
    loader.batch_sampler.set_epoch(epoch)
    return [batch.ids for batch in loader]


def training_frames(segments, name):
    return np.concatenate([segments.features[name][i] for i in rows_of(segments, "train")]).astype(np.float64)


def equal(a, b):
    """Two batches, bit for bit."""
    return (
        a.ids == b.ids
        and torch.equal(a.label, b.label)
        and list(a.sequences) == list(b.sequences)
        and all(torch.equal(s.values, t.values) and torch.equal(s.mask, t.mask) for s, t in both(a.sequences, b.sequences))
    )


def both(a, b):
    return zip(a.values(), b.values(), strict=True)


# Batches ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_steps", [None, 1, 4, 100])
@pytest.mark.parametrize("fold", FOLDS)
def test_batches_equal_a_plain_padding_loop(segments, selection, fold, max_steps):
    """``max_steps`` keeps the last steps: s[-max_steps:]."""
    splits = Splits(segments, batch_size=5, scale="none", max_steps=max_steps)
    loader = {"train": splits.train, "valid": splits.valid, "test": lambda: splits.open_test(selection)}[fold]()
    seen = []
    for batch in loader:
        rows = [segments.ids.index(i) for i in batch.ids]
        seen += rows
        np.testing.assert_array_equal(batch.label.numpy(), segments.label[rows], strict=True)
        assert list(batch.sequences) == ["language", "audio", "video"]
        for name, sequence in batch.sequences.items():
            ragged = segments.features["words" if name == "language" else name]
            plain = [ragged[i] if max_steps is None else ragged[i][-max_steps:] for i in rows]
            if name == "language":
                plain = [words.astype(np.int64) for words in plain]
            values, mask = padded(plain)
            np.testing.assert_array_equal(sequence.values.numpy(), values, strict=True)
            np.testing.assert_array_equal(sequence.mask.numpy(), mask, strict=True)
            assert sequence.lengths.tolist() == [len(s) for s in plain]
    assert sorted(seen) == rows_of(segments, fold)


@pytest.mark.parametrize("scale", ["standard", "maxabs"])
def test_scaled_batches_are_scaled_frames_padded_with_zeros(segments, scale):
    """x → (x − shift) · factor, and padding stays 0, which is not the scaled 0."""
    splits = Splits(segments, batch_size=5, scale=scale, text="vectors")
    for batch in [*splits.train(), *splits.valid()]:
        rows = [segments.ids.index(i) for i in batch.ids]
        for name, sequence in batch.sequences.items():
            feature = "vectors" if name == "language" else name
            frames = training_frames(segments, feature)
            shift, width = (frames.mean(0), frames.std(0)) if scale == "standard" else (0, np.abs(frames).max(0))
            values, mask = padded([(segments.features[feature][i] - shift) / width for i in rows])
            np.testing.assert_allclose(sequence.values.numpy(), values, rtol=1e-5, atol=1e-5)
            np.testing.assert_array_equal(sequence.mask.numpy(), mask)
            assert (sequence.values[~sequence.mask] == PADDING).all()
            assert sequence.values.dtype == torch.float32


def test_validation_and_test_come_in_order(segments, selection):
    splits = Splits(segments, batch_size=5)
    splits.open_test(selection)
    for fold in FOLDS:
        loader = splits.in_order(fold)
        ids = [i for batch in loader for i in batch.ids]
        assert ids == [segments.ids[i] for i in rows_of(segments, fold)]
        assert ids == splits.describe(fold)["id"]


def test_description_is_of_the_same_rows(segments, selection):
    rows = rows_of(segments, "test")
    splits = Splits(segments)
    splits.open_test(selection)
    assert splits.describe("test") == {
        "id": [segments.ids[i] for i in rows],
        "group": segments.group[rows].tolist(),
        "odd": segments.marks["odd"][rows].tolist(),
    }


def test_segments_in_no_fold_are_never_seen(segments, selection):
    splits = Splits(segments, batch_size=5)
    loaders = (splits.train(), splits.valid(), splits.open_test(selection))
    seen = {i for loader in loaders for batch in loader for i in batch.ids}
    assert seen == {segments.ids[i] for i in range(len(segments)) if segments.fold[i]}
    assert splits.sizes == SIZES


# Scaling ------------------------------------------------------------------------------------------------


def test_standard_scale_is_that_of_the_training_frames(segments):
    """Over all training frames end to end, in double precision, divided by n."""
    splits = Splits(segments, text="vectors")
    for name, feature in (("language", "vectors"), ("audio", "audio"), ("video", "video")):
        frames = training_frames(segments, feature)
        np.testing.assert_allclose(splits._views[name].shift, frames.mean(0), rtol=1e-6)
        np.testing.assert_allclose(splits._views[name].factor, 1 / frames.std(0), rtol=1e-6)
        scaled = torch.cat([s.values[s.mask] for s in (b.sequences[name] for b in splits.in_order("train"))]).double()
        torch.testing.assert_close(scaled.mean(0), torch.zeros(frames.shape[1]).double(), atol=1e-5, rtol=0)
        torch.testing.assert_close(scaled.std(0, correction=0), torch.ones(frames.shape[1]).double(), atol=1e-5, rtol=0)


def test_standard_scale_of_a_feature_far_from_zero(segments):
    """Frames 1e4 ± 1: the mean of squares less the square of the mean would lose 8 digits."""
    rng = np.random.default_rng(1)
    audio = [
        (1e4 + rng.standard_normal((len(segments.modalities["audio"][i]), 1))).astype(np.float32) for i in range(len(segments))
    ]
    far = replace(segments, modalities={"audio": Ragged.of(audio)})
    frames = training_frames(far, "audio")
    view = Splits(far)._views["audio"]
    np.testing.assert_allclose(view.shift, frames.mean(0), rtol=1e-7)
    np.testing.assert_allclose(view.factor, 1 / frames.std(0), rtol=1e-6)


def test_maxabs_scale_is_the_largest_training_frame(segments):
    splits = Splits(segments, scale="maxabs")
    for name in ("audio", "video"):
        largest = np.abs(training_frames(segments, name)).max(0)
        np.testing.assert_array_equal(splits._views[name].factor, (1 / largest).astype(np.float32))
        assert max(s.values.abs().max() for s in (b.sequences[name] for b in splits.train())) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("scale", ["standard", "maxabs", "none"])
@pytest.mark.parametrize("constant", [0.0, 5.0])
def test_a_feature_that_never_changes_stays_finite(segments, scale, constant):
    audio = Ragged.of([np.full((1, 1), constant, dtype=np.float32)] * len(segments))
    splits = Splits(replace(segments, modalities={"audio": audio}), scale=scale)
    expected = {"standard": 0.0, "maxabs": float(constant > 0), "none": constant}[scale]
    assert all((b.sequences["audio"].values == expected).all() for b in splits.train())


def test_word_ids_are_not_scaled(segments):
    a, b = (next(iter(Splits(segments, scale=scale).valid())).sequences["language"] for scale in ("standard", "none"))
    assert torch.equal(a.values, b.values)


# Nothing leaks out of the other folds -------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"text": "vectors"}, {"scale": "maxabs"}, {"max_steps": 3}])
def test_other_folds_change_nothing_in_training(segments, options):
    """Every frame, word, length and label of validation and test is exchanged for another, and far larger ones."""
    rng = np.random.default_rng(9)
    outside = segments.fold != "train"

    def exchanged(ragged):
        rows = []
        for i in range(len(ragged)):
            t = int(rng.integers(1, 30))
            new = rng.integers(2, len(VOCABULARY), t) if ragged.tokens else 1e6 * rng.standard_normal((t, ragged.dim))
            rows.append(new if outside[i] else ragged[i])
        return Ragged.of(rows, ragged.vocabulary)

    other = replace(
        segments,
        modalities={m: exchanged(r) for m, r in segments.modalities.items()},
        text={kind: exchanged(r) for kind, r in segments.text.items()},
        aligned=(),
        label=np.where(outside[:, None], -segments.label / 2, segments.label),
    )
    a, b = Splits(segments, batch_size=5, **options), Splits(other, batch_size=5, **options)
    for epoch in range(2):
        for loader in (one := a.train(), two := b.train()):
            loader.batch_sampler.set_epoch(epoch)
        assert all(equal(x, y) for x, y in zip(one, two, strict=True))
    assert a.spec.label_mean == b.spec.label_mean
    for name in a.spec.modalities:
        assert a._views[name].feature == b._views[name].feature
        for part in ("shift", "factor"):
            np.testing.assert_array_equal(getattr(a._views[name], part), getattr(b._views[name], part))


def test_words_that_training_has_not_come_behind_those_it_has(segments):
    """Words 12 to 19 are in the vocabulary but in no training segment: their ids lie beyond dim, and the words can be read."""
    splits = Splits(segments)
    language = next(iter(splits.valid())).sequences["language"]
    plain = np.concatenate([segments.text["words"][i] for i in rows_of(segments, "valid")])
    assert (plain >= 12).any()
    feature, vocabulary = splits.spec.features["language"], segments.text["words"].vocabulary
    read = language.values[language.mask].tolist()
    assert [feature.vocabulary[k] for k in read] == [vocabulary[k] for k in plain]
    assert (language.values[~language.mask] == PADDING).all()
    training = {vocabulary[w] for i in rows_of(segments, "train") for w in segments.text["words"][i]}
    assert feature.vocabulary[: UNKNOWN + 1] == ("<pad>", "<unk>")
    assert list(feature.vocabulary[UNKNOWN + 1 : feature.dim]) == sorted(training)
    assert list(feature.vocabulary[feature.dim :]) == sorted(set(vocabulary[2:]) - training)
    assert feature.dim + feature.others == len(vocabulary)
    assert {k >= feature.dim for k in read} == {True, False}


def test_batches_by_length(segments):
    """Every row once an epoch; a function of (seed, epoch); and within a run of batches no batch overlaps another in length."""
    splits = Splits(segments, batch_size=4, by_length=True, seed=3)
    loader = splits.train()
    lengths = dict(
        zip(segments.ids, np.max([r.lengths for r in (segments.text["words"], *segments.modalities.values())], axis=0), strict=True)
    )
    for epoch in range(3):
        batches = order_of(loader, epoch)
        assert batches == order_of(Splits(segments, batch_size=4, by_length=True, seed=3).train(), epoch)
        assert sorted(i for ids in batches for i in ids) == sorted(splits.describe("train")["id"])
        spans = sorted((min(lengths[i] for i in ids), max(lengths[i] for i in ids)) for ids in batches)
        assert all(first[1] <= second[0] for first, second in itertools.pairwise(spans))
    assert order_of(loader, 0) != order_of(loader, 1)


def test_ids_of_a_tokenizer_stay_as_they_are(segments):
    """A pretrained model knows them all: there is no vocabulary of the data's own."""
    tokens = Ragged(segments.text["words"].values, segments.text["words"].offsets)
    splits = Splits(replace(segments, text={"tokens": tokens}, aligned=()), text="tokens")
    language = next(iter(splits.valid())).sequences["language"]
    plain = np.concatenate([tokens[i] for i in rows_of(segments, "valid")])
    np.testing.assert_array_equal(language.values[language.mask].numpy(), plain)


# Order --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [2, 3, 4, 5, 7, 10, 11, 22, 23, 100])
def test_every_training_row_once_an_epoch(segments, batch_size):
    splits = Splits(segments, batch_size=batch_size)
    loader = splits.train()
    for epoch in range(3):
        batches = order_of(loader, epoch)
        assert len(batches) == len(loader)
        assert sorted(i for ids in batches for i in ids) == sorted(splits.describe("train")["id"])
        assert min(map(len, batches)) >= min(batch_size, 4)


@pytest.mark.parametrize(
    ("batch_size", "sizes"),
    [
        (10, [10, 13]),  # a tail of 3 joins
        (19, [19, 4]),  # a tail of 4 stays
        (22, [23]),  # a tail of 1 joins
        (23, [23]),
        (100, [23]),
        (2, [2] * 10 + [3]),  # below four, batches as small as asked for stay, and smaller ones join
        (3, [3] * 6 + [5]),
    ],
)
def test_a_short_tail_joins_the_batch_before(segments, batch_size, sizes):
    splits = Splits(segments, batch_size=batch_size)
    assert [len(b) for b in splits.train()] == sizes


def test_a_fold_smaller_than_four_is_one_batch():
    small = gaussian(train=3, valid=2, test=1)
    assert [len(b) for b in Splits(small, batch_size=8, text="vectors").train()] == [3]
    assert [len(b) for b in Splits(small, batch_size=2, text="vectors").train()] == [3]


def test_order_is_a_function_of_seed_and_epoch(segments):
    loader = Splits(segments, batch_size=5, seed=1).train()
    in_turn = [order_of(loader, epoch) for epoch in range(4)]
    again = Splits(segments, batch_size=5, seed=1)
    assert order_of(again.train(), 3) == in_turn[3]  # as a resumed run asks
    assert [batch.ids for batch in again.train(epoch=3)] == in_turn[3]
    assert order_of(again.train(), 0) == in_turn[0]
    assert len({str(order) for order in in_turn}) == 4
    assert order_of(Splits(segments, batch_size=5, seed=2).train()) != in_turn[0]


def test_another_stream_has_an_order_of_its_own_and_moves_no_other(segments):
    plain = order_of(Splits(segments, batch_size=5).train())
    splits = Splits(segments, batch_size=5)
    critic, task = splits.train("critic batches"), splits.train()
    other = order_of(critic)
    assert order_of(task) == plain
    assert order_of(critic) == other != plain


def test_order_does_not_depend_on_what_is_read(segments):
    """Penalties, models and scales compare on the same batches."""
    options = ({}, {"text": None}, {"modalities": ["audio"]}, {"scale": "none"}, {"max_steps": 1})
    orders = [order_of(Splits(segments, batch_size=5, **o).train()) for o in options]
    assert orders.count(orders[0]) == len(orders)


def test_lightning_gives_each_epoch_its_order(segments):
    class Reader(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = False
            self.weight = torch.nn.Parameter(torch.zeros(1))
            self.seen = {}

        def training_step(self, batch, index):
            self.seen.setdefault(self.current_epoch, []).append(batch.ids)

        def configure_optimizers(self):
            return torch.optim.SGD([self.weight])

    splits, reader = Splits(segments, batch_size=5), Reader()
    pl.Trainer(max_epochs=3, barebones=True, accelerator="cpu").fit(reader, splits.train())
    assert reader.seen == {epoch: order_of(splits.train(), epoch) for epoch in range(3)}


def test_reading_draws_from_no_global_generator(segments, selection):
    splits = Splits(segments, batch_size=5)
    before = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    for loader in (splits.train(), splits.train("other"), splits.in_order("train"), splits.valid(), splits.open_test(selection)):
        for _ in range(2):
            list(loader)
    assert torch.equal(before[0], torch.get_rng_state())
    np.testing.assert_equal(np.random.get_state(), before[1])  # noqa: NPY002


def test_a_worker_reads_the_same(segments):
    here, there = Splits(segments, batch_size=5).train(), Splits(segments, batch_size=5, workers=1).train()
    for epoch in (0, 2):
        for loader in (here, there):
            loader.batch_sampler.set_epoch(epoch)
        assert all(equal(a, b) for a, b in zip(here, there, strict=True))


# Lacking modalities -------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", ["standard", "maxabs", "none"])
def test_a_lacking_modality_has_no_real_step(segments, scale):
    lacking = {segments.ids[i] for i in range(len(segments)) if segments.modalities["video"].lengths[i] == 0}
    seen = set()
    for batch in Splits(segments, batch_size=5, scale=scale).train():
        video = batch.sequences["video"]
        for i, mask, values in zip(batch.ids, video.mask, video.values, strict=True):
            assert mask.any() == (i not in lacking)
            if i in lacking:
                assert (values == 0).all()
                seen.add(i)
    assert seen


def test_a_batch_that_lacks_a_modality_altogether_has_one_step_of_padding(segments):
    has = segments.fold != "valid"
    audio = Ragged.of([np.ones((int(has[i]), 2), dtype=np.float32) for i in range(len(segments))])
    splits = Splits(replace(segments, modalities={"audio": audio}))
    for batch in splits.valid():
        sequence = batch.sequences["audio"]
        assert sequence.values.shape == (len(batch), 1, 2)
        assert not sequence.mask.any()
        assert (sequence.values == 0).all()


def test_a_modality_that_the_training_fold_lacks_is_refused(segments):
    audio = Ragged.of([np.ones((int(segments.fold[i] == "test"), 2), dtype=np.float32) for i in range(len(segments))])
    with pytest.raises(ValueError, match="must occur in the training fold to be learned, but audio does not"):
        Splits(replace(segments, modalities={"audio": audio}))


# What a backbone is told --------------------------------------------------------------------------------


def test_spec_tells_dimensions_words_and_the_training_mean(segments):
    spec = Splits(segments).spec
    assert spec.modalities == ("language", "audio", "video")
    assert {m: (f.dim, f.tokens) for m, f in spec.features.items()} == {
        "language": (12, True),  # padding, the unknown word and the ten words of training
        "audio": (3, False),
        "video": (2, False),
    }
    assert spec.features["language"].vocabulary == VOCABULARY
    assert (spec.targets, spec.label_range) == (("sentiment",), (-3.0, 3.0))
    assert spec.label_mean == pytest.approx(tuple(segments.label[segments.fold == "train"].astype(float).mean(0)), abs=1e-6)
    vectors = Splits(segments, text="vectors").spec.features["language"]
    assert (vectors.dim, vectors.tokens, vectors.vocabulary) == (4, False, ())


@pytest.mark.parametrize(
    ("options", "aligned", "expected"),
    [
        ({}, ("words", "audio", "video"), True),
        ({}, ("words", "audio"), False),
        ({"modalities": ["language", "audio"]}, ("words", "audio"), True),
        ({"text": "vectors"}, ("words", "audio", "video"), False),
        ({"text": "vectors"}, ("words", "vectors", "audio", "video"), True),
        ({"text": None}, ("audio", "video"), True),
        ({"modalities": ["video"]}, (), True),
        ({}, (), False),
    ],
)
def test_aligned_only_if_everything_chosen_is(options, aligned, expected):
    data = synthetic(train=12, valid=5, test=5, vectors=True)
    assert Splits(replace(data, aligned=aligned), **options).spec.aligned is expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"text": None}, ("audio", "video")),
        ({"modalities": ["video", "language"]}, ("language", "video")),
        ({"modalities": ["audio"]}, ("audio",)),
    ],
)
def test_modalities_are_chosen_in_the_order_of_the_data(segments, options, expected):
    splits = Splits(segments, **options)
    assert splits.spec.modalities == expected
    assert tuple(next(iter(splits.train())).sequences) == expected


def test_data_without_text_have_no_language(segments):
    assert Splits(replace(segments, text={}, aligned=())).spec.modalities == ("audio", "video")


def test_another_division(segments, selection):
    """A declared division replaces the data's own, in batches, scale and description alike."""
    kfold = KFold(k=3, fold=1, seed=5)
    splits, fold = Splits(segments, folds=kfold), kfold(segments)
    assert splits.sizes == {name: int((fold == name).sum()) for name in FOLDS}
    tested = [i for batch in splits.open_test(selection) for i in batch.ids]
    assert tested == splits.describe("test")["id"] == [segments.ids[i] for i in np.flatnonzero(fold == "test")]
    frames = training_frames(replace(segments, fold=fold), "audio")
    np.testing.assert_allclose(splits._views["audio"].shift, frames.mean(0), rtol=1e-6)


# The seal, and errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 1}, "batch_size must be at least 2 .*but is 1"),
        ({"batch_size": 0}, "batch_size must be at least 2 .*but is 0"),
        ({"max_steps": 0}, "max_steps must be at least 1, but is 0"),
        ({"text": "tokens"}, r"carries text as words, vectors, but data\.text=tokens was asked for"),
        ({"modalities": ["audio", "smell"]}, "has the modalities language, audio, video, but smell was asked for"),
        ({"modalities": []}, "but none was asked for; set data.modalities to a non-empty choice"),
        ({"text": None, "modalities": ["language"]}, "has the modalities audio, video, but language was asked for"),
        ({"folds": lambda s: np.where(s.fold == "train", "train", "test")}, "must hold a segment, but valid hold none"),
        ({"folds": lambda s: np.full(len(s), "")}, "but train, valid, test hold none"),
    ],
)
def test_an_argument_out_of_range_is_named(segments, options, message):
    with pytest.raises(ValueError, match=message):
        Splits(segments, **options)


@pytest.mark.parametrize("empty", FOLDS)
def test_an_empty_fold_is_named(segments, empty):
    with pytest.raises(ValueError, match=f"each of train, valid and test must hold a segment, but {empty} hold none"):
        Splits(replace(segments, fold=np.where(segments.fold == empty, "", segments.fold)))


def test_nothing_to_read(segments):
    with pytest.raises(ValueError, match=r"at least one modality, but data\.text=null leaves none"):
        Splits(replace(segments, modalities={}), text=None)


def test_broken_segments_are_refused(segments):
    with pytest.raises(ValueError, match="labels must lie in the declared range"):
        Splits(replace(segments, label_range=(0.0, 3.0)))


def test_folds_in_order_but_the_test_fold(segments):
    splits = Splits(segments)
    for fold in ("train", "valid"):
        assert [i for b in splits.in_order(fold) for i in b.ids] == splits.describe(fold)["id"]
    with pytest.raises(ValueError, match="test fold opens only after a checkpoint was chosen on validation"):
        splits.in_order("test")


# Other segments, read in the same way -------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{}, {"scale": "maxabs", "max_steps": 3}, {"text": "vectors", "modalities": ["language", "video"]}]
)
def test_like_reads_other_segments_by_this_training_fold(segments, selection, options):
    """The same frames under other ids and in other folds come out the same, whatever is in the other training fold."""
    splits = Splits(segments, batch_size=5, **options)
    fold = np.full(len(segments), "test", dtype="U5")
    fold[rows_of(segments, "valid")[:2]] = "train"
    other = replace(segments, ids=tuple(f"new {i}" for i in segments.ids), fold=fold, label=segments.label / 2)
    read = splits.like(other)
    assert read.spec == splits.spec
    assert read.sizes == {"train": 2, "valid": 0, "test": len(segments) - 2}
    here = {i: (b, k) for b in [*splits.in_order("train"), *splits.open_test(selection)] for k, i in enumerate(b.ids)}
    compared = 0
    for batch in read.in_order("test"):
        for k, name in enumerate(batch.ids):
            if (i := name.removeprefix("new ")) not in here:
                continue
            before, j = here[i]
            compared += 1
            assert torch.equal(batch.label[k], before.label[j] / 2)
            for m, sequence in batch.sequences.items():
                assert torch.equal(sequence.values[k][sequence.mask[k]], before.sequences[m].values[j][before.sequences[m].mask[j]])
    assert compared == SIZES["train"] + SIZES["test"]


def test_like_leaves_the_first_as_it_was(segments):
    """The test fold of the others may be read in order, that of the first stays shut."""
    splits = Splits(segments, batch_size=5)
    before = list(splits.train()), dict(splits.sizes)
    other = splits.like(table(seed=5))
    assert [i for b in other.in_order("test") for i in b.ids] == other.describe("test")["id"]
    with pytest.raises(ValueError, match="opens only after a checkpoint"):
        splits.in_order("test")
    assert splits.sizes == before[1]
    assert all(equal(a, b) for a, b in zip(splits.train(), before[0], strict=True))


def wider(segments):
    audio = segments.modalities["audio"]
    return Ragged(np.repeat(audio.values, 2, axis=1), audio.offsets)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: replace(s, modalities={"audio": s.modalities["audio"]}), "tiny's video is missing"),
        (lambda s: replace(s, text={}, aligned=()), "tiny's words is missing"),
        (lambda s: replace(s, modalities={**s.modalities, "audio": wider(s)}), "tiny's audio is of another kind or width"),
        (
            lambda s: replace(s, text={"words": Ragged(s.text["words"].values, s.text["words"].offsets)}, aligned=()),
            "tiny's words is of another kind or width",
        ),
        (lambda s: replace(s, label_range=(0.0, 3.0)), "labels must lie in the declared range"),
    ],
)
def test_like_refuses_other_features(segments, change, message):
    with pytest.raises(ValueError, match=message):
        Splits(segments).like(change(segments))


def test_like_reads_words_by_what_they_are(segments):
    """Another store has another vocabulary: the same words have the same ids here, and a word that the data have not is unknown."""
    known = segments.rows(np.flatnonzero(segments.fold != "test"))
    words = known.text["words"]
    turned = np.array([0, 1, *range(len(VOCABULARY), 1, -1)], dtype=np.int32)  # w02 is 20, …, w19 is 3; 2 is a new word
    vocabulary = ("<pad>", "<unk>", "new", *reversed(VOCABULARY[2:]))
    splits = Splits(segments)
    same = splits.like(replace(known, text={"words": Ragged(turned[words.values], words.offsets, vocabulary)}, aligned=()))
    assert all(equal(a, b) for a, b in zip(splits.valid(), same.in_order("valid"), strict=True))
    new = np.full_like(words.values, 2)
    strange = splits.like(replace(known, text={"words": Ragged(new, words.offsets, vocabulary)}, aligned=()))
    language = next(iter(strange.in_order("valid"))).sequences["language"]
    assert set(language.values[language.mask].tolist()) == {UNKNOWN}


def test_like_takes_ids_of_a_tokenizer_that_reach_no_further(segments):
    tokens = Ragged(segments.text["words"].values, segments.text["words"].offsets)
    splits = Splits(replace(segments, text={"tokens": tokens}, aligned=()), text="tokens")
    feature = splits.spec.features["language"]
    assert (feature.dim, feature.others) == (12, 8)  # training has the words up to 11, the others up to 19
    splits.like(replace(segments, text={"tokens": Ragged(tokens.values // 2, tokens.offsets)}, aligned=()))
    with pytest.raises(ValueError, match="tiny's tokens is of another kind or width"):
        splits.like(replace(segments, text={"tokens": Ragged(tokens.values + 1, tokens.offsets)}, aligned=()))


# Mapped files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_most", [1, views_module.MAPPED_AT_MOST])
@pytest.mark.parametrize("scale", ["standard", "maxabs", "none"])
def test_a_store_reads_as_its_segments(segments, tmp_path, monkeypatch, at_most, scale):
    """Also where pages are given back after every read."""
    monkeypatch.setattr(views_module, "MAPPED_AT_MOST", at_most)
    stored = open_store(write_store(segments, tmp_path / "store"))
    a, b = (Splits(s, batch_size=5, scale=scale, text="vectors") for s in (segments, stored))
    for _ in range(2):
        assert all(equal(x, y) for x, y in zip(a.train(), b.train(), strict=True))
        assert all(equal(x, y) for x, y in zip(a.valid(), b.valid(), strict=True))


def test_release_keeps_values_readable(segments, tmp_path, monkeypatch):
    monkeypatch.setattr(views_module, "MAPPED_AT_MOST", 1)
    stored = open_store(write_store(segments, tmp_path / "store")).modalities["audio"]
    for array in (stored.values, stored.values[3:], stored[2], np.asarray(stored.values), stored.values.copy()):
        before = np.array(array)
        release(array)
        np.testing.assert_array_equal(array, before)


def resident(path):
    """Kilobytes of a mapped file that count towards this process."""
    sizes, inside = [], False
    with open("/proc/self/smaps") as file:
        for line in file:
            if "-" in line.split()[0]:
                inside = line.rstrip().endswith(str(path))
            elif inside and line.startswith("Rss:"):
                sizes.append(int(line.split()[1]))
    return sum(sizes)


@pytest.mark.skipif(not Path("/proc/self/smaps").is_file(), reason="reads Linux's map of memory")
def test_release_gives_pages_back(tmp_path, monkeypatch):
    monkeypatch.setattr(views_module, "MAPPED_AT_MOST", 1)
    path = tmp_path / "large.npy"
    np.save(path, np.ones((1024, 1024), dtype=np.float32))
    values = np.load(path, mmap_mode="r")
    assert float(values[:].sum()) == 2**20
    assert resident(path) >= 4096
    release(values[5:])
    assert resident(path) == 0


# Unlabelled segments ---------------------------------------------------------------------------------------


@pytest.fixture
def partly(segments):
    """The same segments, those in no fold now unlabelled, or else the last three."""
    fold = segments.fold.astype("U9")
    fold[-3:] = "unlabeled"
    label = segments.label.copy()
    label[-3:] = np.nan
    return replace(segments, fold=fold, label=label, group=np.array([*segments.group[:-3], "u0", "u1", "u2"]))


def test_unlabelled_segments_join_the_training_batches_only(partly):
    splits = Splits(partly, batch_size=5, unlabeled=2)
    own = set(partly.ids[-3:])
    assert splits.sizes["unlabeled"] == 3
    for batches in (order_of(splits.train(), 0), order_of(splits.train(), 1)):
        labelled = [i for ids in batches for i in ids if i not in own]
        assert sorted(labelled) == sorted(splits.describe("train")["id"])
        joined = [i for ids in batches for i in ids if i in own]
        assert len(joined) == 2 * len(labelled)
        for k in range(0, len(joined) - 2, 3):
            assert set(joined[k : k + 3]) == own
    for batch in splits.train():
        assert batch.labelled == len(batch) // 3
        assert torch.isfinite(batch.label[: batch.labelled]).all()
        assert torch.isnan(batch.label[batch.labelled :]).all()
        assert set(batch.ids[batch.labelled :]) <= own
    for loader in (splits.valid(), splits.in_order("train")):
        assert all(batch.labelled is None and not own & set(batch.ids) for batch in loader)


def test_unlabelled_segments_move_no_labelled_one(partly):
    """The order of the labelled rows, their scaling and known words are those of a run without."""
    a, b = Splits(partly, batch_size=5), Splits(partly, batch_size=5, unlabeled=2)
    for x, y in zip(a.train(), b.train(), strict=True):
        assert x.ids == y.ids[: y.labelled]
        assert x.labelled is None
    assert a.spec == b.spec


def test_a_division_leaves_the_unlabelled_alone(partly):
    splits = Splits(
        partly,
        batch_size=4,
        unlabeled=1,
        groups="shared",
        folds=lambda s: np.array((["train", "valid", "test"] * len(s))[: len(s)]),
    )
    assert splits.sizes["unlabeled"] == 3
    assert all(torch.isfinite(batch.label).all() for batch in splits.in_order("train"))


def test_a_division_leaves_out_the_unlabelled_of_held_out_videos(partly):
    """They would carry speakers that are tested into training."""
    group = np.array([f"v{i % 7}" for i in range(len(partly))])
    by_group = lambda s: np.array([{"v0": "test", "v1": "valid"}.get(g, "train") for g in s.group])  # noqa: E731
    n = len(partly)
    for last, kept in ((["v0", "v1", "v0"], 0), (["v0", "v3", "v4"], 2), (["v2", "v3", "new"], 3)):
        segments = replace(partly, group=np.array([*group[: n - 3], *last]))
        if not kept:
            with pytest.raises(ValueError, match="has 0 in its fold unlabeled"):
                Splits(segments, unlabeled=1, folds=by_group)
            continue
        splits = Splits(segments, batch_size=4, unlabeled=1, folds=by_group)
        assert splits.sizes["unlabeled"] == kept


def test_a_store_keeps_unlabelled_segments(partly, tmp_path):
    reopened = open_store(write_store(partly, tmp_path / "store"))
    np.testing.assert_array_equal(reopened.fold, partly.fold)
    assert Splits(reopened, unlabeled=1).sizes["unlabeled"] == 3


def test_other_segments_read_alike_have_no_order_of_these(partly):
    splits = Splits(partly, batch_size=4, unlabeled=1, by_length=True)
    other = splits.like(replace(partly, name="other", label=partly.label / 2))
    assert sum(len(batch) for batch in other.in_order("train")) == splits.sizes["train"]


def test_unlabelled_segments_that_are_not_there_are_asked_for(segments):
    with pytest.raises(ValueError, match=r"asks for 2 unlabelled segments .* has 0 in its fold unlabeled; set it to 0"):
        Splits(segments, unlabeled=2)
    with pytest.raises(ValueError, match="asks for -1"):
        Splits(segments, unlabeled=-1)


def test_labels_of_unlabelled_segments_are_refused(partly):
    with pytest.raises(ValueError, match="must have NaN for a label"):
        Splits(replace(partly, label=np.zeros_like(partly.label)))

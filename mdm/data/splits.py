"""Stage one, data: segments → batches, with the test fold sealed until a checkpoint is chosen.

`Splits` hands out training and validation batches, each from a `Fold` that has its own rows alone, and the test batches once, in
exchange for a `mdm.data.seal.Selection`: which checkpoint was chosen on validation, and where it lies. Everything that is
estimated from data here (scaling, known words, mean label) is estimated on the training fold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped
from torch.utils.data import DataLoader, Sampler

from mdm.data.base import FOLDS, UNLABELED, Ragged, Segments
from mdm.data.batches import Fold, InOrder, Joined, LastBatch, Order, Repeated, Shuffled, load_batches
from mdm.data.checks import check
from mdm.data.folds import divide
from mdm.data.leaks import Groups, check_groups, hash_labelled, warn_of_copies
from mdm.data.rows import take
from mdm.data.seal import Sealed
from mdm.data.views import Keep, ModalityReader, Padding, Reading, Scale, choose, for_each
from mdm.hints import require_option
from mdm.seeds import derive
from mdm.types import Batch, DataSpec


class Splits:
    """Batches of one data set for one run.

    data: the table of segments, or what makes it, always the same. Of what is made the test fold is dropped, and made again when
        it is opened; a table that is passed is held until then
    batch_size: rows per batch
    seed: the run's seed; the batch order of epoch e is a function of (seed, e) alone
    text: which kind of text is the language modality (a key of ``segments.text``), or None for no language
    modalities: names to use; None for all that the data hold
    folds: a division to use instead of the data's own
    scale: audio, video and given word vectors, per feature over training frames: ``standard`` (zero mean, unit
        variance), ``maxabs`` (as the MFN line does for FACET), or ``none``; one for all, or modality → its own
    max_steps: keep at most so many steps (the MFN line keeps 20); None keeps all; one for all, or modality → its own
    keep: which steps a cut keeps, the ``last`` (the MFN line) or the ``first`` ones (what fits into a file of fixed length)
    padding: ``masked``, a segment has its own length; ``official``, as in most published code, frames and word vectors are filled
        up to ``max_steps`` with zeros that are read as steps, in front with keep=last and behind with keep=first. Since the length
        is the same for all, no prediction depends on its neighbours. Token ids are masked either way
    order: ``shuffled`` anew for each epoch, or ``once`` for all of them (MFN and MFM)
    last_batch: ``keep`` what is left over for the last batch of an epoch, or ``drop`` it
    by_length: train on batches of segments of like length: less padding, which transformers pay for, and batches that are
        a little less random
    unlabeled: unlabelled segments that join each labelled one in a training batch, for models that learn from them
    overfit: so many training batches, or this share of them, the same in every epoch and for critics; None for all
    groups: ``apart``: no group (video, speaker) may be in two folds; ``shared``: some are, knowingly
    context: whether batches bring the videos (groups) of their segments, of each fold what is in it
    workers: processes that prepare batches; 0 reads in the main process, the fastest for sets of MOSI's size

    ``shared_groups`` counts those of several folds.

    Raises ValueError if a fold is empty, a group is in two, a modality or text kind is not there, or an argument is out of range.

    >>> from mdm.data.synthetic import synthetic
    >>> splits = Splits(synthetic(train=16, valid=4, test=4), batch_size=8)
    >>> splits.spec.modalities, splits.sizes
    (('language', 'audio', 'video'), {'train': 16, 'valid': 4, 'test': 4})
    >>> [len(batch) for batch in splits.train(epoch=3)]
    [8, 8]
    """

    def __init__(
        self,
        data: Segments | Callable[[], Segments],
        batch_size: int = 32,
        seed: int = 0,
        text: str | None = "words",
        modalities: list[str] | None = None,
        folds: Callable[[Segments], Shaped[np.ndarray, " n"]] | None = None,
        scale: Scale | Mapping[str, Scale] = "standard",
        max_steps: int | Mapping[str, int | None] | None = None,
        keep: Keep = "last",
        padding: Padding = "masked",
        order: Order = "shuffled",
        last_batch: LastBatch = "keep",
        workers: int = 0,
        by_length: bool = False,
        unlabeled: int = 0,
        overfit: int | float | None = None,
        groups: Groups = "apart",
        context: bool = False,
    ):
        require_option("keep", keep, Keep)
        require_option("padding", padding, Padding)
        require_option("order", order, Order)
        require_option("last_batch", last_batch, LastBatch)
        require_option("groups", groups, Groups)
        if batch_size < 2:
            raise ValueError(f"batch_size must be at least 2 (a batch of one has no statistics), but is {batch_size}.")
        again = make_again(data)
        segments = check(again())
        fold = segments.fold if folds is None else divide(segments, folds)
        rows = {name: np.flatnonzero(fold == name) for name in FOLDS}
        empty = [name for name in FOLDS if len(rows[name]) == 0]
        if empty:
            raise ValueError(
                f"{segments.name}: each of train, valid and test must hold a segment, but {', '.join(empty)} hold none; "
                "check the folds of the store, or declare a division with data.folds."
            )
        self.shared_groups = check_groups(segments, fold, groups)
        warn_of_copies(segments, fold)
        rows[UNLABELED] = np.flatnonzero(fold == UNLABELED)
        if unlabeled < 0 or (unlabeled and len(rows[UNLABELED]) == 0):
            raise ValueError(
                f"data.unlabeled asks for {unlabeled} unlabelled segments per labelled one, but {segments.name} has "
                f"{len(rows[UNLABELED])} in its fold unlabeled; set it to 0, or add such segments (data.segments.unlabeled)."
            )
        chosen = choose(segments, text, modalities)
        unseen = [name for name, ragged in chosen.items() if not ragged.lengths_of(rows["train"]).any()]
        if unseen:
            raise ValueError(
                f"{segments.name}: a modality must occur in the training fold to be learned, but {', '.join(unseen)} does not; "
                "declare another division with data.folds, or leave it out with data.modalities."
            )
        self.name, self.card_hash, self.truth = segments.name, segments.card_hash, segments.truth
        self.batch_size, self.seed, self.workers = batch_size, seed, workers
        self._text, self._unlabeled, self._overfit = text, unlabeled, overfit
        train = rows["train"]
        if last_batch == "drop" and len(train) < batch_size:
            raise ValueError(
                f"last_batch=drop leaves no batch of {batch_size} among {len(train)} training segments; set data.last_batch=keep, "
                "or a smaller data.batch_size."
            )
        known = {"language", *segments.modalities}
        scales: dict[str, Scale] = for_each("scale", scale, chosen, known)
        most = for_each("max_steps", max_steps, chosen, known)
        for each in scales.values():
            require_option("scale", each, Scale)
        self._views = {
            name: ModalityReader(ragged, train, Reading(scales[name], most[name], keep, padding)) for name, ragged in chosen.items()
        }
        kinds = {text if name == "language" else name for name in chosen}
        self.spec = DataSpec(
            features={name: view.feature for name, view in self._views.items()},
            targets=segments.targets,
            label_range=segments.label_range,
            label_mean=tuple(float(x) for x in segments.label[train].mean(0)),
            aligned=kinds <= set(segments.aligned) or len(kinds) == 1,
            train_ids=tuple(segments.ids[i] for i in train),
            unimodal=tuple(m for m in chosen if m in segments.unimodal and np.isfinite(segments.unimodal[m][train]).any()),
        )
        self.sizes = {name: len(r) for name, r in rows.items() if name in FOLDS or unlabeled}
        self._order, self._last_batch, self._context = order, last_batch, context
        self._sealed = Sealed(again, self.card_hash, rows["test"])
        self._folds = {"train": Fold(segments, train, self._views, context=context), "valid": self._own(segments, rows["valid"])}
        if unlabeled:
            self._folds[UNLABELED] = self._own(segments, np.concatenate([train, rows[UNLABELED]]), len(train))
        self._tested: frozenset[bytes] | None = None
        self._lengths = None
        if by_length:
            self._lengths = np.max([ragged.lengths_of(train) for ragged in chosen.values()], axis=0)

    def train(self, stream: str = "order", epoch: int = 0) -> DataLoader[Batch]:
        """Shuffled training batches; ``stream`` names the order, so that a critic's own batches move no others.

        ``epoch``: where a run (re)starts. Lightning makes the first iterator before it tells the sampler the epoch.
        """
        n, seed = self.sizes["train"], derive(self.seed, "order" if self._overfit else stream)
        drop, once = self._last_batch == "drop", self._order == "once" and stream == "order"
        order: Shuffled | Joined = Shuffled(n, self.batch_size, seed, epoch, self._lengths, drop, once)
        if isinstance(order, Shuffled) and self._unlabeled:
            order = Joined(order, self.sizes[UNLABELED], self._unlabeled)
        fold = self._folds[UNLABELED if self._unlabeled else "train"]
        return self._loader(fold, Repeated(order, self._overfit) if self._overfit else order)

    def in_order(self, fold: str) -> DataLoader[Batch]:
        """One fold once, in order, for measuring; the test fold after it was opened.

        Raises ValueError for that one before: it opens with a selection.
        """
        rows = self._known(fold)
        return self._loader(rows, InOrder(len(rows), max(self.batch_size, 256)))

    def valid(self) -> DataLoader[Batch]:
        """The validation fold, in order."""
        return self.in_order("valid")

    def open_test(self, selection: object) -> DataLoader[Batch]:
        """The test fold, in order, once a checkpoint has been chosen on validation; once.

        selection: a `mdm.data.seal.Selection`; anything else opens nothing

        Raises ValueError where `mdm.data.seal.Sealed.open` does.
        """
        self._folds["test"] = self._own(self._sealed.open(selection), self._sealed.rows)
        return self.in_order("test")

    def like(self, segments: Segments) -> Others:
        """Other segments read as these are: the same modalities, scaling and known words, all from this training fold.

        Words are read by what they are, whatever ids the other segments give them; words that the data have not are unknown.

        Raises ValueError if the other segments lack a modality, or it is of another kind or width, and if one of them is a segment
        of this test fold, under whatever name.
        """
        check(segments)
        features = {**segments.text, **segments.modalities}
        chosen = {}
        for name, view in self._views.items():
            kind = str(self._text) if name == "language" else name
            ragged = features.get(kind)
            if ragged is None or not view.fits(ragged):
                raise ValueError(
                    f"New segments must have the features of the training data, but {segments.name}'s {kind} is "
                    f"{'missing' if ragged is None else 'of another kind or width'}; prepare them in the same way."
                )
            chosen[name] = ragged
        self._refuse_tested(segments)
        return Others(self, segments, chosen)

    @property
    def opened(self) -> bool:
        """Whether the test fold is open."""
        return self._sealed.opened

    def describe(self, fold: str) -> dict[str, Any]:
        """ids, groups and marks of a fold's segments, in order (no labels). Raises ValueError for a test fold that is not open."""
        return dict(self._known(fold).described)

    def place_words(self, words: list[str]) -> list[str]:
        """The word at each step of a segment as a run reads it, cut and padded; data must be aligned."""
        view = next(iter(self._views.values()))
        return view.reading.place(words, "", view.feature.zeros_read)

    def _known(self, fold: str) -> Fold:
        if fold not in self._folds:
            raise ValueError("The test fold opens only after a checkpoint was chosen on validation: use open_test(selection).")
        return self._folds[fold]

    def _own(self, segments: Segments, rows: Int[np.ndarray, " rows"], labelled: int | None = None) -> Fold:
        """Rows of this data set as a fold."""
        chosen = choose(segments, self._text, list(self._views))
        views = {name: view.of(take(chosen[name], rows)) for name, view in self._views.items()}
        return Fold(segments, rows, views, labelled, self._context)

    def _refuse_tested(self, segments: Segments) -> None:
        """Raise ValueError if a labelled segment is one of the test fold, of the same features and label."""
        kinds = [str(self._text) if name == "language" else name for name in self._views]
        if self._tested is None:
            own = self._sealed.read()
            self._tested = frozenset(hash_labelled(own, self._sealed.rows, kinds).values())
        known = [i for i, key in hash_labelled(segments, np.arange(len(segments)), kinds).items() if key in self._tested]
        if known:
            raise ValueError(
                f"The test fold opens only after a checkpoint was chosen on validation, but {len(known)} of {segments.name}'s "
                f"segments are of it ({', '.join(segments.ids[i] for i in known[:3])}), whatever they are called; a run's own data "
                "are read fold by fold; use batches(fold)."
            )

    def _loader(self, fold: Fold, order: Sampler[list[int]]) -> DataLoader[Batch]:
        return load_batches(fold, order, self.workers)


class Others:
    """Segments of other data than a run's, read as its own are; made by `Splits.like`. None of their folds is sealed.

    segments: the table

    >>> from mdm.data.gaussian import gaussian
    >>> splits = Splits(gaussian(train=8, valid=4, test=4), batch_size=4, text="vectors")
    >>> splits.like(gaussian(train=4, valid=2, test=2, seed=1)).sizes
    {'train': 4, 'valid': 2, 'test': 2}
    """

    def __init__(self, like: Splits, segments: Segments, chosen: dict[str, Ragged]):
        self.segments, self.spec = segments, like.spec
        self._like, self._chosen = like, chosen
        self._rows = {fold: np.flatnonzero(segments.fold == fold) for fold in FOLDS}
        self.sizes = {name: len(r) for name, r in self._rows.items()}

    def in_order(self, fold: str) -> DataLoader[Batch]:
        """One fold once, in order."""
        return self._batches(self._rows[fold])

    def every(self) -> DataLoader[Batch]:
        """All segments once, in order, whichever fold they are in."""
        return self._batches(np.arange(len(self.segments)))

    def describe(self, fold: str) -> dict[str, Any]:
        """ids, groups and marks of a fold's segments, in order."""
        return dict(Fold(self.segments, self._rows[fold], {}).described)

    def _batches(self, rows: Int[np.ndarray, " rows"]) -> DataLoader[Batch]:
        views = {name: view.of(take(self._chosen[name], rows)) for name, view in self._like._views.items()}
        fold = Fold(self.segments, rows, views, context=self._like._context)
        return load_batches(fold, InOrder(len(rows), max(self._like.batch_size, 256)), self._like.workers)


def make_again(data: Segments | Callable[[], Segments]) -> Callable[[], Segments]:
    """What gives the data set whenever it is called."""
    return (lambda: data) if isinstance(data, Segments) else data

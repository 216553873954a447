"""UR-FUNNY's six pickles."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mdm.data.base import Segments
from mdm.formats.mmsa import read_mmsa
from mdm.formats.ur_funny import read_ur_funny

FOLDS = ("train", "valid", "test")


def ur_funny(dump: Any, **changes: Any) -> Path:
    def entry(k: int) -> dict[str, Any]:
        return {
            "punchline_sentence": "so it goes",
            "punchline_embedding_indexes": [k, 0, 1],
            "context_sentences": ["it was", "then"],
            "context_embedding_indexes": [[0, 1], [2]],
        }

    def frames(k: int) -> dict[str, Any]:
        return {"punchline_features": [[float(k + 1)]] * 3, "context_features": [[[7.0]] * 2, [[8.0]]]}

    content = {
        "data_folds": {"train": [0], "dev": [1], "test": [2]},
        "humor_label_sdk": {k: k % 2 for k in range(4)},
        "language_sdk": {k: entry(k) for k in range(4)},
        "word_embedding_list": [np.full(2, v) for v in (1.0, 2.0, 3.0)],
        "covarep_features_sdk": {k: frames(k) for k in (0, 1)},
        **changes,
    }
    paths = [dump(part, f"funny/{name}.pkl") for name, part in content.items() if part is not None]
    return paths[0].parent


def test_ur_funny_s_pickles(dump: Any, stored: Callable[..., Segments]) -> None:
    segments = stored("ur_funny", ur_funny(dump))
    assert (segments.ids, segments.fold.tolist(), segments.targets) == (("0", "1", "2"), list(FOLDS), ("humour",))
    assert segments.label.ravel().tolist() == [0, 1, 0]
    assert segments.aligned == ("words", "vectors", "audio")
    assert segments.text["vectors"][1].tolist() == [[2, 2], [1, 1], [2, 2]]
    assert segments.modalities["audio"].lengths.tolist() == [3, 3, 0]
    assert (segments.source["in_no_fold"], segments.source["entries_absent"]) == (1, {"audio": 1})
    before = stored("ur_funny", ur_funny(dump), context=True)
    assert before.words(0) == "it was then so it goes"
    assert before.modalities["audio"][0].ravel().tolist() == [7, 7, 8, 1, 1, 1]


def test_ur_funny_s_words_that_are_other_than_its_rows(dump: Any) -> None:
    language = {k: {"punchline_sentence": "so, it goes on", "punchline_embedding_indexes": [0, 0, 1]} for k in range(3)}
    segments = read_ur_funny(ur_funny(dump, language_sdk=language))
    assert segments.aligned == ("vectors", "audio")
    assert segments.source["words_unlike_rows"] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"humor_label_sdk": None}, "labels is read from .*humor_label_sdk.pkl, but nothing is there"),
        ({"humor_label_sdk": {0: 1}}, r"valid names segment 1, but humor_label_sdk\.pkl has none of that number"),
        ({"language_sdk": [1]}, "must map a segment's number to its content, but one does not"),
        ({"language_sdk": {k: {"text": "x"} for k in range(3)}}, "must have punchline_sentence, but has text; choose the format"),
        ({"language_sdk": dict.fromkeys(range(3), 3)}, "must have punchline_sentence, but has a int"),
        ({"word_embedding_list": [np.zeros(2)]}, "its index of a vector must be a whole number from 0"),
    ],
)
def test_ur_funny_s_that_are_refused(dump: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_ur_funny(ur_funny(dump, **changes))


@pytest.mark.real_data
def test_cases_that_had_no_reader(cases: Path) -> None:
    segments = read_ur_funny(cases / "urfunny_sdk")
    assert (len(segments), segments.aligned) == (40, ("words", "vectors", "audio", "video"))
    assert {f: r.dim for f, r in segments.features.items() if f != "words"} == {"vectors": 300, "audio": 81, "video": 75}
    padded = read_mmsa(cases / "mmsa_leftpad.pkl")
    assert padded.source["padded_in_front"] == ["audio", "vision"]
    assert padded.source["rows_beyond_mask"] == 0
    lengths = {f: r.lengths.tolist() for f, r in padded.features.items() if f != "words"}
    assert lengths["audio"] == lengths["video"] == lengths["tokens"]
    for ragged in padded.modalities.values():
        assert all(ragged[k].any(1).all() for k in range(len(padded))), "no step is padding"

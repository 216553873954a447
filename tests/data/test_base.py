"""The table of segments: ragged arrays, and the contract that `check` holds."""

import numpy as np
import pytest
from data.tables import LENGTHS, SENTENCES, altered, frames, label, table, with_audio

from mdm.data.base import PADDING, UNKNOWN, Ragged
from mdm.data.checks import check

# Ragged -------------------------------------------------------------------------------------------------


def test_of_puts_sequences_end_to_end():
    first, second = np.arange(6.0).reshape(3, 2), np.full((1, 2), 9.0)
    ragged = Ragged.of([first, np.zeros((0, 2)), second])
    assert ragged.offsets.tolist() == [0, 3, 3, 4]
    assert ragged.offsets.dtype == np.int64
    assert ragged.values.dtype == np.float32
    assert (len(ragged), ragged.dim, ragged.tokens, ragged.lengths.tolist()) == (3, 2, False, [3, 0, 1])
    np.testing.assert_array_equal(ragged[0], first)
    assert ragged[1].shape == (0, 2)
    np.testing.assert_array_equal(ragged[2], second)
    assert ragged.lengths_of(np.array([2, 0])).tolist() == [1, 3]


def test_of_takes_token_ids_as_integers():
    ragged = Ragged.of([np.array([4, 2]), np.array([], dtype=np.int64), np.array([7])])
    assert ragged.values.dtype == np.int32
    assert (ragged.tokens, ragged.values.tolist(), ragged.offsets.tolist()) == (True, [4, 2, 7], [0, 2, 2, 3])


def test_of_keeps_the_width_where_all_are_empty():
    ragged = Ragged.of([np.zeros((0, 4)), np.zeros((0, 4))], dim=4)
    assert (ragged.values.shape, ragged.dim, ragged.offsets.tolist()) == ((0, 4), 4, [0, 0, 0])
    assert Ragged.of([np.zeros(0), np.zeros(0)]).tokens


def test_of_words_numbers_the_sorted_vocabulary_from_two():
    """Sorted: a < bad < good; ids 2, 3, 4 after padding and unknown."""
    ragged = Ragged.of_words([["good", "a"], [], ["bad", "good"]])
    assert ragged.vocabulary == ("<pad>", "<unk>", "a", "bad", "good")
    assert (ragged.vocabulary[PADDING], ragged.vocabulary[UNKNOWN]) == ("<pad>", "<unk>")
    assert ragged.values.tolist() == [4, 2, 3, 4]
    assert ragged.lengths.tolist() == [2, 0, 2]
    assert ragged.dim == 5


def test_ids_of_a_tokenizer_count_up_to_the_largest():
    """Without a vocabulary there are as many ids as the largest says, and at least padding and unknown."""
    assert Ragged.of([np.array([5, 0])]).dim == 6
    assert Ragged.of([np.zeros(0)]).dim == UNKNOWN + 1


def test_words_of_a_segment_can_be_read():
    assert [table().words(i) for i in range(6)] == [" ".join(words) for words in SENTENCES]
    assert table(text={}, aligned=()).words(0) == ""


def test_features_are_text_first_then_modalities():
    assert tuple(table().features) == ("words", "audio", "video")


# The contract -------------------------------------------------------------------------------------------


def test_a_sound_table_passes_and_comes_back():
    segments = table()
    assert check(segments) is segments


def test_a_lacking_modality_is_no_misalignment():
    """The last segment has words but no video: 0 steps are absence, not another length."""
    assert len(check(table(aligned=("words", "audio", "video")))) == 6


def test_ids_of_a_tokenizer_have_no_upper_end():
    tokens = Ragged.of([np.array([30521] * t) for t in LENGTHS])
    assert check(table(text={"tokens": tokens}, aligned=("tokens", "audio"))).text["tokens"].dim == 30522


BROKEN = {
    "no segments": (lambda s: altered(s, ids=()), "at least one segment, and this one is empty"),
    "doubled id": (lambda s: altered(s, ids=("a", "b", "a", "d", "b", "a")), r"unique, but 2 occur twice \(a, b\)"),
    "fold name": (
        lambda s: altered(s, fold=np.array([*s.fold[:5], "dev"])),
        r"valid, test, unlabeled .*\['dev'\] came",
    ),
    "label rows": (lambda s: altered(s, ids=s.ids[:5]), r"\[segments, targets\] = \[5, 1\], but have \[6, 1\]"),
    "label columns": (lambda s: altered(s, targets=("joy", "anger")), r"\[segments, targets\] = \[6, 2\], but have \[6, 1\]"),
    "label NaN": (lambda s: altered(s, label=label(2, np.nan)), r"labels must be finite, but 1 are not \(first: c\)"),
    "label infinite": (lambda s: altered(s, label=label([1, 4], -np.inf)), r"labels must be finite, but 2 are not \(first: b\)"),
    "range reversed": (lambda s: altered(s, label_range=(3.0, -3.0)), r"low < high, but is \(3\.0, -3\.0\)"),
    "range of no width": (lambda s: altered(s, label_range=(0.0, 0.0)), r"low < high, but is \(0\.0, 0\.0\)"),
    "range without an end": (
        lambda s: altered(s, label_range=(-3.0, np.inf)),
        r"within ±1e\+06 and low < high, but is \(-3\.0, inf\)",
    ),
    "range beyond all scales": (lambda s: altered(s, label_range=(-1e30, 1e30)), r"within ±1e\+06 and low < high"),
    "range that is none": (lambda s: altered(s, label_range=(np.nan, 3.0)), r"low < high, but is \(nan, 3\.0\)"),
    "id that leads out": (
        lambda s: altered(s, ids=("a", "../b", *s.ids[2:])),
        r"segment ids must have .* but '\.\./b' came \(1 such\)",
    ),
    "id of two dots": (lambda s: altered(s, ids=("..", *s.ids[1:])), r"segment ids must have .*'\.\.' came"),
    "id of no length": (lambda s: altered(s, ids=("", *s.ids[1:])), r"segment ids must have 1 to 200 bytes .*'' came"),
    "id of another system": (lambda s: altered(s, ids=("a\\b", *s.ids[1:])), "segment ids must have"),
    "id with a control character": (lambda s: altered(s, ids=("a\x1b[2J", *s.ids[1:])), "segment ids must have"),
    "id of half a character": (lambda s: altered(s, ids=("a\ud800", *s.ids[1:])), "segment ids must have"),
    "id too long": (lambda s: altered(s, ids=("ä" * 101, *s.ids[1:])), "segment ids must have 1 to 200 bytes"),
    "feature that leads out": (
        lambda s: altered(s, modalities={"../audio": s.modalities["audio"]}, aligned=()),
        r"features must have .*'\.\./audio' came",
    ),
    "mark that leads out": (lambda s: altered(s, marks={"a/b": np.zeros(6, bool)}), "marks must have .*'a/b' came"),
    "target on two lines": (lambda s: altered(s, targets=("a\nb",)), r"targets must have .*'a\\nb' came"),
    "group with a control character": (
        lambda s: altered(s, group=np.array([*s.group[:5], "a\tb"])),
        r"groups must have .*'a\\tb' came",
    ),
    "words of half a character": (
        lambda s: altered(s, text={"words": Ragged.of_words([["a\udfff"] * t for t in LENGTHS])}),
        "words must be of whole characters, but 'a.udfff' is not",
    ),
    "label too high": (lambda s: altered(s, label=label(3, 3.5)), r"range \[-3, 3\], but 1 do not \(first: d = \[3\.5\]\)"),
    "label too low": (lambda s: altered(s, label_range=(-2.0, 3.0)), r"range \[-2, 3\], but 1 do not \(first: a = \[-3\.0\]\)"),
    "too few sequences": (
        lambda s: with_audio(s, frames(2, LENGTHS[:5], 0)),
        r"audio must hold one sequence per segment \(6\), but holds 5",
    ),
    "offsets start late": (
        lambda s: with_audio(s, Ragged(s.modalities["audio"].values, np.array([1, 3, 4, 7, 8, 10, 11]))),
        r"audio's offsets must rise from 0 to its number of steps \(11\)",
    ),
    "offsets end early": (
        lambda s: with_audio(s, Ragged(s.modalities["audio"].values, np.array([0, 3, 4, 7, 8, 10, 10]))),
        r"audio's offsets must rise from 0",
    ),
    "offsets fall": (
        lambda s: with_audio(s, Ragged(s.modalities["audio"].values, np.array([0, 4, 3, 7, 8, 10, 11]))),
        r"audio's offsets must rise from 0",
    ),
    "no step anywhere": (
        lambda s: with_audio(s, Ragged.of([np.zeros((0, 2))] * 6, dim=2)),
        "audio must have a step in at least one segment, but is empty everywhere",
    ),
    "token below zero": (
        lambda s: altered(s, text={"tokens": Ragged.of([np.full(t, -1) for t in LENGTHS])}),
        r"tokens's token ids must lie in \[0, 1\], but reach \[-1, -1\]",
    ),
    "token beyond the vocabulary": (
        lambda s: altered(s, text={"words": Ragged.of([np.full(t, 3) for t in LENGTHS], ("<pad>", "<unk>", "a"))}),
        r"words's token ids must lie in \[0, 2\], but reach \[3, 3\]",
    ),
    "frame NaN": (
        lambda s: with_audio(s, Ragged.of([np.full((t, 2), np.nan) for t in LENGTHS])),
        "audio must be finite, but holds NaN or infinite",
    ),
    "frame infinite": (
        lambda s: with_audio(s, Ragged.of([np.full((t, 2), np.inf) for t in LENGTHS])),
        "audio must be finite, but holds NaN or infinite",
    ),
    "aligned in name only": (
        lambda s: with_audio(s, frames(2, [3, 1, 2, 1, 2, 2], 0)),
        r"words, audio are declared aligned.*c has \[3, 2\] \(2 such segments\)",
    ),
    "fold too short": (lambda s: altered(s, fold=s.fold[:5]), r"fold must have one entry per segment \(6\), but has 5"),
    "group too long": (
        lambda s: altered(s, group=np.array([*s.group, "v4"])),
        r"group must have one entry per segment \(6\), but has 7",
    ),
    "mark too short": (
        lambda s: altered(s, marks={"odd": np.array([True])}),
        r"odd must have one entry per segment \(6\), but has 1",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_contract_is_named(case):
    change, message = BROKEN[case]
    with pytest.raises(ValueError, match=message) as caught:
        check(change(table()))
    assert str(caught.value).startswith("tiny: ")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "a\nb", "n" * 201])
def test_a_name_that_could_not_name_a_folder(name):
    with pytest.raises(
        ValueError, match=r"The data set: its name must have 1 to 200 bytes without control characters and separators"
    ):
        check(altered(table(), name=name))


@pytest.mark.parametrize("name", ["CMU-MOSI (v1.2)", "电影", "a.b", "...", "-x", " ", "n" * 200])
def test_a_name_that_may_look_as_it_likes(name):
    assert check(altered(table(), name=name, ids=(name, *table().ids[1:]))).name == name


@pytest.mark.parametrize("bad", [0, 2**16 - 1, 2**16, 2**17 + 4])
def test_a_damaged_frame_is_found_wherever_it_is(bad):
    """Frames are looked at in stretches of 2^16: the first, the ends of one, and the rest."""
    values = np.zeros((2**17 + 5, 1), dtype=np.float32)
    values[bad] = np.nan
    ragged = Ragged(values, np.array([0, 1, 2, 3, 4, 5, len(values)]))
    with pytest.raises(ValueError, match="audio must be finite"):
        check(altered(table(), modalities={"audio": ragged}, aligned=()))

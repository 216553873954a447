"""Stage one, data: whether what was joined by time belongs together, measured at other offsets too.

Nothing in two files says that their rows match. Four things tell it, video by video:

- long words take long: the rank correlation of a word's letters with its row's duration, at the rows before and after;
- labels begin and end where words do: the share of the labels' boundaries on the words', and the shift in seconds that has most;
- voices pause: the rank correlation of a column of frames with whether a word is spoken then, at other shifts in seconds, and,
  where frames have the words' own intervals, at other rows;
- a transcript: the share of sentences that are the words of their segment.

An offset is *clearly better* only where it holds by a wide margin (`clearly_better`); files too small to tell are let through.
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from mdm.formats.alignment import Track
from mdm.formats.offsets import ERRORS, ROWS, correlate, displaced, summarise
from mdm.formats.roles import OFFSETS, Role

PAUSE = "sp"
REACH, STEP, TOUCH = 2.0, 0.05, 1e-3
"""Seconds: how far shifts go, by what step those of frames, and how near two boundaries are one."""
FRAMES = 100
"""Frames of a video that are looked at, evenly apart: a large data set has thousands of videos."""


class JoinMeter:
    """Collects what tells whether words, frames and labels are joined rightly; `facts` sums it up.

    transcripts: segment id → sentence, empty where there are none

        meter = JoinMeter({"v[0]": "a lovely film"})
        meter.add(["v[0]"], intervals, {"words": words, "audio": frames})
        meter.facts()["words"]["sentences"]  # {"share": 1.0, "best_row_offset": 0, …}
    """

    def __init__(self, transcripts: Mapping[str, str]) -> None:
        self.transcripts = {segment: split_sentence(text) for segment, text in transcripts.items()}
        self.letters: dict[int, list[np.ndarray]] = defaultdict(list)
        self.seconds: dict[int, list[np.ndarray]] = defaultdict(list)
        self.agreement: dict[int, list[bool]] = defaultdict(list)
        self.nearest: list[np.ndarray] = []
        self.boundaries = self.words = self.cut = self.shared = 0
        self.frames: dict[str, list[np.ndarray]] = defaultdict(list)
        self.spoken: dict[str, list[np.ndarray]] = defaultdict(list)
        self.rows: dict[str, dict[int, tuple[list[np.ndarray], list[np.ndarray]]]] = {}

    def add(self, segments: Sequence[str], intervals: Float[np.ndarray, "segments 2"], tracks: Mapping[str, Track]) -> None:
        """One video: the names and intervals of its segments, and its tracks in order of time, pauses among the words."""
        words = tracks.get("words")
        if words is None:
            return
        self._add_words(segments, intervals, words)
        for role, track in tracks.items():
            if track is not words and len(track.features):
                self._add_frames(role, track, words)

    def _add_words(self, segments: Sequence[str], intervals: Float[np.ndarray, "segments 2"], words: Track) -> None:
        spoken = words.features != PAUSE
        letters = np.array([len(word) for word in words.features])
        duration = words.intervals[:, 1] - words.intervals[:, 0]
        for offset in ROWS:
            text, time = displaced(len(letters), offset)
            keep = spoken[text]
            self.letters[offset].append(letters[text][keep])
            self.seconds[offset].append(duration[time][keep])
        edges = np.unique(words.intervals)
        times = np.zeros(len(words.features), int)
        cut = np.zeros(len(words.features), bool)
        for segment, (start, end) in zip(segments, intervals, strict=True):
            rows = words.overlapping(start, end)
            if end - start <= TOUCH or not len(rows):
                continue
            within = words.intervals[rows]
            times[rows] += 1
            cut[rows] |= (within[:, 0] < start - TOUCH) | (within[:, 1] > end + TOUCH)
            for boundary in (start, end):
                apart = edges[np.abs(edges - boundary) < REACH] - boundary
                self.nearest.append(apart)
                self.boundaries += 1
            if segment in self.transcripts:
                for offset in ROWS:
                    here = rows + offset
                    came = words.features[here[(here >= 0) & (here < len(spoken))]]
                    self.agreement[offset].append(
                        split_sentence(" ".join(came[came != PAUSE].tolist())) == self.transcripts[segment]
                    )
        self.words += int(spoken.sum())
        self.cut += int((cut & spoken).sum())
        self.shared += int(((times > 1) & spoken).sum())

    def _add_frames(self, role: str, track: Track, words: Track) -> None:
        one = slice(None, None, max(1, len(track.features) // FRAMES))
        middle = track.intervals[one].mean(1)
        spoken = words.only(words.features != PAUSE)
        if not len(spoken.features):
            return
        self.frames[role].append(track.features[one])
        self.spoken[role].append(np.stack([is_spoken(middle + shift, spoken) for shift in shifts()], 1))
        row = np.searchsorted(words.intervals[:, 0], track.intervals[:, 0] + TOUCH, side="right") - 1
        same = (row >= 0) & (np.abs(words.intervals[row] - track.intervals) < TOUCH).all(1)
        if same.mean() > 0.9:
            of_role = self.rows.setdefault(role, {offset: ([], []) for offset in ROWS})
            for offset in ROWS:
                frames, times = displaced(len(row), offset)
                of_role[offset][0].append(track.features[frames])
                of_role[offset][1].append((words.features != PAUSE)[row[times]])

    def facts(self) -> dict[str, dict[str, Any]]:
        """role → what was measured, for the data card; nothing where there are no words."""
        found: dict[str, dict[str, Any]] = {}
        if self.words:
            found["words"] = self._word_facts()
        for role, frames in self.frames.items():
            values, spoken = np.concatenate(frames), np.concatenate(self.spoken[role])
            by_shift = dict(zip(shifts().round(2).tolist(), strongest(values, spoken), strict=True))
            found[role] = {"pauses_by_seconds": summarise(by_shift, len(values), 0.0, "seconds_offset")}
            if role in self.rows:
                pairs = {offset: (np.concatenate(x), np.concatenate(s)[:, None]) for offset, (x, s) in self.rows[role].items()}
                by_row = {offset: strongest(x, s)[0] for offset, (x, s) in pairs.items()}
                found[role]["pauses_by_rows"] = summarise(by_row, len(pairs[0][0]), 0, "row_offset")
        return found

    def _word_facts(self) -> dict[str, Any]:
        by_row = {o: correlate(np.concatenate(self.letters[o]), np.concatenate(self.seconds[o])) for o in ROWS}
        facts: dict[str, Any] = {
            "words": self.words,
            "words_cut_by_boundaries": self.cut,
            "words_shared_by_segments": self.shared,
            "durations_by_rows": summarise(by_row, self.words, 0, "row_offset"),
        }
        if self.boundaries:
            facts["boundaries"] = summarise_boundaries(np.concatenate(self.nearest), self.boundaries)
        if self.agreement:
            facts["sentences"] = summarise_sentences({o: np.array(a) for o, a in self.agreement.items()})
        return facts


def shifts() -> Float[np.ndarray, " shifts"]:
    """Seconds by which frames are tried elsewhere."""
    return np.arange(-round(REACH / STEP), round(REACH / STEP) + 1) * STEP


def is_spoken(times: Float[np.ndarray, " n"], words: Track) -> Bool[np.ndarray, " n"]:
    """Whether a word, in order of time, covers each moment."""
    last = np.searchsorted(words.intervals[:, 0], times, side="right") - 1
    ends = np.maximum.accumulate(words.intervals[:, 1])
    return (last >= 0) & (times < ends[last])


def strongest(values: Float[np.ndarray, "n dim"], spoken: Bool[np.ndarray, "n shifts"]) -> list[float]:
    """For each shift the largest rank correlation, whatever its sign, of a column with speech."""
    if len(values) < 3:
        return [0.0] * spoken.shape[1]
    from scipy.stats import rankdata  # as in `correlate`

    ranks = rankdata(values, axis=0)
    ranks -= ranks.mean(0)
    told = spoken - spoken.mean(0)
    size = np.sqrt((ranks**2).sum(0))[:, None] * np.sqrt((told**2).sum(0))
    product = np.abs(ranks.T @ told)
    return np.divide(product, size, out=np.zeros_like(product), where=size > 0).max(0).tolist()


def summarise_boundaries(apart: Float[np.ndarray, " pairs"], boundaries: int) -> dict[str, Any]:
    """Share of the labels' boundaries that lie on a word's (within `TOUCH`), and the shift in seconds at which most do.

    apart: word's boundary minus label's, for all that are within `REACH`

    A shift is clearly better where it holds for a fifth of the boundaries, for twice as many as no shift, and for `ERRORS` standard
    errors more; by chance few fall into any one window of 2 ms.
    """
    on = int((np.abs(apart) <= TOUCH).sum())
    ordered = np.sort(apart)
    within = np.searchsorted(ordered, ordered + 2 * TOUCH, side="right") - np.arange(len(ordered))
    at = int(within.argmax()) if len(within) else 0
    most = int(within[at]) if len(within) else 0
    shift = float(np.median(ordered[at : at + most])) if most else 0.0
    better = most > max(0.2 * boundaries, 2 * on, on + ERRORS * np.sqrt(most)) and abs(shift) > TOUCH
    return {
        "share_on_words": round(on / boundaries, 3),
        "best_seconds_offset": round(-shift, 3) if better else 0.0,
        "best_share": round((most if better else on) / boundaries, 3),
        "clearly_better": bool(better),
    }


def summarise_sentences(agreement: Mapping[int, Bool[np.ndarray, " segments"]]) -> dict[str, Any]:
    """Share of the transcripts' sentences that a segment's words are, at the rows used and at the best ones.

    Rows are clearly better where they are so by 3 standard errors among the sentences on which the two differ (McNemar's test).
    """
    best = max(agreement, key=lambda offset: (agreement[offset].sum(), offset == 0))
    gained = int((agreement[best] & ~agreement[0]).sum())
    lost = int((~agreement[best] & agreement[0]).sum())
    return {
        "transcripts": len(agreement[0]),
        "agree": int(agreement[0].sum()),
        "best_row_offset": best,
        "best_agree": int(agreement[best].sum()),
        "clearly_better": bool(gained - lost > 3 * np.sqrt(gained + lost)),
    }


def split_sentence(text: str) -> list[str]:
    """The words of a sentence, without what transcripts differ in: case, punctuation, apostrophes."""
    return re.findall(r"\w+", re.sub(r"['’]", "", text.lower()))


def refuse_displaced(facts: Mapping[str, Mapping[str, Any]], roles: Mapping[str, Role]) -> None:
    """Raises ValueError, naming the remedy, where another offset is clearly better and the user has not stated one."""
    for role, measured in facts.items():
        for what, found in measured.items():
            option = next((option for option in OFFSETS if isinstance(found, Mapping) and f"best_{option}" in found), "")
            if not option or not found["clearly_better"] or option in roles[role].stated:
                continue
            used = roles[role].offsets[option]
            numbers = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in found.items() if key != "clearly_better")
            raise ValueError(
                f"format=csd: {role} must lie on the intervals that they are joined by, but {what.replace('_', ' ')} fit clearly "
                f"better elsewhere ({numbers}); pass options.{role}.{option}={found[f'best_{option}'] + used:g}, or "
                f"options.{role}.{option}={used:g} to join them as they are."
            )


def read_transcripts(path: Path, segments: Iterable[str]) -> dict[str, str]:
    """Segment id → sentence, from a table with a column ``text`` and a column ``id`` (``vid_k``), or ``video_id`` and ``clip_id``.

    Clips are counted from 0 or 1; which, the video's segments say: the one that names more of them.

    Raises ValueError if the table has other columns, cannot be read, or names no segment.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise ValueError(f"{path.name} must be a table of transcripts (csv), but cannot be read ({error}); correct it.") from None
    columns = list(table[0]) if table else []
    if "text" not in columns or not ("id" in columns or {"video_id", "clip_id"} <= set(columns)):
        raise ValueError(
            f"{path.name}: transcripts have the columns id (video_k), or video_id and clip_id, and text, but it has {columns}; "
            "rename them, or pass options.transcripts=null."
        )
    sentences: dict[tuple[str, int], str] = {}
    for row in table:
        name = row["id"] if "id" in columns else f"{row['video_id']}_{row['clip_id']}"
        match = re.fullmatch(r"(.+?)(?:_|\$_\$|\[)(\d+)\]?", str(name))
        if match and row["text"]:
            sentences[match[1], int(match[2])] = row["text"]
    known = set(segments)
    named = [{f"{video}[{k - base}]": text for (video, k), text in sentences.items()} for base in (0, 1)]
    chosen = max(named, key=lambda by_segment: len(known & by_segment.keys()))
    if not known & chosen.keys():
        raise ValueError(
            f"{path.name}: transcripts must name the labelled segments, but none of its {len(table)} rows does; pass "
            "options.transcripts=<file> of the same data set, or null."
        )
    return {segment: text for segment, text in chosen.items() if segment in known}

"""How often does a table star what is not there, and how often what is? Two rules on simulated tables of 24 comparisons.

    python scripts/significance.py [tables=2000] [seeds=5,8,10,20] [videos=31,93,200] [scenarios="luck 0;correlation"] [jobs=1]
                                   [folder=outputs/significance]

    two-way  Holm over the two-way t (`mdm.statistics.crossed`)
    old      Holm over the sign flip of paired seeds, and a 95 % bootstrap over videos that excludes 0

A table has 4 data sets with 6 systems and a baseline. Videos have 14 to 40 segments. A run's loss is its system's, plus a run
effect of sd 1, plus the system's luck on this test set, which all its runs share, plus what a run makes of each segment (sd .5 in
a run's mean). Correlation and F1 are of predictions with a system's own errors on segments and videos, and runs more or less noisy.

Every hundred tables have a generator of their own and are kept in a file. So the command goes on where it was ended and adds to
what is there, and the numbers do not depend on jobs. All scenarios with 2,000 tables take two and a half hours of one core.
Prints Markdown.
"""

import csv
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from zlib import crc32

import joblib
import numpy as np
from scipy.special import stdtr

from mdm.boundary import exit_on_error
from mdm.hints import require_known
from mdm.ownership import own
from mdm.runs.records import write_table
from mdm.statistics import (
    CORRELATION,
    WEIGHTED_F1,
    LeaveOneOut,
    Sums,
    analyse_crossed,
    holm,
    leave_out_videos,
    segment_interval,
    smallest_p,
)
from mdm.statistics.crossed import split_variance
from mdm.statistics.jackknife import compute_pseudo_values
from mdm.statistics.permutation import sign_flip
from mdm.workers import open_pool

SETS, SYSTEMS, LEVEL, CHUNK = 4, 6, 0.05, 100
FAMILY = SETS * SYSTEMS
EFFECTS = (1.0, 1.41, 2.0, 3.0)
INTERACTION = 0.5
OPTIONS = {
    "tables": "2000",
    "seeds": "5,8,10,20",
    "videos": "31,93,200",
    "scenarios": "",
    "jobs": "1",
    "folder": "outputs/significance",
}

Draw = Callable[[np.random.Generator, int, np.ndarray], list[tuple[LeaveOneOut, LeaveOneOut]]]
"""(generator, seeds, sizes of videos) → system and baseline of each comparison."""


# ---- tables


def draw_losses(
    g: np.random.Generator,
    seeds: int,
    sizes: np.ndarray,
    *,
    luck: float = 0.0,
    tails: str = "normal",
    diverged: float = 0.0,
    excluded: bool = True,
    shared: bool = True,
    effect: float = 0.0,
) -> list[tuple[LeaveOneOut, LeaveOneOut]]:
    """Means of losses. luck, effect: in sd of a run, and of the paired run difference, of a system of each of the first three data
    sets; diverged: share of runs, worse by 20 if they are not excluded."""

    def noise(*shape: int) -> np.ndarray:
        return g.normal(size=shape) if tails == "normal" else g.standard_t(3, size=shape) / math.sqrt(3)

    total, members = sizes.sum(), SYSTEMS + (1 if shared else SYSTEMS)
    of_videos, of_segments = (luck / math.sqrt(2) / scale for scale in (math.sqrt((sizes**2).sum()) / total, 1 / math.sqrt(total)))
    runs = noise(SETS, members, seeds, 1)
    runs[:3, 0] -= effect * math.sqrt(2 * (1 + INTERACTION**2))
    lucky = of_videos * noise(SETS, members, 1, len(sizes)) + of_segments / np.sqrt(sizes) * noise(SETS, members, 1, len(sizes))
    loss = runs + lucky + INTERACTION * np.sqrt(total / sizes) * noise(SETS, members, seeds, len(sizes))
    lost = g.random((SETS, members, seeds)) < diverged
    loss[lost] = np.nan if excluded else loss[lost] + 20
    whole = (loss * sizes).sum(-1) / total
    without = (whole[..., None] * total - loss * sizes) / (total - sizes)
    values = [[LeaveOneOut(w, o, sizes) for w, o in zip(*pair, strict=True)] for pair in zip(whole, without, strict=True)]
    return [(of[k], of[SYSTEMS + (0 if shared else k)]) for of in values for k in range(SYSTEMS)]


def draw_predictions(
    g: np.random.Generator, seeds: int, sizes: np.ndarray, *, metric: Sums, classes: bool
) -> list[tuple[LeaveOneOut, LeaveOneOut]]:
    """Labels and errors of sd 1 that are alike within videos (ρ = .3); a system's own errors have sd .5."""
    videos = np.repeat(np.arange(len(sizes)), sizes)

    def alike(*shape: int) -> np.ndarray:
        of_videos, of_segments = g.normal(size=(*shape, len(sizes)))[..., videos], g.normal(size=(*shape, len(videos)))
        return math.sqrt(0.3) * of_videos + math.sqrt(0.7) * of_segments

    pairs = []
    for _ in range(SETS):
        labels = alike()
        noisy = np.exp(0.03 * g.normal(size=(SYSTEMS + 1, seeds, 1)))
        predictions = labels + 0.5 * alike(SYSTEMS + 1, 1) + noisy * g.normal(size=(SYSTEMS + 1, seeds, len(videos)))
        if classes:
            predictions, labels = np.sign(predictions), np.sign(labels)
        *systems, baseline = (leave_out_videos(one, labels, videos, metric) for one in predictions)
        pairs += [(system, baseline) for system in systems]
    return pairs


SCENARIOS: dict[str, Draw] = {
    **{f"luck {luck:g}": partial(draw_losses, luck=luck) for luck in (0, 0.25, 0.5, 1, 2, 4)},
    "luck 0.5, baselines of their own": partial(draw_losses, luck=0.5, shared=False),
    "luck 0, heavy tails (t3)": partial(draw_losses, tails="t3"),
    "luck 0.5, heavy tails (t3)": partial(draw_losses, luck=0.5, tails="t3"),
    "luck 0.5, 5 % of runs diverge, excluded": partial(draw_losses, luck=0.5, diverged=0.05),
    "luck 0.5, 5 % of runs diverge, kept": partial(draw_losses, luck=0.5, diverged=0.05, excluded=False),
    "correlation": partial(draw_predictions, metric=CORRELATION, classes=False),
    "weighted F1": partial(draw_predictions, metric=WEIGHTED_F1, classes=True),
    **{
        f"effect {effect:g} sd, luck {luck:g}": partial(draw_losses, luck=luck, effect=effect)
        for luck in (0, 0.25, 0.5)
        for effect in EFFECTS
    },
}
TRUE = [0, SYSTEMS, 2 * SYSTEMS]
"""Comparisons with a true difference, in scenarios with an effect."""


# ---- rules


def star_two_way(pairs: Sequence[tuple[LeaveOneOut, LeaveOneOut]]) -> np.ndarray:
    """[24]. Where a one-way t test has p > .05, so has the two-way t, and no star; its integral is spared."""
    p = []
    for system, baseline in pairs:
        kept = np.isfinite(system.whole - baseline.whole)
        y = compute_pseudo_values((system.whole - baseline.whole)[kept], (system.without - baseline.without)[kept])
        sizes = system.sizes.astype(np.float64)
        freedom = np.array([len(y) - 1, sizes.sum() ** 2 / (sizes**2).sum() - 1])
        bound = 2 * stdtr(freedom, -abs(y.mean()) / np.sqrt(split_variance(y)[:2])).max() if len(y) > 1 else 1.0
        p.append(bound if bound > LEVEL else analyse_crossed(y, sizes).p)
    return holm(np.array(p)) <= LEVEL


def star_old(pairs: Sequence[tuple[LeaveOneOut, LeaveOneOut]], g: np.random.Generator, means: bool) -> np.ndarray:
    """[24]. means: whether the metric is a mean of losses, whose segments are drawn; others had the sign flip alone.

    A run that diverged was the worst of all, and its comparison had no interval.
    """
    if not FAMILY * smallest_p("sign_flip", len(pairs[0][0].whole)) < LEVEL:
        return np.zeros(FAMILY, dtype=bool)
    ranked = [[np.where(np.isfinite(one.whole), -one.whole, -np.inf) for one in pair] for pair in pairs]
    stars = holm(np.array([sign_flip(system, baseline, g).p for system, baseline in ranked])) < LEVEL
    for i, (system, baseline) in enumerate(pairs):
        d = system.whole - baseline.whole
        if means and stars[i] and np.isfinite(d).all():
            total, sizes = system.sizes.sum(), system.sizes
            of_videos = (d[:, None] * total - (system.without - baseline.without) * (total - sizes)) / sizes
            segments, videos = np.repeat(of_videos, sizes, axis=1), np.repeat(np.arange(len(sizes)), sizes)
            low, high = segment_interval(segments, np.zeros_like(segments), g, groups=videos, draws=1000)
            stars[i] = low > 0 if d.mean() > 0 else high < 0
    return stars


def simulate(scenario: str, seeds: int, videos: int, chunk: int) -> dict[str, object]:
    """A hundred tables: how many have a star where nothing is, and how many of the true differences have one."""
    g = np.random.default_rng([crc32(scenario.encode()), seeds, videos, chunk])
    sizes = np.linspace(14, 40, videos).round().astype(int)
    true = np.isin(np.arange(FAMILY), TRUE) if scenario.startswith("effect") else np.zeros(FAMILY, dtype=bool)
    row = dict.fromkeys(("false_two_way", "false_old", "found_two_way", "found_old"), 0)
    for _ in range(CHUNK):
        pairs = SCENARIOS[scenario](g, seeds, sizes)
        means = scenario not in ("correlation", "weighted F1")
        for rule, stars in (("two_way", star_two_way(pairs)), ("old", star_old(pairs, g, means))):
            row[f"false_{rule}"] += int(stars[~true].any())
            row[f"found_{rule}"] += int(stars[true].sum())
    return {"scenario": scenario, "seeds": seeds, "videos": videos, "chunk": chunk, "tables": CHUNK, **row}


# ---- what is kept and printed


def read_rows(path: Path) -> list[dict[str, object]]:
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [{key: value if key == "scenario" else int(value) for key, value in row.items()} for row in csv.DictReader(file)]


def render(rows: Iterable[dict[str, object]], videos: int) -> str:
    """Shares of two-way, with those of the old rule in brackets, by scenario and seeds."""
    cells: dict[tuple[str, int], np.ndarray] = {}
    for row in rows:
        if row["videos"] == videos:
            key = str(row["scenario"]), int(str(row["seeds"]))
            counts = [row[name] for name in ("tables", "false_two_way", "false_old", "found_two_way", "found_old")]
            cells[key] = cells.get(key, np.zeros(5)) + np.array(counts, dtype=np.float64)
    seeds = sorted({key[1] for key in cells})
    lines = [f"| {videos} videos | " + " | ".join(f"{s} seeds" for s in seeds) + " |", "|---" * (1 + len(seeds)) + "|"]
    for scenario in [name for name in SCENARIOS if any(key[0] == name for key in cells)]:
        line = [scenario]
        for s in seeds:
            tables, false, false_old, found, found_old = cells.get((scenario, s), np.zeros(5))
            old, new = (found_old, found) if scenario.startswith("effect") else (false_old, false)
            of = tables * (len(TRUE) if scenario.startswith("effect") else 1)
            line.append(f"{new / of:.3f} ({old / of:.3f})" if of else "–")
        lines.append(f"| {' | '.join(line)} |")
    return "\n".join(lines)


def read_numbers(key: str, text: str) -> list[int]:
    """Whole numbers from 1, by commas.

    Raises ValueError on anything else.
    """
    parts = text.split(",")
    if not all(part.isascii() and part.isdecimal() and 1 <= int(part[:7]) <= 100_000 for part in parts):
        raise ValueError(f"Expected {key} to be whole numbers from 1 to 100,000, got {text}; write {key}={OPTIONS[key]}.")
    return [int(part) for part in parts]


def main(arguments: list[str]) -> None:
    if {"-h", "--help"} & set(arguments):
        print(__doc__)
        return
    given = dict(argument.partition("=")[::2] for argument in arguments)
    require_known("", given, OPTIONS, "significance.py")
    chosen = {**OPTIONS, **given}
    scenarios = [name for name in chosen["scenarios"].split(";") if name] or list(SCENARIOS)
    require_known("", scenarios, SCENARIOS, "significance.py")
    numbers = {key: read_numbers(key, chosen[key]) for key in ("tables", "seeds", "videos", "jobs")}
    chunks = range(-(-numbers["tables"][0] // CHUNK))
    with own(Path(chosen["folder"])):
        path = Path(chosen["folder"]) / "tables.csv"
        rows = read_rows(path)
        done = {(row["scenario"], row["seeds"], row["videos"], row["chunk"]) for row in rows}
        wanted = dict.fromkeys(product(scenarios, numbers["seeds"], numbers["videos"], chunks))
        jobs = (joblib.delayed(simulate)(*cell) for cell in wanted if cell not in done)
        for row in open_pool(numbers["jobs"][0], return_as="generator_unordered")(jobs):
            rows.append(row)
            write_table(path, rows)
    kept = [row for row in rows if (row["scenario"], row["seeds"], row["videos"], row["chunk"]) in wanted]
    for videos in numbers["videos"]:
        print(f"\n{render(kept, videos)}")
    off = 1.96 * math.sqrt(LEVEL * (1 - LEVEL) / (len(chunks) * CHUNK))
    print(f"\nTwo-way t (old rule): tables with a false star; of effects, the share that has a star. At .05 ± {off:.3f}.")


if __name__ == "__main__":
    with exit_on_error():
        main(sys.argv[1:])

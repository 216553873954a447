"""What a table must say of its stars and of the columns beside them; every format says it."""

from __future__ import annotations

from mdm.metrics import format_heading
from mdm.sweeps.experiment import StarTest
from mdm.tables.cells import NAMES, STARS, find_contrasts
from mdm.tables.numbers import Evidence, Sheet
from mdm.tables.wording import join_names


def explain_star(test: StarTest) -> str:
    """A star in plain words."""
    if test == "crossed":
        return (
            "differs from the row's baseline, for better or worse, by more than the luck of these seeds and of this test set "
            "explains: so would new runs on new videos"
        )
    return (
        f"the runs differ from the row's baseline on this very test set, by the exact {NAMES[test]} test over seeds; another test "
        "set may not show it"
    )


def explain_stars(sheet: Sheet) -> list[str]:
    """The rule of the stars, how far it reaches, and what the columns of comparisons are. Nothing without a comparison."""
    if not sheet.family:
        return []
    test = sheet.declared.test
    found = [
        line.contrast.found for block in sheet.blocks for line in find_contrasts(block) if line.contrast and line.contrast.found
    ]
    names = join_names([format_heading(name) for name in dict.fromkeys(block.primary.metric for block in sheet.blocks)])
    absent = sheet.family - len(found)
    count = f"k = {sheet.family} comparison{'s' if sheet.family > 1 else ''} of this table"
    if absent:
        count += f", {absent} of which {'is not there and counts' if absent == 1 else 'are not there and count'} with p = 1"
    rule = "the two-way t of paired seeds and test videos has p ≤ .05" if test == "crossed" else "p < .05"
    return [
        f"{STARS[test]} in {names}, declared beforehand: {explain_star(test)}. The rule: {rule} after Holm's "
        f"correction for the {count}. No {STARS[test]} is no evidence, which is not evidence of no effect.",
        *(explain_crossed(sheet.family, found) if test == "crossed" else explain_seeds(sheet)),
        "A12 is the chance that a run of the system is better than one of the baseline. Mann–Whitney, unpaired, is the test of "
        "paper 000, paired t that of paper 001: two-sided, not corrected, and about this test set alone.",
    ]


def explain_crossed(family: int, found: list[Evidence]) -> list[str]:
    """The columns of the two-way t, and where it fails."""
    said = [
        "Differences are system − baseline. Their intervals are for new seeds and new videos, and simultaneous: each at "
        f"1 − .05/{family} (Bonferroni), all k cover together with 95 %."
        + (f" One may reach 0 where a later step of Holm's gave a {STARS['crossed']}." if family > 1 else ""),
        "Variance: how much of the uncertainty of a difference comes from runs, which more seeds lower, from videos, which more "
        "test videos lower, and from both together, which either lowers.",
        "The test takes it that differences of runs are not extremely one-sided. Where one side's runs are strongly skewed and the "
        "other's all alike, it stars too often.",
    ]
    if any(one.crossed.lost for one in found):
        said.append(
            "Lost: pairs that are left out, because a run has no test metric or diverged. That is told without the test fold: a "
            "loss that is not finite, no finite metric on validation, or, where other runs of the row have learned something, a "
            "constant prediction there or a metric no better than that of the mean training label. Stars speak of runs that do "
            "none of this."
        )
    if any(one.crossed.reason for one in found):
        said.append(
            "A comparison that cannot be told has no p and no star, whatever its runs gave, and counts in k with p = 1: that is "
            "not even a lack of evidence."
        )
    return said


def explain_seeds(sheet: Sheet) -> list[str]:
    """The columns of a test over seeds, and what it means that so few of them cannot reach a star."""
    contrasts = [line.contrast for block in sheet.blocks for line in find_contrasts(block) if line.contrast]
    few = (
        f"Where n cannot reach .05, no result of so few runs could have had a {STARS[sheet.declared.test]}: that is not even a "
        "lack of evidence."
    )
    return [*explain_columns(sheet), *([few] if any("cannot reach" in c.reason for c in contrasts) else [])]


def explain_columns(sheet: Sheet) -> list[str]:
    """The columns of a test over seeds."""
    if sheet.declared.test != "wilcoxon":
        return ["Differences are system − baseline, with the 95 % t interval over paired seeds, not corrected for k."]
    zeros = {"pratt": "have no sign and keep their rank (Pratt)", "split": "give half of their rank to each side"}
    return [
        "Shift: Hodges and Lehmann's, the median of all means of two differences (system − baseline), with the exact interval of "
        "shifts that the test does not reject, at the level in brackets and not corrected for k. Rank-biserial: the share of ranks "
        f"above 0 less that below. Pairs that do not differ {zeros[sheet.declared.zeros]}."
    ]

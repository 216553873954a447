"""What a table must say of its stars and of the columns beside them; every format says it."""

from __future__ import annotations

from mdm.metrics import format_heading
from mdm.tables.cells import find_contrasts
from mdm.tables.numbers import Sheet
from mdm.tables.wording import join_names


def explain_stars(sheet: Sheet) -> list[str]:
    """The rule of the stars, how far it reaches, and what the columns of comparisons are. Nothing without a comparison."""
    if not sheet.family:
        return []
    statistic, star = sheet.statistic, sheet.statistic.star
    contrasts = [line.contrast for block in sheet.blocks for line in find_contrasts(block) if line.contrast]
    found = [contrast.found for contrast in contrasts if contrast.found]
    few = f"Where n cannot reach .05, no result of so few runs could have had a {star}: that is not even a lack of evidence."
    names = join_names([format_heading(name) for name in dict.fromkeys(block.primary.metric for block in sheet.blocks)])
    absent = sheet.family - len(found)
    count = f"k = {sheet.family} comparison{'s' if sheet.family > 1 else ''} of this table"
    if absent:
        count += f", {absent} of which {'is not there and counts' if absent == 1 else 'are not there and count'} with p = 1"
    return [
        f"{star} in {names}, declared beforehand: {statistic.meaning}. The rule: {statistic.rule} after Holm's "
        f"correction for the {count}. No {star} is no evidence, which is not evidence of no effect.",
        *statistic.explain(found, sheet.family, sheet.declared.zeros),
        *([few] if any("cannot reach" in contrast.reason for contrast in contrasts) else []),
        "A12 is the chance that a run of the system is better than one of the baseline. Mann–Whitney, unpaired, is the test of "
        "Colombo et al. (2021), paired t that of Han et al. (2021): two-sided, not corrected, and about this test set alone.",
    ]

"""``table.test=crossed``: the two-way t, for new seeds and new videos (`mdm.statistics.crossed`)."""

from __future__ import annotations

from collections.abc import Sequence

from mdm.statistics.comparison import Verdict
from mdm.statistics.crossed import judge_crossed
from mdm.statistics.signed_rank import Zeros
from mdm.statistics.verdicts._base import Effect, Evidence, Statistic


class TwoWay(Statistic):
    """Over new seeds and new videos. The default, and the only one of ours that speaks of another test set.

    >>> from dataclasses import replace
    >>> import numpy as np
    >>> from mdm.statistics.crossed import analyse_crossed
    >>> from mdm.statistics.verdicts import expect_runs
    >>> y = 0.3 + 0.1 * np.arange(5.0)[:, None] + 0.05 * np.arange(12.0)
    >>> found = replace(expect_runs(5), crossed=analyse_crossed(y, np.ones(12)))
    >>> round(TwoWay().compute_p(found), 4)
    0.0004
    """

    name = "two-way t"
    title = "two-way t test"
    star = "★"
    heads = ("difference", "simultaneous 95 %", "variance: runs/videos/both, %")
    rule = "the two-way t of paired seeds and test videos has p ≤ .05"
    leaves_out = True
    reach = "for new seeds and new videos"
    meaning = (
        "differs from the row's baseline, for better or worse, by more than the luck of these seeds and of this test set explains: "
        "so would new runs on new videos"
    )

    def compute_p(self, found: Evidence) -> float:
        return found.crossed.p

    def judge(self, family: Sequence[Evidence]) -> list[Verdict]:
        return judge_crossed([found.crossed for found in family])

    def measure(self, found: Evidence, alpha: float) -> Effect:
        crossed = found.crossed
        pairs = f"{crossed.pairs}, {crossed.lost} lost" if crossed.lost else str(crossed.pairs)
        ends = crossed.interval(alpha)
        return Effect(pairs, crossed.difference, ends, "simultaneous 95 %", crossed.shares, crossed.reason, crossed.note)

    def explain(self, found: Sequence[Evidence], family: int, zeros: Zeros) -> list[str]:
        said = [
            "Differences are system − baseline. Their intervals are for new seeds and new videos, and simultaneous: each at "
            f"1 − .05/{family} (Bonferroni), all k cover together with 95 %."
            + (f" One may reach 0 where a later step of Holm's gave a {self.star}." if family > 1 else ""),
            "Variance: how much of the uncertainty of a difference comes from runs, which more seeds lower, from videos, which "
            "more test videos lower, and from both together, which either lowers.",
            "The test takes it that differences of runs are not extremely one-sided. Where one side's runs are strongly skewed and "
            "the other's all alike, it stars too often.",
        ]
        if any(one.crossed.lost for one in found):
            said.append(
                "Lost: pairs that are left out, because a run has no test metric or diverged. That is told without the test fold: "
                "a loss that is not finite, no finite metric on validation, or, where other runs of the row have learned "
                "something, a constant prediction there or a metric no better than that of the mean training label. Stars speak of "
                "runs that do none of this."
            )
        if any(one.crossed.reason for one in found):
            said.append(
                "A comparison that cannot be told has no p and no star, whatever its runs gave, and counts in k with p = 1: that "
                "is not even a lack of evidence."
            )
        return said

"""Values of paired runs → how far two systems differ, how sure that is, and what a table may star.

permutation  exact tests by signs and labels that might have fallen otherwise
intervals    means and differences of runs; losses of test segments
families     Holm's procedure, and what numbers of runs could give at best
comparison   one system's runs against another's; verdicts over a table
"""

from mdm.statistics.comparison import Comparison, Verdict, compare, judge
from mdm.statistics.families import Test, holm, largest_family, smallest_p
from mdm.statistics.intervals import mean_interval, segment_interval, t_interval, welch_interval

__all__ = [
    "Comparison",
    "Test",
    "Verdict",
    "compare",
    "holm",
    "judge",
    "largest_family",
    "mean_interval",
    "segment_interval",
    "smallest_p",
    "t_interval",
    "welch_interval",
]

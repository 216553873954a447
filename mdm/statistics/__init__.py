"""Values of paired runs → how far two systems differ, how sure that is, and what a table may star.

permutation  exact tests by signs and labels that might have fallen otherwise
signed_rank  Wilcoxon's test, exact, with its shift and interval
symmetry     whether differences lie symmetrically, as tests of their mean suppose
intervals    means and differences of runs; losses of test segments
families     Holm's procedure, and what numbers of runs could give at best
comparison   one system's runs against another's, on this test set; verdicts over a table
jackknife    a metric without each of the test videos
crossed      one system against another for new seeds and new videos; verdicts over a table
verdicts     PICK ONE: what stars the rows of a table
"""

from mdm.metrics.sums import ABSOLUTE_ERROR, ACCURACY, CORRELATION, SQUARED_ERROR, WEIGHTED_F1, Sums, mean_of
from mdm.statistics.comparison import Comparison, Verdict, compare, judge
from mdm.statistics.crossed import Crossed, analyse_crossed, cannot_tell, compare_crossed, judge_crossed
from mdm.statistics.families import Test, holm, largest_family, smallest_p
from mdm.statistics.intervals import mean_interval, paired_t, segment_interval, t_interval, welch_interval
from mdm.statistics.jackknife import LeaveOneOut, average, leave_out_slowly, leave_out_videos
from mdm.statistics.signed_rank import SignedRank, signed_rank
from mdm.statistics.symmetry import Symmetry, check_symmetry

__all__ = [
    "ABSOLUTE_ERROR",
    "ACCURACY",
    "CORRELATION",
    "SQUARED_ERROR",
    "WEIGHTED_F1",
    "Comparison",
    "Crossed",
    "LeaveOneOut",
    "SignedRank",
    "Sums",
    "Symmetry",
    "Test",
    "Verdict",
    "analyse_crossed",
    "average",
    "cannot_tell",
    "check_symmetry",
    "compare",
    "compare_crossed",
    "holm",
    "judge",
    "judge_crossed",
    "largest_family",
    "leave_out_slowly",
    "leave_out_videos",
    "mean_interval",
    "mean_of",
    "paired_t",
    "segment_interval",
    "signed_rank",
    "smallest_p",
    "t_interval",
    "welch_interval",
]

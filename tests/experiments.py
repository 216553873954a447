"""Which experiment prints which table or figure of the papers, and its cells at a small size."""

from functools import cache
from pathlib import Path

from hydra import compose, initialize_config_dir

from mdm.sweeps.experiment import parse_table

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
TABLES = {
    "mdm/table1": ("000", "T1"),
    "mdm/table2": ("000", "T2"),
    "mmim/table2": ("001", "T2"),
    "mmim/table4": ("001", "T4"),
    "synergy/table2": ("002", "T2"),
    "synergy/table3": ("002", "T3"),
    "synergy/table4": ("002", "T4"),
    "synergy/table5": ("002", "T5"),
    "synergy/table6": ("002", "T6"),
    "mfm/table1": ("003", "T1"),
    "mfm/table2": ("003", "T2"),
    "mfm/supplement1": ("003", "ST1"),
    "mfm/supplement2": ("003", "ST2"),
    "mfm/supplement3": ("003", "ST3"),
    "mird/table1": ("004", "T1"),
    "mird/table4": ("004", "T4"),
    "mird/table5": ("004", "T5"),
    "mird/table6": ("004", "T6"),
}
FIGURES = {
    "mdm/figure2": ("000", "T2"),
    "mdm/figure4": ("000", "T2"),
    "mdm/robustness": ("000", "T2"),
    "mird/figure4": ("004", "T5"),
    "mird/figure6": ("004", "T1"),
    "mird/figure7": ("004", "F7"),
    "mird/figure8": ("004", "T5"),
}
"""Grids whose numbers are in a figure; the table has the few that the text prints."""
STUDIES = {
    "mdm/dependence": "000",
    "mdm/table3": "000",
    "mdm/table3_lmf": "000",
    "mdm/table5": "000",
    "mmim/figure2": "001",
    "mmim/table5": "001",
    "mfm/figure5": "003",
    "mird/figure5": "004",
    "mfm/figure9": "003",
}
"""Runs that are explained or whose curves are drawn; the paper prints no value of their tables."""
PRINTED = {**TABLES, **FIGURES}
EXPERIMENTS = [*PRINTED, *STUDIES]
HARDEST = {
    "mdm/table1": ("wasserstein", "synthetic_mosei"),
    "mdm/table2": ("magxlnet_kl", "synthetic"),
    "mmim/table2": ("mmim", "synthetic_mosei"),
    "mmim/table4": ("no_history", "synthetic_mosei"),
    "synergy/table2": ("mim_synergy_kl", "synthetic"),
    "synergy/table3": ("magbert_wasserstein", "synthetic_mosei"),
    "synergy/table4": ("synergy_kl", "synthetic"),
    "synergy/table5": ("kurtosis", "synthetic_mosei"),
    "synergy/table6": ("misa_synergy_kl", "synthetic_ur_funny"),
    "mfm/table1": ("mfm_emotions", "synthetic_iemocap"),
    "mfm/table2": ("M_A", "synthetic"),
    "mfm/supplement1": ("mfm", "synthetic_pom"),
    "mfm/supplement2": ("ef_sblstm", "synthetic_youtube"),
    "mfm/supplement3": ("svm", "synthetic_iemocap"),
    "mird/table1": ("mird2", "synthetic_mosei_unlabeled"),
    "mird/table4": ("no_mim", "synthetic_unlabeled"),
    "mird/table5": ("oc", "synthetic_mosei"),
    "mird/table6": ("both", "synthetic_unlabeled"),
    "mdm/figure2": ("f", "synthetic"),
    "mdm/figure4": ("wasserstein", "synthetic"),
    "mdm/robustness": ("wasserstein", "synthetic"),
    "mird/figure6": ("rate5", "synthetic_unlabeled"),
    "mird/figure7": ("alpha10", "synthetic"),
    "mird/figure4": ("mim", "synthetic"),
    "mfm/figure5": ("mfm", "synthetic_digits"),
    "mird/figure5": ("mim_unlabeled", "synthetic_unlabeled"),
    "mird/figure8": ("mim", "synthetic"),
    "mdm/dependence": ("replay", "gaussian"),
    "mdm/table3": ("wasserstein_measured", "synthetic"),
    "mdm/table3_lmf": ("wasserstein_measured", "synthetic"),
    "mdm/table5": ("wasserstein", "synthetic"),
    "mmim/figure2": ("mmim", "synthetic"),
    "mmim/table5": ("mmim", "synthetic"),
    "mfm/figure9": ("official", "synthetic"),
}
"""A row of each file that really runs: (row, data)."""


def compose_run(*overrides):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("train", list(overrides))


@cache
def read_experiment(name):
    """An experiment's config and its table."""
    cfg = compose_run(f"experiment={name}")
    return cfg, parse_table(cfg)

"""Tests over seeds have a star of their own, and every format says what a star means."""

import re

import numpy as np
import pytest
from made_stars import SEEDS, Made, contrast_of, declare_table

from mdm.statistics import signed_rank
from mdm.tables.latex import render_latex
from mdm.tables.markdown import render_markdown
from mdm.tables.page import render_page
from mdm.tables.rows import build_cell_rows
from mdm.tables.wording import format_interval, format_shares


@pytest.fixture
def made(tmp_path):
    return Made(tmp_path)


# Tests over seeds ---------------------------------------------------------------------------------------


def test_tests_over_seeds_have_a_star_of_their_own(made):
    """Eight of eight better, in half of the videos by .9, worse by .8 in the others: every test over seeds has 2/2⁸ or less, and
    the two-way t no evidence. ☆ in every format, explained as what it is."""
    label, groups = np.array([-2.0, -1.0, 1.0, 2.0] * 6), [f"v{i // 2}" for i in range(24)]
    change = np.where(np.arange(24) // 2 % 2 == 0, -0.9, 0.8)
    for seed in range(SEEDS):
        made.write("none", seed, label + 1 + 0.001 * seed, label, groups)
        made.write("kl", seed, label + 1 + 0.001 * (seed % 3) + change, label, groups)
    assert contrast_of(made.sheet(declare_table())).reason == "no evidence at n=8"
    for test, name in (("wilcoxon", "Wilcoxon"), ("sign_flip", "sign-flip"), ("mann_whitney", "Mann–Whitney")):
        sheet = made.sheet(declare_table(test=test))
        contrast = contrast_of(sheet)
        assert contrast.star
        assert contrast.verdict.p == getattr(contrast.found.seeds, test) <= 2 / 2**8
        assert re.search(r"\*{0,2}0\.95\d ± 0\.\d+\*{0,2} ☆ \|", render_markdown(sheet))
        assert r"$^{\circ}$" in render_latex(sheet)
        assert "★" not in render_markdown(sheet) + render_page(sheet)
        assert '<span class="star">☆</span>' in render_page(sheet)
        assert f"on this very test set, by the exact {name} test over seeds; another test set may not show it" in render_markdown(
            sheet
        )
        (row,) = [row for row in build_cell_rows(sheet) if row["row"] == "kl"]
        assert (row["test"], row["star"]) == (test, True)


def test_wilcoxon_shows_its_shift_and_interval(made):
    """Against `signed_rank` of the runs; two pairs of eight do not differ, so with Pratt's zeros it is 2/2⁶ at best."""
    none = np.array([0.8, 0.82, 0.86, 0.81, 0.9, 0.88, 0.84, 0.83])
    d = np.array([0, 0, -0.1, -0.12, -0.2, -0.15, -0.11, -0.3])
    made.write_errors({"none": none, "kl": none + d})
    for zeros in ("pratt", "split"):
        sheet = made.sheet(declare_table(test="wilcoxon", zeros=zeros))
        contrast, reference = contrast_of(sheet), signed_rank(none + d, none, zeros=zeros)
        found = contrast.found.ranks
        assert (found.zeros, found.p, found.smallest_p) == (2, reference.p, reference.smallest_p)
        assert contrast.verdict.p == reference.p
        assert (found.shift, *found.interval) == pytest.approx((reference.shift, *reference.interval))
        text = render_markdown(sheet)
        assert f"{format_interval(reference.interval, 3)} ({100 * reference.level:.1f} %)" in text
        assert f"| {reference.rank_biserial:.2f}".replace("-", "−") in text
    assert contrast_of(made.sheet(declare_table(test="wilcoxon"))).verdict.p == 2 / 2**6
    assert signed_rank(none + d, none, zeros="split").p != 2 / 2**6
    five = {"none": none, "kl": np.where(np.arange(8) == 2, none, none + d)}
    more = Made(made.root / "more")
    more.write_errors(five)
    reason = contrast_of(more.sheet(declare_table(test="wilcoxon"))).reason
    assert reason == "n=8, 3 of them equal, cannot reach .05 in a family of 1 (smallest p .0625)"


# Words --------------------------------------------------------------------------------------------------


def test_skewed_differences_are_remarked(made):
    """Seven alike and one run far off, which alone decides the mean."""
    none = np.array([0.8, 0.81, 0.82, 0.8, 0.83, 0.81, 0.8, 0.82])
    made.write_errors({"none": none, "kl": none - np.array([1, 1.1, 1.2, 1.4, 1.7, 2.4, 4, 7]) / 10})
    sheet = made.sheet(declare_table())
    assert "the differences of the 8 runs are skewed downwards" in contrast_of(sheet).found.skew
    assert re.search(r"(★|no evidence at n=8); the differences of the 8 runs are skewed downwards", render_markdown(sheet))
    assert "skewed downwards" in render_page(sheet)
    assert "skewed downwards" in render_latex(sheet)
    (row,) = [row for row in build_cell_rows(sheet) if row["row"] == "kl"]
    assert "skewed downwards" in row["note"]


def test_shares_of_variance_add_up():
    nan = float("nan")
    assert [format_shares(s) for s in ((1, 0, 0), (1 / 3, 1 / 3, 1 / 3), (0.005, 0.005, 0.99), (nan, nan, nan))] == [
        "100/0/0",
        "34/33/33",
        "0/0/100",
        "–",
    ]


def test_every_format_says_what_a_star_means(made):
    made.write_errors({"none": [0.8 + 0.01 * s for s in range(SEEDS)], "kl": [0.4 + 0.02 * s for s in range(SEEDS)]})
    sheet = made.sheet(declare_table())
    for text in (render_markdown(sheet), render_page(sheet), render_latex(sheet).replace("$^{\\star}$", "★").replace("\\%", "%")):
        plain = text.replace("&#39;", "'")
        assert "by more than the luck of these seeds and of this test set explains: so would new runs on new videos" in plain
        assert "simultaneous 95 %" in plain
        assert "variance: runs/videos/both" in plain
        assert "100/0/0" in plain
        assert "one side's runs are strongly skewed and the other's all alike" in plain
    (row,) = [row for row in build_cell_rows(sheet) if row["row"] == "kl"]
    assert (row["share_runs"], row["share_videos"], row["share_both"], row["star"]) == (1, 0, 0, True)

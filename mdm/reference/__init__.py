"""What the five papers print, as data. A paper's key is a number, 000 to 004; ``papers`` names the paper behind it.

Transcribed from the papers; nothing computed stands in a column ``value``.

    papers     a row per paper: how tables call it, and where it was published; empty where we know of none
    results    a row per printed cell of a table of results; paper, table, dataset, target, model, penalty_or_variant and metric are
               its key. Tables T1, T2, … as printed, ST1 to ST3 of 003's supplement, F7 and F9a numbers in or about figures
    settings   a row per printed or stated setting: splits, hyper-parameters, widths of features
    systems    a row per system and paper: what it is, and whether that paper ran it
    figures    a row per figure: axes, series, what must be visible

Columns of ``results`` that need a word:

metric: ``acc2`` and ``f1`` where the paper does not say what becomes of zeros; with ``_nonneg`` and ``_pos`` where it does (001)
penalty_or_variant: a penalty, the name of an ablation, or nothing
value: as printed, decimals and all; nothing for a dash; ``NaN`` where the paper prints that
significant: true or false where the table marks what it tested; nothing where it does not, or where the mark may have been lost
provenance: ``paper_run``, ``reimplemented``, ``from_code``, ``cited:<source>``; nothing where the paper does not say
note: what follows ``FLAG:`` says why a printed value is doubtful
"""

from mdm.reference.printed import KEY, Printed, describe_runs, find_value, read_rows

__all__ = ["KEY", "Printed", "describe_runs", "find_value", "read_rows"]

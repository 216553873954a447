"""From the section ``table`` to its rows: one by one, and as a product of systems and variants."""

import pytest
from omegaconf import OmegaConf

from mdm.sweeps.experiment import parse_table
from mdm.sweeps.rows import Row

SYSTEMS = {
    "lfn": {"label": "LFN", "run": ["model=lmf"], "tuned": {"mosi": "mmsa/mosi/lmf"}, "paper": {"model": "LFN"}, "note": "Ours."},
    "mfn": {"label": "MFN", "run": ["model=mfn", "a=1"], "variants": ["f", "none"], "only": ["mosi"]},
}
VARIANTS = {
    "none": {"run": ["penalty=none"], "paper": {"penalty_or_variant": "none"}},
    "kl": {"label": "+ KL", "run": ["penalty=kl", "b=2"], "paper": {"penalty_or_variant": "kl"}, "note": "Theirs."},
    "f": {"label": "+ F", "run": ["penalty=f"]},
}


def rows(systems=None, variants=None, **table):
    section = {"title": "t", "seeds": 1, "data": {"synthetic": "mosi"}, "metrics": {"mae": "mae"}, "primary": "mae"}
    product = {"systems": SYSTEMS if systems is None else systems, "variants": VARIANTS if variants is None else variants}
    return parse_table(OmegaConf.create({"name": "t", "table": {**section, "product": product, **table}})).rows


def test_a_product_has_a_row_for_each_system_and_variant():
    """Written out by hand: systems in their order, and in each the variants in theirs; the first is what the others are tested
    against."""
    tuned = {"mosi": "mmsa/mosi/lmf"}
    lfn, none, kl = {"model": "LFN"}, {"penalty_or_variant": "none"}, {"penalty_or_variant": "kl"}
    assert list(rows().values()) == [
        Row("lfn", "LFN", ("model=lmf", "penalty=none"), tuned, None, None, lfn | none, "Ours."),
        Row("lfn_kl", "+ KL", ("model=lmf", "penalty=kl", "b=2"), tuned, "lfn", None, lfn | kl, "Ours. Theirs."),
        Row("lfn_f", "+ F", ("model=lmf", "penalty=f"), tuned, "lfn", None, lfn, "Ours."),
        Row("mfn", "MFN", ("model=mfn", "a=1", "penalty=none"), {}, None, ("mosi",), none),
        Row("mfn_f", "+ F", ("model=mfn", "a=1", "penalty=f"), {}, "mfn", ("mosi",)),
    ]


def test_a_system_without_a_name_gives_its_rows_those_of_the_variants():
    found = rows({"": {"label": "LFN", "run": ["model=lmf"]}})
    assert [(row.name, row.label, row.baseline) for row in found.values()] == [
        ("none", "LFN", None),
        ("kl", "+ KL", "none"),
        ("f", "+ F", "none"),
    ]


def test_further_rows_stand_after_a_product():
    found = rows(rows={"tfn": {"label": "TFN", "run": ["model=tfn"], "baseline": "lfn"}})
    assert list(found) == ["lfn", "lfn_kl", "lfn_f", "mfn", "mfn_f", "tfn"]
    assert found["tfn"].baseline == "lfn"
    assert list(rows(product=None, rows={"tfn": {"label": "TFN", "run": ["model=tfn"]}})) == ["tfn"]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"systems": {}}, r"table\.product: expected a system and a variant at least, got 0 and 3; name them, or use table\.rows"),
        ({"variants": {}}, r"table\.product: expected a system and a variant at least, got 2 and 0"),
        (
            {"systems": {"mfn": {**SYSTEMS["mfn"], "variants": ["none", "fl"]}}},
            r"table\.product\.systems\.mfn\.variants: expected one of none, kl, f, got 'fl'; choose one of them\.",
        ),
        (
            {"systems": {"mfn": {**SYSTEMS["mfn"], "variants": ["f"]}}},
            r"table\.product\.systems\.mfn\.variants: expected none among them, the baseline of the others, got f; add it",
        ),
        (
            {"variants": {"none": VARIANTS["none"], "kl": {"run": ["penalty=kl"]}}},
            r"table\.product\.variants\.kl: expected a label, got none; only none needs none\.",
        ),
        ({"systems": {"": SYSTEMS["lfn"], "kl": SYSTEMS["lfn"]}}, r"table\.product makes kl twice; rename a part of it"),
        (
            {"rows": {"mfn_f": {"label": "x", "run": ["model=mfn"]}}},
            r"Each row has a name of its own, but table\.product and table\.rows both have mfn_f; rename\.",
        ),
        ({"systems": {"mfn": {"label": "MFN"}}}, r"table\.product\.systems\.mfn\.run must be set"),
        ({"systems": {"mfn": {**SYSTEMS["mfn"], "baseline": "lfn"}}}, r"table\.product\.systems\.mfn has no key baseline"),
    ],
)
def test_a_product_that_does_not_fit_together(keys, message):
    with pytest.raises(ValueError, match=message):
        rows(**keys)


def test_a_table_has_rows():
    with pytest.raises(ValueError, match=r"a column and a row at least, but t has .* and 0 rows; set table"):
        rows(product=None)

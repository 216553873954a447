"""From an experiment file to the cells of its table."""

import pytest
from omegaconf import OmegaConf

from mdm.sweeps.experiment import has_table, list_cells, parse_table, read_arguments

ROWS = {
    "none": {"label": "EF-LSTM", "run": ["model=eflstm", "penalty=none"], "paper": {"model": "EF-LSTM"}},
    "kl": {"label": "+ KL", "run": ["model=eflstm", "penalty=kl"], "baseline": "none"},
    "lmf": {"label": "LMF", "run": ["model=lmf", "penalty=none"], "tuned": {"mosi": "mmsa/mosi/lmf"}, "only": ["mosi"]},
    "cited": {"label": "ICCN", "paper": {"model": "ICCN"}},
}
TABLE = {
    "title": "A table",
    "seeds": 2,
    "data": {"synthetic": "mosi", "synthetic_mosei": "mosei"},
    "metrics": {"mae": "mae", "acc2_pos": "acc2"},
    "primary": "mae",
    "rows": ROWS,
}
EXPERIMENT = "experiment=mdm/table1"


def declare_table(**keys):
    return parse_table(OmegaConf.create({"name": "mdm/table1", "table": {**TABLE, **keys}}))


def rows(*arguments):
    return [(cell.data, cell.row) for cell in list_cells(declare_table(), [EXPERIMENT, *arguments])]


def test_cells_are_the_rows_that_run_on_each_data_set():
    """LMF exists for MOSI, or what stands in for it; a cited system does not run."""
    expected = [
        ("synthetic", "none"),
        ("synthetic", "kl"),
        ("synthetic", "lmf"),
        ("synthetic_mosei", "none"),
        ("synthetic_mosei", "kl"),
    ]
    assert rows() == expected


def test_a_cell_has_a_run_for_every_seed():
    (cell,) = list_cells(declare_table(), [EXPERIMENT, "data=synthetic", "penalty=kl", "trainer.max_epochs=3"])
    shared = [EXPERIMENT, "data=synthetic", "model=eflstm", "penalty=kl", "trainer.max_epochs=3"]
    assert cell.runs() == [[*shared, "seed=0"], [*shared, "seed=1"]]


def test_what_the_command_line_says_chooses_or_replaces():
    assert rows("model=lmf") == [("synthetic", "lmf")]
    assert rows("penalty=kl,none", "data=mosi") == [("mosi", "none"), ("mosi", "kl"), ("mosi", "lmf")]
    assert {cell.seeds for cell in list_cells(declare_table(), ["seed=range(3,6)"])} == {(3, 4, 5)}
    assert {cell.seeds for cell in list_cells(declare_table(), ["seed=7"])} == {(7,)}


def test_tuned_values_belong_to_a_data_set():
    """None for a stand-in."""
    by_data = {cell.data: cell.overrides for cell in list_cells(declare_table(), ["model=lmf", "data=mosi,synthetic"])}
    assert "tuned=mmsa/mosi/lmf" in by_data["mosi"]
    assert not any(override.startswith("tuned=") for override in by_data["synthetic"])


def test_overrides_keep_their_spelling():
    given = read_arguments([EXPERIMENT, "data.modalities=[language,audio]", "+a.b='x y'", "~c"])
    assert given.others == ("data.modalities=[language,audio]", "+a.b='x y'", "~c")
    assert (given.data, given.seeds, given.chosen, given.experiment) == (None, None, {}, (EXPERIMENT,))


@pytest.mark.parametrize("said", ["table.test=wilcoxon", "++table.test=wilcoxon", "+table.test=wilcoxon"])
def test_what_says_how_a_table_is_judged_is_no_part_of_its_runs(said):
    given = read_arguments([EXPERIMENT, said, "table.zeros=split"])
    assert (given.others, given.judged) == ((), ("++table.test=wilcoxon", "++table.zeros=split"))
    (cell,) = list_cells(declare_table(), [EXPERIMENT, said, "data=synthetic", "penalty=kl"])
    assert cell.overrides == (EXPERIMENT, "data=synthetic", "model=eflstm", "penalty=kl")


def test_what_is_judged_must_be_there():
    assert not has_table(OmegaConf.create({"name": "single"}))
    assert has_table(OmegaConf.create({"name": "t", "table": {"title": "A table", "test": "wilcoxon"}}))
    for function in (has_table, parse_table):
        with pytest.raises(ValueError, match=r"table\.zeros and table\.test say how a table is judged, but single has no"):
            function(OmegaConf.create({"name": "single", "table": {"zeros": "split", "test": "wilcoxon"}}))


def test_metrics_may_differ_between_data_sets():
    table = declare_table(metrics={"mosi": {"mae": "mae"}, "mosei": {"corr": "corr"}}, primary={"mosi": "mae", "mosei": "corr"})
    assert (table.metrics["mosi"], table.primary["mosei"]) == ({"mae": "mae"}, "corr")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trainer.max_epochs=3,5"], "give trainer.max_epochs one value, or sweep without experiment="),
        (["seed=range(0)"], "seed=range.0. is empty; use seed="),
        (["seed=interval(0,1)"], "Runs are chosen by lists of values, got seed=interval.0,1."),
        (["model=glob(*)"], "Runs are chosen by lists of values, got model=glob"),
        (["experiment=a", "experiment=b"], "One experiment is read at a time, got experiment=a experiment=b"),
        (["seed=a"], r"Seeds are whole numbers, got seed=a; use seed='range\(10\)'"),
        (["model=tfn"], "No row of this table runs with model=tfn on synthetic, synthetic_mosei; its rows are none: model=eflstm"),
        (["data=mosei", "model=lmf"], "No row of this table runs with model=lmf on mosei"),
    ],
)
def test_arguments_that_fit_no_cell_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        list_cells(declare_table(), arguments)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"colour": "red"}, "table has no key colour, got table.colour, which nothing would read"),
        ({"seeds": 0}, "table.seeds must be a whole number of at least 1, but is 0"),
        ({"seeds": True}, "table.seeds must be a whole number of at least 1, but is True"),
        ({"data": {}}, r"has data=\{\}, metrics=.*; set table"),
        ({"rows": None}, "and 0 rows; set table"),
        ({"data": None}, "table.data must be a mapping"),
        ({"metrics": {"mae": 3}}, "table.metrics must be a mapping"),
        ({"primary": "corr"}, "of mosi it has mae, acc2_pos and primary=corr"),
        ({"rows": {"a": {"run": ["model=eflstm"]}}}, r"table\.rows\.a\.label must be set"),
        ({"rows": {"a": {"label": "A"}}}, r"table\.rows\.a has neither; give it run or paper"),
        ({"rows": {"a": {"label": "A", "run": [], "colour": 1}}}, r"table\.rows\.a has no key colour"),
        ({"rows": {**ROWS, "kl": {**ROWS["kl"], "baseline": "kl"}}}, r"table\.rows\.kl\.baseline is 'kl'; name one of none, lmf"),
        ({"rows": {**ROWS, "kl": {**ROWS["kl"], "baseline": "cited"}}}, r"table\.rows\.kl\.baseline is 'cited'"),
        ({"rows": {**ROWS, "kl": {**ROWS["kl"], "baseline": "other"}}}, r"table\.rows\.kl\.baseline is 'other'"),
    ],
)
def test_what_does_not_fit_together_is_refused(keys, message):
    with pytest.raises(ValueError, match=message):
        declare_table(**keys)


def test_an_experiment_without_a_table_has_no_cells():
    with pytest.raises(ValueError, match="but single has no table; choose one, as experiment=mdm/table1"):
        parse_table(OmegaConf.create({"name": "single"}))

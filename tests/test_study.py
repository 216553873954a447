"""What the scripts share: text of a mean, files of a figure. Finding runs is tested with the scripts that do."""

from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from hydra import initialize_config_dir
from matplotlib.figure import Figure
from scipy import stats
from threadpoolctl import threadpool_info

from mdm.statistics import mean_interval
from mdm.studies._write import format_mean, write_figure
from mdm.study import call_each, compose_experiment, take_jobs

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def test_the_interval_of_a_mean_is_students():
    x = np.random.default_rng(0).standard_normal(6) + 2
    assert mean_interval(x) == pytest.approx(stats.t.interval(0.95, 5, x.mean(), stats.sem(x)))


def test_a_mean_is_written_with_its_interval():
    # s = 1 and n = 3: half of the interval is t(.975, 2) / √3 = 4.303 / 1.732
    assert format_mean([1.0, 2.0, 3.0], 2) == "2.00 [-0.48, 4.48]"
    assert format_mean([1.5]) == "1.500"


def doubled(x):
    return 2 * x, {torch.get_num_threads(), *(pool["num_threads"] for pool in threadpool_info())}


@pytest.mark.parametrize("jobs", [1, 2])
def test_call_each_keeps_the_order_and_gives_each_one_thread(jobs, capsys):
    before = torch.get_num_threads()
    assert list(call_each(doubled, [(i,) for i in range(5)], jobs, "doubling")) == [(2 * i, {1}) for i in range(5)]
    assert torch.get_num_threads() == before
    assert "doubling" in capsys.readouterr().err


def test_jobs_on_a_command_line():
    assert take_jobs(["a=1", "jobs=2", "b"]) == (["a=1", "b"], 2)
    assert take_jobs([]) == ([], 1)
    for wrong in ("0", "two", "-1", "", "1.5", "²", "9" * 9):
        with pytest.raises(ValueError, match=f"jobs is a number of processes, 1 to 512, got jobs={wrong}"):
            take_jobs([f"jobs={wrong}"])


@pytest.mark.parametrize("values", [[], [1.0, float("nan")]])
def test_no_mean_is_written_where_a_seed_has_no_value(values):
    assert format_mean(values) == "–"


def test_a_figure_is_written_in_the_same_bytes_each_time_and_leaves_the_style_alone(tmp_path):
    def draw():
        figure = Figure()
        figure.subplots().plot([0, 1])
        assert matplotlib.rcParams["font.size"] == 8
        return figure

    before, written = dict(matplotlib.rcParams), []
    for _ in range(2):
        write_figure(tmp_path, draw)
        written.append([(tmp_path / name).read_bytes() for name in ("figure.pdf", "figure.png")])
    assert written[0] == written[1]
    assert written[0][0].startswith(b"%PDF")
    assert dict(matplotlib.rcParams) == before


def test_a_chosen_model_brings_its_keys():
    """Hydra refuses model.backbone.f_y of the default model, which has none."""
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose_experiment(["experiment=mfm/figure9", "model=mfm", "model.backbone.f_y=4", "data=synthetic_mosei"])
    assert (cfg.model.backbone.f_y, cfg.data.name, cfg.table.primary) == (4, "synthetic_mosei", "mae")

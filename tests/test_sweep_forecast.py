"""What a sweep says before it starts: its runs, what is done, how long the rest takes, and how many processes a pool has."""

import pytest
import torch
from made_sweeps import compose_below, sweep_in_turn

from mdm import workers
from mdm.commands import train as train_command
from mdm.runs import records
from mdm.sweeps import forecast
from mdm.sweeps import plan as plans


@pytest.fixture
def composer(tmp_path):
    return compose_below(tmp_path)


@pytest.fixture
def swept(composer):
    return sweep_in_turn(composer)


def test_a_dry_run_starts_nothing_and_expects_what_records_say(swept, composer, tmp_path, caplog):
    """Seeds 0 and 1 of KL are done, 2 and 3 are not; HSIC has records of its data and model alone, synthetic_mosei has none."""
    swept("penalty=kl", "model=lmf", "seed=0,1")
    for seed, seconds in ((0, 4.0), (1, 6.0)):
        folder = next((tmp_path / "outputs").rglob(f"seed={seed}"))
        records.seal(folder, {**records.read_record(folder), "seconds": seconds})
    before = sorted(path for path in tmp_path.rglob("*"))
    planned = plans.plan(
        plans.list_wanted(composer([]), ["penalty=kl,hsic", "model=lmf", "data=synthetic", "seed=range(4)"]), composer
    )
    kl, hsic = forecast.list_groups(planned, tmp_path / "outputs")
    assert (kl.name, kl.done, kl.missing, kl.seconds, kl.source) == ("single/synthetic/lmf/kl", 2, 2, 5.0, "2 of these")
    assert (hsic.done, hsic.missing, hsic.seconds, hsic.source) == (0, 4, 5.0, "2 of the same data and model")
    text = forecast.render_forecast([kl, hsic, forecast.Group("other", 0, 3, None, "no record of its data")], at_once=2)
    assert "11 runs: 2 done, 9 missing" in text
    assert "expected: 30 s of machine time, 15 s with 2 at a time" in text
    assert "of 3 runs nothing is known" in text
    assert sorted(path for path in tmp_path.rglob("*")) == before
    swept("penalty=kl", "model=lmf", "seed=range(4)", dry_run=True)
    assert swept.launched == []
    assert sorted(path for path in tmp_path.rglob("*")) == before


def test_a_dry_run_is_of_a_sweep():
    assert train_command.take_dry_run(["-m", "penalty=none,kl", "--dry-run"]) == [
        "-m",
        "penalty=none,kl",
        "hydra.sweeper.dry_run=true",
    ]
    assert train_command.take_dry_run(["penalty=kl"]) == ["penalty=kl"]
    with pytest.raises(ValueError, match=r"--dry-run lists the runs of a sweep, but there is no -m; add it\."):
        train_command.take_dry_run(["penalty=kl", "--dry-run"])


def test_a_pool_has_a_process_for_each_gpu_or_core(monkeypatch):
    monkeypatch.setattr(workers, "cpu_count", lambda: 64)
    for gpus, expected in ((0, 64), (8, 8)):
        monkeypatch.setattr(torch.cuda, "device_count", lambda gpus=gpus: gpus)
        assert (workers.count_workers("auto"), workers.count_workers("cpu")) == (expected, 64)

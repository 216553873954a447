"""One owner for a folder, and a run that is killed at any write or begun twice at once ends as if nothing had happened."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest
import pytorch_lightning as pl

from mdm.ownership import LOCK, InUse, find_owner, own
from mdm.runs import records
from mdm.runs.naming import record_folder
from mdm.runs.protocol import run


def start_process(work):
    """The process that does this."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return pid


def status_of(pid):
    """Exit status of a process, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def in_child(work):
    return status_of(start_process(work))


def test_a_folder_has_one_owner_who_may_take_it_twice(tmp_path):
    folder = tmp_path / "a" / "b"

    def refused():
        with (
            pytest.raises(InUse, match=rf"{folder} is in use by process {os.getppid()} on .*; wait until that has ended"),
            own(folder),
        ):
            pass
        assert find_owner(folder).startswith(f"process {os.getppid()} on ")

    with own(folder) as owner, own(folder):
        assert in_child(refused) == 0
        owner.check()
        (folder / "kept").touch()
    assert [path.name for path in folder.iterdir()] == ["kept"]
    assert find_owner(folder) is None


def test_folders_that_stay_empty_are_removed_again(tmp_path):
    with pytest.raises(ZeroDivisionError), own(tmp_path / "a" / "b"):
        1 / 0  # noqa: B018
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_owner_left_is_collected(tmp_path):
    def work():
        with own(tmp_path):
            (tmp_path / ".last.ckpt.123").write_text("half")
            (tmp_path / ".a.7").mkdir()
            (tmp_path / ".DS_Store").touch()
            os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(work) == -signal.SIGKILL
    assert (tmp_path / LOCK).exists()
    assert find_owner(tmp_path) is None
    with own(tmp_path):
        assert {path.name for path in tmp_path.iterdir()} == {LOCK, ".DS_Store"}, "what is not ours stays"


def test_an_owner_that_was_replaced_writes_no_more(tmp_path):
    with own(tmp_path) as owner:
        (tmp_path / LOCK).unlink()
        with pytest.raises(InUse, match="gave no sign of life for 90 s, and another has taken it over"):
            owner.check()


# ---- a run


TINY = ("data.segments.train=16", "data.segments.valid=8", "data.segments.test=8", "data.batch_size=8", "trainer.max_epochs=3")
MUTATING = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "shutil.copyfile")


def mutations(folder, stop_at=None):
    """Count what changes files below a folder from now on, in this process; before the change number ``stop_at`` it is killed."""
    count = [0]

    def hook(event, arguments):
        if event == "open":
            path, mode = arguments[0], arguments[1] or ""
            changes = isinstance(mode, str) and any(letter in mode for letter in "wax+")
        else:
            path, changes = (arguments or ("",))[0], event in MUTATING
        if changes and str(path).startswith(str(folder)):
            count[0] += 1
            if count[0] == stop_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return count


def without_times(folder):
    """All that tables are made of, but for what the clock says."""
    record = records.read_record(folder)
    curve = records.read_table(folder, records.CURVE).drop(columns="seconds")
    return {**record, "seconds": 0}, (folder / records.PREDICTIONS).read_bytes(), curve.to_csv()


@pytest.mark.parametrize("step", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_a_run_killed_at_any_write_is_resumed_to_the_same_record(config, tmp_path, step):
    """A process is killed before each change of a file in turn (in the short suite, every fourth); the same command again ends in
    the same record, without debris."""
    whole = config(*TINY, f"paths.outputs={tmp_path}/whole", small=False)
    counted = tmp_path / "counted"

    def count():
        found = mutations(tmp_path / "whole")
        run(whole)
        counted.write_text(str(found[0]))

    assert in_child(count) == 0
    expected, changes = without_times(record_folder(whole, ())), int(counted.read_text())
    assert changes > 20, "the hook sees what a run writes"
    for k in range(1, changes + 1, step):
        cfg = config(*TINY, f"paths.outputs={tmp_path}/killed-{k}", small=False)
        folder = record_folder(cfg, ())

        def killed(folder=tmp_path / f"killed-{k}", cfg=cfg, k=k):
            mutations(folder, k)
            run(cfg)

        assert in_child(killed) == -signal.SIGKILL
        assert in_child(lambda cfg=cfg: run(cfg)) == 0
        assert without_times(folder) == expected, k
        assert {path.name for path in folder.iterdir()} == {*records.HASHED, records.METRICS}, f"debris after change {k}"


def test_two_processes_train_a_run_once(config, tmp_path):
    cfg = config(*TINY, small=False)
    folder = record_folder(cfg, ())
    trained, begin = tmp_path / "trained", time.time() + 1

    def work():
        fit = pl.Trainer.fit

        def counted(self, *arguments, **options):
            with trained.open("a") as file:
                file.write("x")
            return fit(self, *arguments, **options)

        pl.Trainer.fit = counted
        time.sleep(max(0.0, begin - time.time()))
        try:
            run(cfg)
        except InUse as error:
            Path(tmp_path / "refused").write_text(str(error))

    assert [status_of(pid) for pid in [start_process(work), start_process(work)]] == [0, 0]
    assert trained.read_text() == "x"
    assert records.find_problems(folder) == []


def test_a_place_where_no_folder_can_be_made_is_refused():
    """The system says of /proc what it says of a parent that is taken away at this moment, which is tried again for a while."""
    with pytest.raises(FileNotFoundError, match="/proc/mdm"), own(Path("/proc/mdm")):
        pass

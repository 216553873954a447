"""Small sweeps in this process, without a launcher."""

from pathlib import Path

from hydra import compose, initialize_config_dir

from mdm.sweeps import attempt, sweep

ROOT = Path(__file__).resolve().parents[1]
SMALL = ("data.segments.train=96", "data.segments.valid=32", "data.segments.test=40", "trainer.max_epochs=2")


def compose_below(tmp_path):
    """overrides → the config of a run of a second that writes below a folder."""

    def composed(overrides):
        with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
            return compose("train", [f"paths.outputs={tmp_path}/outputs", *SMALL, *overrides])

    return composed


def sweep_in_turn(composer):
    """arguments → what `sweep` returns, with a launcher that does the runs in turn; ``launched`` is what it was given."""

    def do(*arguments, **options):
        def launch(jobs):
            do.launched += jobs
            for overrides in jobs:
                attempt.attempt(composer(overrides), overrides)

        do.launched = []
        return sweep.sweep(composer([]), arguments, composer, launch, **options)

    return do

"""A study of finished runs, or of what needs none: numbers, a summary and a figure.

    mdm study experiment=mdm/figure2 [the overrides of its sweep] [study.KEY=VALUE …] [jobs=2] [mixed=true]
    mdm study study=explanation experiment=mdm/table3
    mdm study study=traces folder=outputs/single/synthetic/lmf/kl/seed=0

Which study: the one that study=… names (a file of configs/study), else that of the experiment's section ``study``. Its options are
those of that section, if it is of the same study, over the study's own defaults; study.KEY=VALUE sets any of them, and
study._target_=… a study of another package.

Reads the runs that `mdm train -m experiment=…` left; give the same overrides. folder=… reads one run by itself. Writes to
outputs/<name>/<study>/, or <study>/ in the run's folder: the tables of numbers as CSV, figure.pdf, figure.png, summary.md.

jobs=2 measures two at once. Runs of different code, libraries, data or settings are refused, as in tables; mixed=true takes them,
and says what is mixed.
"""

from mdm.extras import require_extra
from mdm.study import run_with_configs


def main(arguments: list[str]) -> None:
    """The command.

    Raises ValueError where the command line, the declaration or the records break a contract; nothing is written then.
    """
    run_with_configs(arguments, __doc__, write_study)


def write_study(arguments: list[str], mixed: bool) -> None:
    require_extra("matplotlib", "A study, which ends in a figure,")
    from mdm.studies._conduct import make_study

    make_study(arguments, mixed)

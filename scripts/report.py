"""`mdm report`, from the repository: `python scripts/report.py`."""

import sys

from mdm.boundary import exit_on_error
from mdm.commands.report import main

if __name__ == "__main__":
    with exit_on_error():
        main(sys.argv[1:])

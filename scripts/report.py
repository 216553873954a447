"""`mdm report`, from the repository: `python scripts/report.py`."""

import sys

from mdm.boundary import ended
from mdm.commands.report import main

if __name__ == "__main__":
    with ended():
        main(sys.argv[1:])

"""`mdm table`, from the repository: `python scripts/table.py`."""

import sys

from mdm.boundary import exit_on_error
from mdm.commands.table import main

if __name__ == "__main__":
    with exit_on_error():
        main(sys.argv[1:])

"""`mdm table`, from the repository: `python scripts/table.py`."""

import sys

from mdm.boundary import ended
from mdm.commands.table import main

if __name__ == "__main__":
    with ended():
        main(sys.argv[1:])

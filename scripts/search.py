"""`mdm search`, from the repository: `python scripts/search.py`."""

import sys

from mdm.boundary import ended
from mdm.commands.search import main

if __name__ == "__main__":
    with ended():
        main(sys.argv[1:])

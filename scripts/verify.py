"""`mdm verify`, from the repository: `python scripts/verify.py`."""

import sys

from mdm.boundary import ended
from mdm.commands.verify import main

if __name__ == "__main__":
    with ended():
        main(sys.argv[1:])

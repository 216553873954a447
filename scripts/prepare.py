"""`mdm prepare`, from the repository: `python scripts/prepare.py`."""

import sys

from mdm.boundary import ended
from mdm.commands.prepare import main

if __name__ == "__main__":
    with ended():
        sys.exit(main(sys.argv[1:]))

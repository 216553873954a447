"""`mdm prepare`, from the repository: `python scripts/prepare.py`."""

import sys

from mdm.boundary import exit_on_error
from mdm.commands.prepare import main

if __name__ == "__main__":
    with exit_on_error():
        sys.exit(main(sys.argv[1:]))

"""`mdm.commands.study` as a script."""

import sys

from mdm.boundary import exit_on_error
from mdm.commands.study import main

if __name__ == "__main__":
    with exit_on_error():
        main(sys.argv[1:])

"""`mdm.commands.study` as a script."""

import sys

from mdm.boundary import ended
from mdm.commands.study import main

if __name__ == "__main__":
    with ended():
        main(sys.argv[1:])

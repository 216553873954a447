"""`mdm train`, from the repository: `python train.py model=lmf penalty=kl seed=3`."""

import sys

from mdm.boundary import exit_on_error
from mdm.commands.train import main

if __name__ == "__main__":
    with exit_on_error():
        main(sys.argv[1:])

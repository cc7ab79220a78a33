"""`python -m segjax` is the console command `segjax`."""

import sys

from segjax.cli import main

if __name__ == "__main__":  # processes that read data import this file again
    sys.exit(main())

"""`python -m archer_ws`: the command line, where its script is not on the PATH."""

import sys

from archer_ws.cli import main

# A reload supervisor's children import this module too.
if __name__ == "__main__":
    sys.exit(main())

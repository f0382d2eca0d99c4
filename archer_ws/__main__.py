"""`python -m archer_ws`: the command line, if its script is not on the PATH."""

import sys

from archer_ws.cli import main

# The child processes of a reload supervisor import this module too.
if __name__ == "__main__":
    sys.exit(main())

"""How a command of the command line tells that it failed."""

import sys


def fail(message: str, status: int) -> int:
    """Print the message on standard error, each line with the program's name. Returns the exit status `status`."""
    for line in message.splitlines():
        sys.stderr.write(f"archer-ws: {line}\n")
    return status

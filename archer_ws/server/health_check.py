"""`python -m archer_ws.server.health_check`: whether the server of this container answers, as the exit status.

It asks where the server was told to listen: by its options, else by the variables HOST and PORT. As for the settings,
Kubernetes' ARCHER_PORT=tcp://… does not count, nor do quotation marks around a value. It runs every ten seconds, so it
imports nothing of the package. http.client knows no proxy; /health/live asks no provider and needs no credential.
"""

import http.client
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

#: The command line of the first process of the container, with its arguments.
_COMMAND = Path("/proc/1/cmdline")
_TIMEOUT_S = 4.0


def address_of(command: str, variables: Mapping[str, str]) -> tuple[str, int]:
    """Where a server listens that was started with this command line and these environment variables.

    Raises:
        ValueError: its port is no number, so it has not started.
    """
    # Without regard to where an argument ends: a shell may have been told (`sh -c "archer-ws serve ..."`).
    _, _, options = command.replace("\0", " ").partition(" serve ")

    def given(name: str) -> str | None:
        if found := re.findall(rf"--{name}[= ]+(\S+)", options):
            return str(found[-1]).strip("'\"")
        values = (variables.get(each, "").strip(" '\"") for each in (f"ARCHER_{name.upper()}", name.upper()))
        return next((value for value in values if value and "://" not in value), None)

    return given("host") or "127.0.0.1", int(given("port") or 8000)


def main() -> int:
    """0 if the server answers, else 1."""
    try:
        command = _COMMAND.read_text("utf-8", "replace")
    except OSError:
        command = ""
    try:
        host, port = address_of(command, os.environ)
        connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
        connection.request("GET", "/health/live")
        status = connection.getresponse().status
    except (OSError, ValueError, http.client.HTTPException) as error:
        sys.stderr.write(f"the server does not answer: {error}\n")
        return 1
    return 0 if status == http.client.OK else 1


if __name__ == "__main__":
    sys.exit(main())

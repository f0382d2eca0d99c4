"""Ports for servers that must be told theirs before they start."""

import random
import socket
from contextlib import suppress

#: Below the ports that systems give to outgoing connections and to servers that ask for any (32768 and up on Linux,
#: 49152 on macOS and Windows): between the look and the start, one of those would be taken by whatever runs beside.
_PORTS = range(20_000, 32_768)


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    while True:
        # Not the seeded generator, which chooses the same in each process.
        port = random.SystemRandom().choice(_PORTS)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port

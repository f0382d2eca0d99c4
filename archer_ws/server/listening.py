"""What a server needs of the operating system: its sockets, and enough file descriptors and threads.

The sockets are bound here, not by uvicorn, so that a wrong address is reported in plain words before anything slow
begins.
"""

import errno
import ipaddress
import os
import socket
import sys
import threading

#: How many connections may wait to be accepted.
BACKLOG = 2048
#: Where the hard limit is "unlimited", kernels still refuse some numbers: then the next lower one is tried.
_FILE_LIMITS = (1_048_576, 65_536, 10_240)
#: With fewer descriptors than this the server can't even start, or serve a handful: its own take some twenty.
_FILES_MIN = 32
#: A server that answers requests has about so many threads. With fewer it can't start, or not end as it should; and if
#: uvloop can't start its own four, to look up a name, it aborts the process: seen where eleven could be started.
_THREADS_MIN = 16


class TooFewFiles(Exception):
    """The system allows this process too few open files; the message is one line for the person who starts it."""


class TooFewThreads(Exception):
    """The system allows this process too few threads; the message is one line for the person who starts it."""


class AddressUnavailable(Exception):
    """The server can't listen there; the message is one line for the person who starts it."""


def bind(host: str, port: int) -> list[socket.socket]:
    """Sockets that listen at every address of `host`, all on the same port; port 0 picks a free one.

    Raises:
        AddressUnavailable: the address does not exist, or another process has it.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        reason = f"there is no host {host!r}; choose one with --host, 127.0.0.1 for this machine alone"
        raise AddressUnavailable(f"{_at(host, port)} can't be listened on: {reason}") from error
    listening: list[socket.socket] = []
    unusable: OSError | None = None
    for family, _, _, _, address in dict.fromkeys(found):
        number = listening[0].getsockname()[1] if listening else port
        try:
            listening.append(_listen(family, (address[0], number, *address[2:])))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                # A name may have addresses of a family that this machine lacks.
                unusable = error
                continue
            for each in listening:
                each.close()
            if listening and not port:
                # The port is free at the first address and taken at the next: try another one.
                return bind(host, port)
            raise _unavailable(host, port, error) from error
    if not listening:
        raise _unavailable(host, port, unusable)
    return listening


def client_url(host: str, port: int) -> str:
    """The URL at which clients on this machine find a server that listens on `host`."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://{_at(reachable, port)}"


def raise_file_limit() -> None:
    """Allow this process as many file descriptors as the system permits: each connection and each stream needs some."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return
    for wanted in _FILE_LIMITS if hard == resource.RLIM_INFINITY else (hard, *_FILE_LIMITS):
        if wanted <= soft:
            return
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (ValueError, OSError):
            continue
        return


def check_file_limit() -> None:
    """Check that a server can start at all with the file descriptors that the system permits.

    Raises:
        TooFewFiles: it can't.
    """
    limit = descriptor_limit()
    if limit is not None and limit < _FILES_MIN:
        raise TooFewFiles(
            f"this process may have only {limit} files and connections open: raise that limit to 1024 or more "
            "(ulimit -n, LimitNOFILE in a systemd unit, ulimits in Docker)"
        )


def check_thread_limit() -> None:
    """Check that a server can start the threads that it needs: there are limits for a user, a container and for memory.

    Raises:
        TooFewThreads: it can't.
    """
    may_end = threading.Event()
    started: list[threading.Thread] = []
    try:
        for _ in range(_THREADS_MIN):
            thread = threading.Thread(target=may_end.wait, daemon=True)
            thread.start()
            started.append(thread)
    except RuntimeError as error:
        raise TooFewThreads(
            f"this process may start only {len(started)} threads, of at least {_THREADS_MIN} that it needs: raise that "
            "limit (ulimit -u, TasksMax in a systemd unit, --pids-limit in Docker) or the memory's (ulimit -v), or "
            "stop other programs of this user"
        ) from error
    finally:
        may_end.set()
        for each in started:
            each.join()


def descriptor_limit() -> int | None:
    """How many descriptors this process may have; None where there is no such limit."""
    if sys.platform == "win32":
        return None
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def _listen(family: int, address: tuple[object, ...]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            # Allows a port whose last connections are in TIME_WAIT. On Windows this option would share a port that is
            # in use.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # If the name stands for both families, IPv4 has its own socket.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        # Listen at once: until one process listens, two processes can be bound to one port.
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _unavailable(host: str, port: int, error: OSError | None) -> AddressUnavailable:
    at = _at(host, port)
    match error.errno if error else None:
        case errno.EADDRINUSE:
            reason = "is in use: stop what listens there, or choose another port with --port (0 takes a free one)"
        case errno.EACCES:
            reason = "may not be used by this user: choose another port with --port"
        case errno.EADDRNOTAVAIL:
            reason = "is no address of this machine: choose one with --host, 127.0.0.1 for this machine alone"
        case _:
            reason = f"can't be listened on: {error.strerror if error else 'it has no address'}"
    return AddressUnavailable(f"{at} {reason}")


def _at(host: str, port: int) -> str:
    try:
        bracketed = f"[{ipaddress.IPv6Address(host)}]"
    except ValueError:
        bracketed = host
    return f"{bracketed}:{port}"

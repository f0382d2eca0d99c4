"""The command line: `archer-ws serve`, `chat`, `sessions`, `doctor`, `conformance` and `schema`.

This module has the process around a command, and the exit statuses: 0 done, 1 failed, 2 wrong usage or settings, 130
interrupted. options.py has the options; each command has a module, which is imported when it is called, so that a chat
does not wait for the server's imports.
"""

import argparse
import errno
import io
import os
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from archer_ws.core.child_processes import run_as_child
from archer_ws.core.current_folder import is_told_gone
from archer_ws.core.failed_command import fail
from archer_ws.options import Command
from archer_ws.options import parser as make_parser
from archer_ws.server.announcement import DEFAULT_URL

#: What else a person reads whose question has become several arguments, or who named several files behind one option.
_QUOTE_IT = " (a question of several words goes in quotes; --image and --file take one file each)"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status.

    Raises:
        SystemExit: for `--help`, `--version` and invalid options.
    """
    _open_standard_streams()
    if run_as_child(sys.argv):
        return 0
    _end_on_sigterm()
    parser = _parser()
    options, others = parser.parse_known_args(arguments)
    if others:
        is_question = "text" in options and not any(each.startswith("-") for each in others)
        parser.error(f"unrecognized arguments: {' '.join(others)}{_QUOTE_IT if is_question else ''}")
    try:
        status: int = options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output has gone (`| head`).
        _drop_output()
        return 1
    except OSError as error:
        if is_told_gone(error):
            return fail("the current folder no longer exists: change to another one, or give whole paths", 1)
        if error.errno != errno.ENOSPC or error.filename is not None:
            raise
        _drop_output()
        return fail(f"standard output: {error.strerror}", 1)
    return status


def _drop_output() -> None:
    """Let what can't be written go: at exit Python would flush once more, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _open_standard_streams() -> None:
    """Open the standard streams that the parent process has closed. Otherwise a connection may get their descriptor and
    receive what is printed; and Python has None in their place."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 - it stays open


def _end_on_sigterm() -> None:
    """End on SIGTERM as any other process where this is the first one of a container: for that one the system ignores
    signals without a handler, and whoever stops the container would wait, and then kill it. A server that has started
    has its own handler."""
    if os.getpid() == 1 and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))


def _without_command(options: argparse.Namespace) -> int:
    _parser().print_help(sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    commands = {
        "serve": _with_server(_serve),
        "chat": _chat,
        "sessions": _with_server(_sessions),
        "doctor": _with_server(_doctor),
        "conformance": _conformance,
        "schema": _with_server(_schema),
    }
    parser = make_parser(commands)
    parser.set_defaults(run=_without_command)
    return parser


def _with_server(command: Command) -> Command:
    """The command, which says what to install where it needs packages that the client does without."""

    def run(options: argparse.Namespace) -> int:
        try:
            return command(options)
        except ModuleNotFoundError as missing:
            if (missing.name or "").partition(".")[0] in {"", "archer_ws"}:  # ours: a defect
                raise
            return fail(f'this needs the server\'s packages: pip install "archer-ws[server]" ({missing})', 1)

    return run


def _prepare(*streams: object) -> None:
    """Print question marks for characters that a terminal's encoding lacks, instead of failing. And wait for whoever
    reads slowly: a program that shares the stream may have made it non-blocking, and Python drops what finds no room
    there, without an error."""
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
            if sys.platform != "win32":
                with suppress(OSError):  # It has no descriptor.
                    os.set_blocking(stream.fileno(), True)


def _sessions(options: argparse.Namespace) -> int:
    _prepare(sys.stdout, sys.stderr)
    if options.url is not None and options.data_dir is not None:
        return fail("--url asks a running server, --data-dir a stopped one's file: give one of them", 2)
    from archer_ws.terminal.conversations.command import ConversationPlace, run

    folder = None if options.data_dir is None else Path(options.data_dir)
    return run(options, ConversationPlace(*_server(options), folder, options.principal))


def _doctor(options: argparse.Namespace) -> int:
    _prepare(sys.stdout, sys.stderr)
    from archer_ws.doctor.command import diagnose

    given = {"host": options.host, "port": options.port}
    return diagnose(given, options.model, options.provider, as_json=options.json)


def _conformance(options: argparse.Namespace) -> int:
    _prepare(sys.stdout, sys.stderr)
    from archer_ws.conformance.command import Options, conform, list_checks

    if options.list:
        return list_checks(json=options.json)
    route = {name: value for name in ("provider", "model") if (value := getattr(options, name))}
    wanted = Options(only=options.only, as_json=options.json, is_strict=options.strict, timeout_s=options.timeout)
    return conform(*_server(options), route, wanted)


def _schema(options: argparse.Namespace) -> int:
    _prepare(sys.stdout, sys.stderr)
    from archer_ws.schema.command import check, write

    directory = Path(options.directory)
    try:
        return check(directory) if options.check else write(directory)
    except OSError as error:
        return fail(f"{error.filename or directory}: {error.strerror}", 1)


def _serve(options: argparse.Namespace) -> int:
    from archer_ws.serve_command import run

    return run(options)


def _chat(options: argparse.Namespace) -> int:
    _prepare(sys.stdin, sys.stdout, sys.stderr)
    from archer_ws.terminal.command import run

    return run(options, *_server(options))


def _server(options: argparse.Namespace) -> tuple[str, str | None]:
    """The address and the token of the server that the command asks."""
    return options.url or os.environ.get("ARCHER_URL") or DEFAULT_URL, os.environ.get("ARCHER_TOKEN") or None

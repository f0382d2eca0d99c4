"""The command line: `archer-ws serve`, `chat`, `conformance` and `schema`.

Owns the options, what is printed when the server is ready, and the exit statuses: 0 done, 1 failed, 2 called wrongly
or wrong settings, 130 interrupted. Serving is api/server.py's, chatting client/chatting.py's. Each command imports what
it needs itself: a chat should not wait for the server's imports.
"""

import argparse
import io
import math
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from archer_ws import __version__
from archer_ws.api.announcement import DEFAULT_URL, Ready, ready_json, ready_text

if TYPE_CHECKING:
    from archer_ws.config import Settings

_EXAMPLES = """examples:
  archer-ws serve --host 127.0.0.1 --provider local     a small demo model, nothing else needed
  archer-ws serve --provider ollama --model llama3.2
  archer-ws chat "Why is the sky blue?"                 in a second terminal
  archer-ws chat                                        a conversation

archer-ws COMMAND --help tells more."""
_SERVE_EXAMPLES = """examples:
  archer-ws serve --host 127.0.0.1 --provider local
  OPENAI_API_KEY=... archer-ws serve --provider openai --model gpt-4o-mini
  archer-ws serve --port 0 --ready-json --exit-with-parent     started by another program

Every other setting is an environment variable or a line in .env: see .env.example.
The first Ctrl-C or SIGTERM lets running answers end (DRAIN_S), the second stops at once."""
_CHAT_EXAMPLES = """examples:
  archer-ws chat "Why is the sky blue?"
  archer-ws chat --system "Answer in one sentence." < question.txt
  archer-ws chat                                        a conversation, line by line
  archer-ws chat --compare ollama/llama3.2 --compare ollama/qwen3 "Why is the sky blue?"

Ctrl-C ends the answer and keeps what came. A server with AUTH_TOKEN needs the token in the variable ARCHER_TOKEN;
there is no option for it, since other users can see a command line."""

_CONFORMANCE_EXAMPLES = """examples:
  archer-ws conformance --url http://127.0.0.1:8000
  archer-ws conformance --url wss://example.com/api/v1/ws --model llama3.2 --strict
  archer-ws conformance --list
  archer-ws conformance --only ping_is_answered cuts_lose_nothing

It chats about 100 times, mostly for 16 tokens; longer answers are cancelled soon. What it makes it also deletes.
A check that this server gives no chance to make is skipped, and said so. Exit status: 0 all passed, 1 something
failed, 2 there was nothing to check. The token goes into the variable ARCHER_TOKEN, as for chat."""
_SCHEMA_EXAMPLES = """examples:
  archer-ws schema                 write schemas/ anew, after a change of the messages
  archer-ws schema --check         write nothing; exit status 1 and the differences where there are any
  archer-ws schema ../my-app/api   somewhere else

The files describe this version, whatever the settings: JSON Schemas, OpenRPC, OpenAPI, TypeScript, Rust."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; its exit status.

    Raises:
        SystemExit: for `--help`, `--version` and options that can't be understood.
    """
    _open_standard_streams()
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has left (`| head`); at exit Python would flush it once more, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


def _open_standard_streams() -> None:
    """Open those that whoever started us has closed: otherwise a connection may get their descriptor, and be written
    to as such; and Python has None in their place."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 - it stays open


def _parser() -> argparse.ArgumentParser:
    parser = _command(
        argparse.ArgumentParser(prog="archer-ws"), "A chat sidecar in front of language models.", _EXAMPLES
    )
    parser.add_argument("--version", action="version", version=f"archer-ws {__version__}")
    parser.set_defaults(run=lambda _: _without_command(parser))
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    serve = _command(commands.add_parser("serve", help="start the server"), "Start the server.", _SERVE_EXAMPLES)
    serve.set_defaults(run=_serve)
    serve.add_argument("--host", help="the address to listen on: 127.0.0.1 for this machine alone (HOST; 0.0.0.0)")
    serve.add_argument("--port", help="the port to listen on; 0 takes a free one (PORT; 8000)")
    serve.add_argument("--provider", help="local, ollama, openai or anthropic (LLM_PROVIDER; ollama)")
    serve.add_argument("--model", help="the model of requests that name none (LLM_DEFAULT_MODEL)")
    serve.add_argument("--reload", action="store_true", help="start anew when the code changes (for development)")
    serve.add_argument("--ready-json", action="store_true", help="when ready, print one line of JSON and nothing else")
    serve.add_argument("--exit-with-parent", action="store_true", help="stop when standard input ends")

    chat = _command(commands.add_parser("chat", help="ask a running server"), "Ask a running server.", _CHAT_EXAMPLES)
    chat.set_defaults(run=_chat)
    chat.add_argument("text", nargs="?", help="the question; without it, standard input or a conversation")
    chat.add_argument("--url", help=f"where the server is (ARCHER_URL; {DEFAULT_URL})")
    chat.add_argument("--model", help="the model, also as provider/model")
    chat.add_argument("--provider", help="the provider")
    chat.add_argument(
        "--compare",
        action="append",
        metavar="MODEL",
        help="a model to show beside the others: more than once, or with --model",
    )
    chat.add_argument("--system", metavar="TEXT", help="what the model is told first")
    chat.add_argument("--temperature", type=_finite, metavar="NUMBER", help="0 to 2")
    chat.add_argument("--max-tokens", type=int, metavar="NUMBER", help="the most tokens of an answer")

    conformance = _command(
        commands.add_parser("conformance", help="check any archer.v1 server from outside"),
        "Check whether a running server keeps to archer.v1, from outside.",
        _CONFORMANCE_EXAMPLES,
    )
    _take_conformance_options(conformance)

    schema = _command(
        commands.add_parser("schema", help="write the protocol's schemas and types"),
        "Write the protocol's schemas and types.",
        _SCHEMA_EXAMPLES,
    )
    schema.set_defaults(run=_schema)
    schema.add_argument("directory", nargs="?", default="schemas", metavar="DIRECTORY", help="where to (schemas)")
    schema.add_argument("--check", action="store_true", help="only say what differs, and fail if something does")
    return parser


def _take_conformance_options(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_conformance)
    parser.add_argument("--url", help=f"where the server is (ARCHER_URL; {DEFAULT_URL})")
    parser.add_argument("--model", help="the model to chat with (the server's default)")
    parser.add_argument("--provider", help="the provider to chat with (the server's default)")
    parser.add_argument("--only", nargs="+", action="extend", metavar="NAME", default=[], help="these checks alone")
    parser.add_argument("--list", action="store_true", help="show the checks, and do nothing")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--strict", action="store_true", help="count a skipped check as failed")
    parser.add_argument(
        "--timeout", type=_seconds, default=60.0, metavar="SECONDS", help="how long each check may take (60)"
    )


def _command(parser: argparse.ArgumentParser, description: str, epilog: str) -> argparse.ArgumentParser:
    parser.description, parser.epilog = description, epilog
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    return parser


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def _seconds(text: str) -> float:
    seconds = _finite(text)
    if seconds <= 0:
        raise ValueError(text)
    return seconds


def _without_command(parser: argparse.ArgumentParser) -> int:
    parser.print_help(sys.stderr)
    return 2


def _fail(message: str, status: int) -> int:
    for line in message.splitlines():
        sys.stderr.write(f"archer-ws: {line}\n")
    return status


def _use_question_marks(*streams: object) -> None:
    """Let what a terminal's encoding lacks become a question mark instead of a traceback."""
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _conformance(options: argparse.Namespace) -> int:
    _use_question_marks(sys.stdout, sys.stderr)
    from archer_ws.conformance.command import Options, conform, list_checks

    if options.list:
        return list_checks(json=options.json)
    url = options.url or os.environ.get("ARCHER_URL") or DEFAULT_URL
    token = os.environ.get("ARCHER_TOKEN") or None
    route = {name: value for name in ("provider", "model") if (value := getattr(options, name))}
    wanted = Options(only=options.only, as_json=options.json, is_strict=options.strict, timeout_s=options.timeout)
    return conform(url, token, route, wanted)


def _schema(options: argparse.Namespace) -> int:
    _use_question_marks(sys.stdout, sys.stderr)
    from archer_ws.schema.command import check, write

    directory = Path(options.directory)
    try:
        return check(directory) if options.check else write(directory)
    except OSError as error:
        return _fail(f"{error.filename or directory}: {error.strerror}", 1)


def _serve(options: argparse.Namespace) -> int:
    if options.reload and (options.ready_json or options.exit_with_parent):
        return _fail("--reload is for development: it does not go with --ready-json or --exit-with-parent", 2)
    from archer_ws.api.listening import AddressUnavailable, bind, raise_file_limit
    from archer_ws.config import SettingsError, load_settings

    overrides = {
        "host": options.host,
        "port": options.port,
        "llm_provider": options.provider,
        "llm_default_model": options.model,
    }
    try:
        settings = load_settings(**overrides)
        sockets = bind(settings.host, settings.port)
    except SettingsError as error:
        return _fail(str(error), 2)
    except AddressUnavailable as error:
        return _fail(str(error), 1)
    raise_file_limit()
    if options.reload:
        return _supervise_reloads(overrides, sockets)
    return _run_server(settings, sockets, as_json=options.ready_json, watch_stdin=options.exit_with_parent)


def _run_server(settings: "Settings", sockets: list[socket.socket], *, as_json: bool, watch_stdin: bool) -> int:
    from archer_ws.api.server import ArcherServer
    from archer_ws.core.line_writer import LineWriter
    from archer_ws.core.logging import FLUSH_S, log_stray_output
    from archer_ws.main import create_app

    # Named, they stand as they are: no host for tests is added.
    app = create_app(settings.model_copy(update={"allowed_hosts": settings.allowed_hosts}))
    default_model = app.state.services.router.get_adapter().default_model

    log_stray_output()
    # Called on the event loop: a standard output that nobody reads must not stop it.
    output = LineWriter()

    def announce(reason: str | None) -> None:
        ready = _ready(settings, default_model, sockets[0].getsockname()[1], reason)
        output.put(sys.stdout, f"{ready_json(ready) if as_json else ready_text(ready)}\n")

    server = ArcherServer(app, drain_s=settings.drain_s, on_ready=announce, watch_stdin=watch_stdin)
    server.run(sockets)
    output.flush(FLUSH_S)
    return 1 if server.was_hurried else 0


def _ready(settings: "Settings", default_model: str, port: int, reason: str | None) -> Ready:
    from archer_ws.api.listening import client_url

    url = client_url(settings.host, port)
    return Ready(
        name=settings.app_name,
        url=url,
        host=settings.host,
        port=port,
        provider=settings.llm_provider,
        model=settings.default_model_for(settings.llm_provider) or default_model,
        reason=reason,
        is_demo=settings.llm_provider == "local" and settings.local_model_path is None,
        needs_token=bool(settings.auth_token or settings.auth_tokens),
        host_is_allowed=url.removeprefix("http://").rpartition(":")[0].lower() in settings.allowed_hosts,
    )


def _supervise_reloads(overrides: dict[str, str | None], sockets: list[socket.socket]) -> int:
    import uvicorn
    from uvicorn.supervisors import ChangeReload

    from archer_ws.core.logging import configure_logging

    # The children read the environment anew, and .env, so that a change there takes effect as well.
    os.environ.update({f"ARCHER_{name.upper()}": value for name, value in overrides.items() if value is not None})
    configure_logging()
    config = uvicorn.Config("archer_ws.main:app", reload=True, log_config=None)
    ChangeReload(config, target=serve_reloaded, sockets=sockets).run()
    return 0


def serve_reloaded(sockets: list[socket.socket] | None) -> None:
    """Serve in a child of the reload supervisor; running streams do not hold up the next start."""
    assert sockets is not None
    from archer_ws.config import SettingsError, load_settings

    try:
        settings = load_settings(drain_s=0)
    except SettingsError as error:
        _fail(str(error), 2)
        return
    _run_server(settings, sockets, as_json=False, watch_stdin=False)


def _chat(options: argparse.Namespace) -> int:
    _use_question_marks(sys.stdin, sys.stdout, sys.stderr)
    text = options.text
    if text is None and not sys.stdin.isatty():
        text = sys.stdin.read()
    if text is not None and not text.strip():
        return _fail("there is no question: give one as an argument or on standard input", 2)
    models = [each for each in (options.model, *(options.compare or ())) if each]
    if options.compare and (text is None or len(models) < 2):
        lacking = "a question" if text is None else "another model: --model or a second --compare"
        return _fail(f"--compare needs {lacking}", 2)
    from archer_ws.client.chatting import ask, compare, converse, messages
    from archer_ws.client.terminal import Terminal

    url = options.url or os.environ.get("ARCHER_URL") or DEFAULT_URL
    token = os.environ.get("ARCHER_TOKEN") or None
    given = {name: getattr(options, name) for name in ("model", "provider", "temperature", "max_tokens")}
    parameters = {name: value for name, value in given.items() if value is not None}
    terminal = Terminal(sys.stdout, sys.stderr)
    if text is None:
        return converse(url, token, parameters, options.system, terminal)
    request = {**parameters, "messages": messages(text, options.system)}
    if options.compare:
        return compare(url, token, request, models, terminal)
    return ask(url, token, request, terminal)

"""`archer-ws chat`: what its options mean, and what of them does not go together."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from archer_ws.client.errors import ClientError
from archer_ws.core.failed_command import fail
from archer_ws.core.media_types import HEAD_BYTES, IMAGES, UnsupportedMediaType, media_type_of
from archer_ws.terminal.chat import ask, compare, converse, messages, tell
from archer_ws.terminal.screen import Terminal
from archer_ws.terminal.tool_calls import AskedTools, can_ask
from archer_ws.terminal.tool_file import load_tools


def run(options: argparse.Namespace, url: str, token: str | None) -> int:
    """Ask the question of the options, or converse line by line; returns the exit status.

    Args:
        url: the server's address.
        token: its token, if it needs one.
    """
    text = options.text
    if text is None and not sys.stdin.isatty():
        text = sys.stdin.read()
    models = [each for each in (options.model, *(options.compare or ())) if each]
    misuse = _misuse(options, text, models)
    if misuse is not None:
        return fail(misuse, 2)
    given = {name: getattr(options, name) for name in ("model", "provider", "temperature", "max_tokens")}
    given["reasoning_effort"] = options.effort
    parameters = {name: value for name, value in given.items() if value is not None}
    terminal = Terminal(sys.stdout, sys.stderr, is_plain=options.plain)
    tools = None
    if options.tools:
        try:
            tools = AskedTools(load_tools(Path(options.tools)), terminal, can_ask=can_ask())
        except ClientError as error:
            tell(error, terminal)
            return 2
    attached = {"images": options.image, "files": options.file}
    if text is None:
        return converse(url, token, parameters, options.system, terminal, attached=attached, tools=tools)
    request = {**parameters, **attached, "messages": messages(text, options.system)}
    if options.compare:
        return compare(url, token, request, models, terminal)
    return ask(url, token, request, terminal, tools)


def _misuse(options: argparse.Namespace, text: str | None, models: Sequence[str]) -> str | None:
    """What is wrong with the usage, if anything."""
    if text is not None and not text.strip():
        return "there is no question: give one as an argument or on standard input"
    if options.compare and (text is None or len(models) < 2):
        lacking = "a question" if text is None else "another model: --model or a second --compare"
        return f"--compare needs {lacking}"
    if options.compare and options.tools:
        return "--tools runs the calls of one model: leave --compare out"
    for option, paths in (("--image", options.image), ("--file", options.file)):
        for path in paths:
            try:
                wanted = _option_for(Path(path))
            except OSError as error:
                return f"{path} can't be read: {error.strerror or error}"
            if wanted not in (option, None):
                return f"{path} is {'a picture' if wanted == '--image' else 'not a picture'}: give it with {wanted}"
    return None


def _option_for(path: Path) -> str | None:
    """The option that takes such a file; None if only the server can say what it is.

    Raises:
        OSError: it can't be read.
    """
    with path.open("rb") as file:
        # What is read of a pipe is gone.
        head = file.read(HEAD_BYTES) if path.is_file() else b""
    try:
        return "--image" if media_type_of("", head) in IMAGES else "--file"
    except UnsupportedMediaType:
        return None

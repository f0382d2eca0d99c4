"""The command line's options and its help pages. Pure: cli.py runs the commands.

Readers of a help page have never seen this program: each option says what it does, and in brackets the setting that it
stands for and the default.
"""

import argparse
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from archer_ws import __version__
from archer_ws.server.announcement import DEFAULT_URL

Command = Callable[[argparse.Namespace], int]

_EXAMPLES = """first steps:
  archer-ws serve --host 127.0.0.1 --provider local     start, with a small demo model that needs nothing else
  archer-ws chat "Why is the sky blue?"                 ask it, in a second terminal
  archer-ws doctor                                      where something does not work: what, and what to do

examples:
  archer-ws serve --provider ollama --model llama3.2
  archer-ws serve --model ~/models/qwen.gguf
  archer-ws chat                                        a conversation

archer-ws COMMAND --help shows a command's options."""
_SERVE_EXAMPLES = """examples:
  archer-ws serve --host 127.0.0.1 --provider local     the demo model that comes along
  archer-ws serve --model ~/models/qwen.gguf            any model in llama.cpp's format (GGUF)
  archer-ws serve --model hf:Qwen/Qwen2.5-0.5B-Instruct-GGUF:q4_k_m
                                                        one from huggingface.co, fetched at the first start
  OPENAI_API_KEY=... archer-ws serve --provider openai --model gpt-4o-mini
  archer-ws serve --port 0 --ready-json --exit-with-parent     started by another program

The names in brackets are settings: environment variables, or lines in the file .env. There are more of them than
options: archer_ws/CONFIGURATION.md and .env.example list all.

Models from a hub need the Python package huggingface_hub. They are kept below HF_HOME (~/.cache/huggingface); a fetch
that was stopped goes on at the next start. HF_ENDPOINT names another hub, HF_TOKEN opens private models.

Ctrl-C (or SIGTERM) stops the server: no new answers, and 30 seconds (DRAIN_S) for those that run. A second Ctrl-C stops
at once."""
_CHAT_EXAMPLES = """examples:
  archer-ws chat "Why is the sky blue?"
  archer-ws chat --system "Answer in one sentence." < question.txt
  archer-ws chat --image photo.jpg "What is this?"
  archer-ws chat                                        a conversation, line by line
  archer-ws chat --tools weather.py "Do I need an umbrella in Oslo?"
  archer-ws chat --compare ollama/llama3.2 --compare ollama/qwen3 "Why is the sky blue?"

Ctrl-C stops an answer; what came of it stays. In a conversation the arrow keys bring earlier lines back, which are kept
in ~/.local/state/archer-ws/chat_history (ARCHER_CHAT_HISTORY names another file, or says off). Where the Python package
prompt_toolkit is installed, a line may have several rows: pasted, or with Alt-Enter.

The server is started by archer-ws serve. Where it wants a token (its AUTH_TOKEN), put that into the variable
ARCHER_TOKEN; there is no option for it, since other users of this machine can see a command line."""
_SESSIONS_EXAMPLES = """examples:
  archer-ws sessions list
  archer-ws sessions show SESSION_ID
  archer-ws sessions search blue sky
  archer-ws sessions export chats.jsonl                 all of them, one a line
  archer-ws sessions import chats.jsonl
  archer-ws sessions delete SESSION_ID
  archer-ws sessions backup ~/chats.db --data-dir ~/.local/share/archer

They ask the server at --url; a token goes into the variable ARCHER_TOKEN, as for chat. With --data-dir they open the
file of a server that does not run, whose start-up line names the folder. Exit status: 0 done, 1 something was not, 2
called wrongly."""
_DOCTOR_EXAMPLES = """examples:
  archer-ws doctor                      before the first start, or when it fails
  archer-ws doctor --port 8080          as serve --port 8080 would find things
  archer-ws doctor --json               for programs

It looks at what serve would use: settings and .env, the address and port, each provider with its key, the model file,
certificates, proxies, disk and clock. One line each: ok, warning or problem, and below it what to do. It changes
nothing, shows no secret and takes some seconds. Exit status: 0 nothing keeps the server from answering, 1 something
does."""
_CONFORMANCE_EXAMPLES = """examples:
  archer-ws conformance --url http://127.0.0.1:8000
  archer-ws conformance --url wss://example.com/api/v1/ws --model llama3.2 --strict
  archer-ws conformance --list
  archer-ws conformance --only ping_is_answered cuts_lose_nothing

It is for those who write a server of the protocol archer.v1, or change this one. It asks the model about 100 times,
mostly for 16 tokens, cancels longer answers soon, and deletes what it made. A check that this server gives no chance to
make is shown as skipped. Exit status: 0 all passed, 1 something failed, 2 there was nothing to check. A token goes into
the variable ARCHER_TOKEN, as for chat."""
_SCHEMA_EXAMPLES = """examples:
  archer-ws schema                 write schemas/ anew, after a change of the messages
  archer-ws schema --check         write nothing; exit status 1 and the differences where there are any
  archer-ws schema ../my-app/api   somewhere else

For those who write a client of their own: JSON Schemas, OpenRPC, OpenAPI, TypeScript and Rust types. The files describe
this version, whatever its settings."""


def parser(commands: Mapping[str, Command]) -> argparse.ArgumentParser:
    """The parser. In its result, `run` is the command's function."""
    top = _command(
        argparse.ArgumentParser(prog="archer-ws"),
        "A server that stands between your programs and language models, and a client for it.",
        _EXAMPLES,
    )
    top.add_argument("--version", action="version", version=f"archer-ws {__version__}")
    adders = {
        "serve": (_take_serve_options, "start the server", "Start the server.", _SERVE_EXAMPLES),
        "chat": (_take_chat_options, "ask a running server", "Ask a running server.", _CHAT_EXAMPLES),
        "sessions": (
            _take_sessions_options,
            "look at stored conversations, and take them elsewhere",
            "List, show, search, export, import, delete and back up stored conversations.",
            _SESSIONS_EXAMPLES,
        ),
        "doctor": (
            _take_doctor_options,
            "find out why something does not work",
            "Check what the server needs, and say what to do about what it lacks.",
            _DOCTOR_EXAMPLES,
        ),
        "conformance": (
            _take_conformance_options,
            "check any server of archer.v1 from outside",
            "Check from outside whether a running server keeps to the protocol archer.v1.",
            _CONFORMANCE_EXAMPLES,
        ),
        "schema": (
            _take_schema_options,
            "write the protocol's schemas and types",
            "Write the protocol's schemas and types.",
            _SCHEMA_EXAMPLES,
        ),
    }
    subparsers = top.add_subparsers(title="commands", metavar="COMMAND")
    for name, (add_options, summary, description, epilog) in adders.items():
        each = _command(subparsers.add_parser(name, help=summary), description, epilog)
        each.set_defaults(run=commands[name])
        add_options(each)
    return top


def _take_serve_options(serve: argparse.ArgumentParser) -> None:
    serve.add_argument(
        "--host", help="the address to listen on; 127.0.0.1 lets in this machine alone (HOST; 0.0.0.0: every machine)"
    )
    serve.add_argument("--port", help="the port to listen on; 0 takes a free one (PORT; 8000)")
    serve.add_argument(
        "--provider",
        help="where models run: local (here), ollama, openai or anthropic (LLM_PROVIDER; ollama, or local for a file)",
    )
    serve.add_argument(
        "--model",
        metavar="MODEL",
        help="the model of requests that name none: one of the provider's (LLM_DEFAULT_MODEL), a GGUF file, or "
        "hf:OWNER/REPO[:FILE] from a hub",
    )
    serve.add_argument("--reload", action="store_true", help="start anew when the code changes (for development)")
    serve.add_argument("--ready-json", action="store_true", help="when ready, print one line of JSON and nothing else")
    serve.add_argument("--exit-with-parent", action="store_true", help="stop when standard input ends")


def _take_chat_options(chat: argparse.ArgumentParser) -> None:
    chat.add_argument("text", nargs="?", help="the question, in quotes; without it, standard input or a conversation")
    _take_url(chat)
    chat.add_argument("--model", help="the model to ask, also as provider/model (the server's default)")
    chat.add_argument("--provider", help="the provider to ask (the server's default)")
    chat.add_argument(
        "--compare",
        action="append",
        metavar="MODEL",
        help="a model to show beside the others: more than once, or with --model",
    )
    chat.add_argument("--system", metavar="TEXT", help="what the model is told first")
    chat.add_argument(
        "--image", action="append", default=[], metavar="FILE", help="a picture beside the (first) question; repeatable"
    )
    chat.add_argument(
        "--file", action="append", default=[], metavar="FILE", help="a document beside the (first) question; repeatable"
    )
    chat.add_argument(
        "--tools", metavar="FILE.py", help="a Python file whose functions the model may call; you are asked before each"
    )
    chat.add_argument("--temperature", type=_temperature, metavar="NUMBER", help="how much chance decides, 0 to 2")
    chat.add_argument(
        "--effort",
        choices=("none", "minimal", "low", "medium", "high", "xhigh", "max"),
        metavar="LEVEL",
        help="how much the model thinks: none, minimal, low, medium, high, xhigh or max",
    )
    chat.add_argument(
        "--max-tokens", type=_count, metavar="NUMBER", help="the longest answer; a token has about 4 letters"
    )
    chat.add_argument("--plain", action="store_true", help="show answers as they come, without colours and headings")


def _take_sessions_options(sessions: argparse.ArgumentParser) -> None:
    _take_place(sessions)
    actions = sessions.add_subparsers(title="what to do", metavar="ACTION", dest="action", required=True)

    def action(name: str, summary: str) -> argparse.ArgumentParser:
        each = actions.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        # Without defaults, which would overrule what stands before the action.
        _take_place(each, default=argparse.SUPPRESS)
        return each

    listing = action("list", "show the conversations, the last changed first")
    listing.add_argument("--limit", type=_count, default=50, metavar="NUMBER", help="how many at most (50)")
    listing.add_argument("--archived", action="store_true", help="those that were put aside alone")
    action("show", "show a conversation's messages").add_argument("session_id", metavar="SESSION_ID")
    search = action("search", "show the messages that have all of some words")
    search.add_argument("words", nargs="+", metavar="WORD", help="the last one may be the beginning of a word")
    search.add_argument("--limit", type=_count, default=50, metavar="NUMBER", help="how many at most (50)")
    export = action("export", "write all conversations as JSON Lines")
    export.add_argument("file", nargs="?", metavar="FILE", help="where to (standard output)")
    take = action("import", "store the conversations of an export")
    take.add_argument("file", nargs="?", metavar="FILE", help="where from (standard input)")
    delete = action("delete", "forget conversations, for good")
    delete.add_argument("session_ids", nargs="*", metavar="SESSION_ID")
    delete.add_argument("--all", action="store_true", help="all of them; needs --yes")
    delete.add_argument("--yes", action="store_true", help="that all of them is meant")
    action("backup", "copy the file of all conversations; needs --data-dir").add_argument("file", metavar="FILE")


def _take_place(parser: argparse.ArgumentParser, **default: Any) -> None:
    """The options of all actions, before the action or behind it."""
    _take_url(parser, **default)
    parser.add_argument(
        "--data-dir", metavar="DIR", help="open the file in this folder, of a server that is stopped", **default
    )
    parser.add_argument(
        "--principal", metavar="NAME", help="whose, in a file of several (AUTH_TOKENS has the names)", **default
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines", **default)


def _take_doctor_options(doctor: argparse.ArgumentParser) -> None:
    doctor.add_argument("--host", help="the address that serve would get (HOST)")
    doctor.add_argument("--port", help="the port that serve would get (PORT)")
    doctor.add_argument("--provider", help="the provider that serve would get (LLM_PROVIDER)")
    doctor.add_argument("--model", metavar="MODEL", help="the model that serve would get; nothing is fetched")
    doctor.add_argument("--json", action="store_true", help="print JSON instead of lines")


def _take_conformance_options(conformance: argparse.ArgumentParser) -> None:
    _take_url(conformance)
    conformance.add_argument("--model", help="the model to chat with (the server's default)")
    conformance.add_argument("--provider", help="the provider to chat with (the server's default)")
    conformance.add_argument("--only", nargs="+", action="extend", metavar="NAME", default=[], help="these checks only")
    conformance.add_argument("--list", action="store_true", help="show the checks, and do nothing")
    conformance.add_argument("--json", action="store_true", help="print JSON instead of the table")
    conformance.add_argument("--strict", action="store_true", help="count a skipped check as failed")
    conformance.add_argument(
        "--timeout", type=_seconds, default=60.0, metavar="SECONDS", help="how long each check may take (60)"
    )


def _take_schema_options(schema: argparse.ArgumentParser) -> None:
    schema.add_argument("directory", nargs="?", default="schemas", metavar="DIRECTORY", help="where to (schemas)")
    schema.add_argument("--check", action="store_true", help="only say what differs, and fail if something does")


def _take_url(parser: argparse.ArgumentParser, **default: Any) -> None:
    parser.add_argument("--url", help=f"where the server is (ARCHER_URL; {DEFAULT_URL})", **default)


def _command(parser: argparse.ArgumentParser, description: str, epilog: str) -> argparse.ArgumentParser:
    parser.description, parser.epilog = description, epilog
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    return parser


def _count(text: str) -> int:
    with suppress(ValueError):
        if (number := int(text)) >= 1:
            return number
    raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, 1 or more")


def _temperature(text: str) -> float:
    with suppress(ValueError):
        if 0 <= (number := float(text)) <= 2:
            return number
    raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 2")


def _seconds(text: str) -> float:
    with suppress(ValueError):
        if 0 < (seconds := float(text)) < math.inf:
            return seconds
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")

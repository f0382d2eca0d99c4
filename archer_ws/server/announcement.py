"""What the server prints once it is ready: lines for a person, or one line of JSON for a program.

Pure: facts in, text out.
"""

import json
import os
from dataclasses import dataclass
from urllib.parse import urlsplit

#: The URL that `archer-ws chat` uses by default.
DEFAULT_URL = "http://127.0.0.1:8000"
QUESTION = "Why is the sky blue?"


@dataclass(frozen=True, slots=True)
class Ready:
    """A server that listens, and whether its default provider can answer."""

    name: str
    #: The URL for clients on this machine.
    url: str
    host: str
    port: int
    provider: str
    model: str
    #: Why the provider cannot answer, and what to do; None when it can.
    reason: str | None = None
    #: Whether the model is the small demo model that this package brings along.
    is_demo: bool = False
    #: What does not work although the provider can answer, and what to do: a line each.
    notes: tuple[str, ...] = ()
    needs_token: bool = False
    #: Whether `url` is the console in a browser.
    has_console: bool = True
    #: Whether the server accepts requests whose Host is the host of `url`.
    host_is_allowed: bool = True
    #: The command by which the person started this program, so that printed commands can be pasted.
    command: str = "archer-ws"


def ready_text(ready: Ready) -> str:
    """The lines for a person: the address, a command to try, and what else is worth knowing."""
    if ready.reason is None:
        lines = [f"{ready.name} is ready at {ready.url} (provider {ready.provider}, model {ready.model})"]
    else:
        lines = [
            f"{ready.name} listens at {ready.url}, but its provider {ready.provider} can't answer yet:",
            f"  {ready.reason}",
            f"It goes on serving. {ready.url}/health/ready tells when that is mended, {ready.command} doctor the rest.",
        ]
    lines += ready.notes
    url = "" if ready.url == DEFAULT_URL else f" --url {ready.url}"
    token = " (with the variable ARCHER_TOKEN set to a token of this server)" if ready.needs_token else ""
    word = "Try" if ready.reason is None else "Then try"
    lines.append(f'{word}, in a second terminal: {ready.command} chat{url} "{QUESTION}"{token}')
    shows = "a page to chat with it" if ready.has_console else "it says what is where"
    lines.append(f"Or open {ready.url} in a browser: {shows}. Ctrl-C stops the server.")
    if ready.is_demo:
        lines.append(
            "This is the demo model, a very small one: it shows that everything works, and knows little. For real "
            "answers start with --model FILE.gguf, or --provider ollama, openai or anthropic."
        )
    if not ready.host_is_allowed:
        # Not `ready.host`: of 0.0.0.0, clients on this machine name 127.0.0.1.
        named = urlsplit(ready.url).netloc.rpartition(":")[0]
        lines.append(f"Requests that name {named} are refused until the setting ALLOWED_HOSTS has it.")
    return "\n".join(lines)


def ready_json(ready: Ready) -> str:
    """One line of JSON for the program that started the server."""
    event: dict[str, object] = {
        "event": "ready",
        "url": ready.url,
        "host": ready.host,
        "port": ready.port,
        "pid": os.getpid(),
        "provider": ready.provider,
        "model": ready.model,
        "provider_ready": ready.reason is None,
    }
    if ready.reason is not None:
        event["reason"] = ready.reason
    return json.dumps(event)

"""What `archer-ws serve --model` names: a provider's model, a GGUF file, or a model on a hub, which is fetched first.

Owns: distinguishing the three, the progress bar, and refusing what can't work before the server starts. local/model.py
checks the file, local/hub.py handles the hub.
"""

import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from archer_ws.core.exceptions import ProviderFailure
from archer_ws.core.home import with_home
from archer_ws.llm_gateway.local.hub import PREFIX, fetch, size_text
from archer_ws.llm_gateway.local.model import check_gguf, model_name

#: The shortest time between two updates of the bar, in seconds.
_REDRAW_S = 0.1
_BAR_CELLS = 30


class ModelOptionError(Exception):
    """The model that `--model` (or LOCAL_MODEL_PATH) names can't be used; the message's second line says what to do."""


def settings_for(model: str | None, provider: str | None, local_model_path: str | None = None) -> dict[str, str | None]:
    """The settings that `--model` and `--provider` stand for. A model on a hub is fetched.

    Args:
        model: the option's value.
        provider: the option's value.
        local_model_path: the setting of that name, if it applies; it may also name a model on a hub.

    Raises:
        ModelOptionError: the file does not exist, is not GGUF, or can't be fetched.
    """
    if model is not None and model.startswith(PREFIX):
        _require_local(model, provider)
        return settings_of_file(str(fetch_with_bar(model)), "local")
    if model is not None and names_a_file(model, provider):
        return settings_of_file(model, provider)
    given = {"llm_provider": provider, "llm_default_model": model}
    if local_model_path and local_model_path.startswith(PREFIX):
        given["local_model_path"] = str(fetch_with_bar(local_model_path))
    return given


def names_a_file(model: str, provider: str | None) -> bool:
    """Whether this is a path and not a model's name, which may have slashes, too (`hf.co/owner/repo`)."""
    if model.lower().endswith(".gguf") or re.match(r"(~|\.{1,2})?[/\\]|[A-Za-z]:[/\\]", model):
        return True
    return (provider or "").lower() == "local" and with_home(model).exists()


def settings_of_file(model: str, provider: str | None) -> dict[str, str | None]:
    """The settings for a GGUF file.

    Raises:
        ModelOptionError: the file does not exist, is not GGUF, or another provider was named.
    """
    _require_local(model, provider)
    path = with_home(model).absolute()
    if path.is_dir():
        inside = ", ".join(sorted(file.name for file in path.glob("*.gguf"))[:20])
        raise ModelOptionError(f"--model: {path} is a folder\nName a GGUF file in it: {inside or 'it has none'}.")
    try:
        check_gguf(path, "--model")
    except ProviderFailure as failure:
        raise _error(failure) from failure
    return {"llm_provider": "local", "llm_default_model": model_name(str(path)), "local_model_path": str(path)}


def foreign_local_model(configured: str | None, local_model_path: str | None) -> str | None:
    """What is wrong, and what to do, where the model that was configured for the local provider is not the one of its
    file; else None."""
    model = model_name(local_model_path)
    if configured is None or configured.casefold() in (model.casefold(), "local"):
        return None
    return (
        f"the local model is {model}, and not {configured}. Name a GGUF file or hf:OWNER/REPO with --model, or leave "
        "out --model and LLM_DEFAULT_MODEL."
    )


def fetch_with_bar(name: str) -> Path:
    """The file of a model on a hub, fetched if it is not on this machine, with a progress bar on standard error.

    Raises:
        ModelOptionError: it can't be fetched.
        KeyboardInterrupt: the user stopped it; the part that was fetched is kept.
    """
    bar = Bar(sys.stderr)
    try:
        return fetch(name, bar.show, bar.note)
    except ProviderFailure as failure:
        raise _error(failure) from failure
    except KeyboardInterrupt:
        bar.note("stopped: the part that was fetched is kept, and the same command continues from there")
        raise
    finally:
        bar.end()


class Bar:
    """A progress bar on a terminal; elsewhere, a line for each tenth."""

    def __init__(self, out: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._out = out
        self._clock = clock
        self._is_tty = out.isatty()
        self._file = ""
        self._started = (0.0, 0)
        self._drawn_at = -_REDRAW_S
        self._tenth = -1
        self._is_open = False

    def show(self, file: str, done: int, total: int) -> None:
        """Show that so many bytes of the file were fetched."""
        now = self._clock()
        if file != self._file:
            self.end()
            self._file, self._started, self._tenth = file, (now, done), -1
            already = f", {size_text(done)} of it are here already" if 0 < done < total else ""
            if done < total:
                self.note(f"fetching {file} ({size_text(total)}{already})")
        is_whole = done >= total
        if self._is_tty and (is_whole or now - self._drawn_at >= _REDRAW_S):
            self._drawn_at = now
            self._draw(done, total, now)
        elif not self._is_tty and 10 * done // max(total, 1) > self._tenth:
            self._tenth = 10 * done // max(total, 1)
            self._out.write(f"  {10 * self._tenth:3}% of {size_text(total)}\n")
            self._out.flush()

    def note(self, text: str) -> None:
        """Write a line of its own."""
        self.end()
        self._out.write(f"archer-ws: {text}\n")
        self._out.flush()

    def end(self) -> None:
        """End the line of the bar."""
        if self._is_open:
            self._out.write("\n")
            self._is_open = False

    def _draw(self, done: int, total: int, now: float) -> None:
        full = round(_BAR_CELLS * done / max(total, 1))
        seconds, came = now - self._started[0], done - self._started[1]
        rate = came / seconds if seconds > 0.5 else 0
        left = f", {_time_text((total - done) / rate)} left" if rate and done < total else ""
        speed = f"  {size_text(rate)}/s{left}" if rate else ""
        bar = "█" * full + "░" * (_BAR_CELLS - full)
        self._out.write(f"\r\x1b[2K  {bar} {done / max(total, 1):4.0%} of {size_text(total)}{speed}")
        self._out.flush()
        self._is_open = True


def _require_local(model: str, provider: str | None) -> None:
    if provider is not None and provider.lower() != "local":
        raise ModelOptionError(f"--model {model} is run by --provider local, not {provider}\nLeave --provider out.")


def _time_text(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def _error(failure: ProviderFailure) -> ModelOptionError:
    return ModelOptionError(f"{failure.message}\n{failure.hint or ''}".strip())

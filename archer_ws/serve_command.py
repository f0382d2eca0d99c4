"""`archer-ws serve`: from the options to a running server, what is printed when it is ready, and the exit status."""

import argparse
import os
import shutil
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from archer_ws.config import Settings, SettingsError, load_settings
from archer_ws.core.exceptions import ArcherError
from archer_ws.core.failed_command import fail
from archer_ws.core.limits import Limits
from archer_ws.core.line_writer import LineWriter
from archer_ws.core.shell_words import shell_word
from archer_ws.model_option import ModelOptionError, foreign_local_model, settings_for
from archer_ws.server.announcement import Ready, ready_json, ready_text
from archer_ws.server.exit_limit import limit_exit
from archer_ws.server.listening import (
    AddressUnavailable,
    TooFewFiles,
    TooFewThreads,
    bind,
    check_file_limit,
    check_thread_limit,
    client_url,
    raise_file_limit,
)
from archer_ws.server.standard_input import StartWatch

if TYPE_CHECKING:
    from archer_ws.sessions.storage.store import SessionStore


def run(options: argparse.Namespace) -> int:
    """Serve until a signal; returns the exit status."""
    if options.reload and (options.ready_json or options.exit_with_parent):
        return fail("--reload is for development: it does not go with --ready-json or --exit-with-parent", 2)
    overrides = {"host": options.host, "port": options.port}
    try:
        # First without the model: other wrong settings must not be reported only after a long download.
        settings = load_settings(**overrides, llm_provider=options.provider)
        if "store" not in settings.model_fields_set:
            overrides["store"] = "sqlite"
        raise_file_limit()
        check_file_limit()
        check_thread_limit()
        for each in bind(settings.host, settings.port):
            each.close()
        # From here on the start may take long.
        starting = StartWatch() if options.exit_with_parent else None
        runs_locally = settings.llm_provider == "local"
        overrides |= settings_for(options.model, options.provider, settings.local_model_path if runs_locally else None)
        settings = load_settings(**overrides)
        foreign = foreign_local_model(settings.configured_model_for("local"), settings.local_model_path)
        if options.model and foreign:
            raise ModelOptionError(f"--model: there is no file {options.model}\n{foreign[:1].upper()}{foreign[1:]}")
        sockets = bind(settings.host, settings.port)
    except (SettingsError, ModelOptionError) as error:
        return fail(str(error), 2)
    except (AddressUnavailable, TooFewFiles, TooFewThreads) as error:
        return fail(str(error), 1)
    if options.reload:
        return _supervise_reloads(overrides, sockets)
    return _run_server(settings, sockets, as_json=options.ready_json, starting=starting)


def _run_server(settings: Settings, sockets: list[socket.socket], *, as_json: bool, starting: StartWatch | None) -> int:
    # Here, so that wrong settings are told before the second that these take.
    from archer_ws.core.logging import FLUSH_S, log_stray_output
    from archer_ws.main import create_app
    from archer_ws.server.server import ArcherServer

    # Passed explicitly, so the host for tests is not added.
    limits = Limits()
    try:
        app = create_app(settings.model_copy(update={"allowed_hosts": settings.allowed_hosts}), limits=limits)
    except SettingsError as error:
        for each in sockets:
            each.close()
        return fail(str(error), 2)
    default_model = app.state.services.router.get_adapter().default_model

    try:
        app.state.services.store.open_now()
        if app.state.services.store.trouble is None:
            app.state.services.files.open_now()
    except ArcherError as error:
        return fail(f"{error.message}\n{error.hint or ''}".rstrip(), 1)
    log_stray_output()
    # Called on the event loop: a standard output that nobody reads must not block it.
    output = LineWriter()

    def announce(reason: str | None) -> None:
        notes = _notes(settings, app.state.services.store)
        ready = _ready(settings, default_model, sockets[0].getsockname()[1], reason, notes)
        output.put(sys.stdout, f"{ready_json(ready) if as_json else ready_text(ready)}\n")

    watch_stdin = starting is not None
    server = ArcherServer(
        app,
        drain_s=settings.drain_s,
        on_ready=announce,
        on_stopped=limit_exit,
        watch_stdin=watch_stdin,
        limits=limits,
    )
    if starting is not None:
        starting.end()
    server.run(sockets)
    output.flush(FLUSH_S)
    return 1 if server.was_hurried else 0


def _notes(settings: Settings, store: "SessionStore") -> tuple[str, ...]:
    """What does not work although the provider can answer."""
    notes = []
    if foreign := foreign_local_model(settings.configured_model_for("local"), settings.local_model_path):
        notes.append(f"Requests that name no model will fail: {foreign}")
    if trouble := store.trouble:
        told = f"Conversations can't be stored in {store.place['place']}: {trouble.message}. {trouble.hint or ''}"
        notes.append(told.rstrip())
    return tuple(notes)


def _ready(settings: Settings, default_model: str, port: int, reason: str | None, notes: tuple[str, ...]) -> Ready:
    url = client_url(settings.host, port)
    return Ready(
        name=settings.app_name,
        url=url,
        host=settings.host,
        port=port,
        provider=settings.llm_provider,
        model=settings.default_model_for(settings.llm_provider) or default_model,
        reason=reason,
        notes=notes,
        is_demo=settings.llm_provider == "local" and settings.local_model_path is None,
        needs_token=bool(settings.auth_token or settings.auth_tokens),
        has_console=settings.console,
        command=_own_name(),
        host_is_allowed=url.removeprefix("http://").rpartition(":")[0].lower() in settings.allowed_hosts,
    )


def _own_name() -> str:
    """The command that starts this program, for a shell: with its path if it is not on the search path."""
    called = Path(sys.argv[0])
    if called.stem != "archer-ws":  # python -m archer_ws, or another program that has us inside
        return "archer-ws"
    found = shutil.which(called.name)
    return "archer-ws" if found and Path(found).resolve() == called.resolve() else shell_word(str(called))


def _supervise_reloads(overrides: dict[str, str | None], sockets: list[socket.socket]) -> int:
    import uvicorn
    from uvicorn.supervisors import ChangeReload

    from archer_ws.core.logging import configure_logging

    # The child processes read the environment and .env again, so that changes there take effect as well.
    os.environ.update({f"ARCHER_{name.upper()}": value for name, value in overrides.items() if value is not None})
    configure_logging()
    config = uvicorn.Config("archer_ws.main:app", reload=True, log_config=None)
    ChangeReload(config, target=serve_reloaded, sockets=sockets).run()
    return 0


def serve_reloaded(sockets: list[socket.socket] | None) -> None:
    """Serve in a child process of the reload supervisor; running streams do not delay the next start."""
    assert sockets is not None
    try:
        settings = load_settings(drain_s=0)
    except SettingsError as error:
        fail(str(error), 2)
        return
    _run_server(settings, sockets, as_json=False, starting=None)

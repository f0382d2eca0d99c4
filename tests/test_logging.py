import asyncio
import io
import json
import logging
import re
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import httpx
import pytest
import structlog
from fastapi.exceptions import ResponseValidationError
from pydantic import BaseModel, ValidationError
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send
from websockets.asyncio.client import connect

from archer_ws.api.http.access_log import RequestLog
from archer_ws.core import logging as archer_logging
from archer_ws.core import secrets
from archer_ws.core.redaction import REDACTED, exception_text, redact
from tests.test_api.conftest import serving

SECRET = "the user's secret prompt"


#: Whether our handler is the only one, as in a server; else pytest's are there too, and each line is a record for all.
is_alone = False


@pytest.fixture(autouse=True, params=[True, False], ids=["alone", "beside others"])
def _other_tests_log_as_before(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys.modules[__name__], "is_alone", request.param)
    # structlog itself stays configured: loggers that were cached hold on to its processors.
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in ("archer_ws", "openai", "anthropic", "httpx", "httpx2", "httpcore", "httpcore2"):
        logging.getLogger(name).setLevel(logging.NOTSET)
    structlog.contextvars.clear_contextvars()


def configure_logging(*args: Any) -> None:
    if is_alone:
        logging.getLogger().handlers.clear()
    archer_logging.configure_logging(*args)


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


def entries(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def our_log() -> structlog.stdlib.BoundLogger:
    return structlog.stdlib.get_logger("archer_ws.somewhere")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_json_lines_carry_level_logger_utc_time_and_what_is_bound(out: io.StringIO) -> None:
    configure_logging("INFO", "json", out)
    structlog.contextvars.bind_contextvars(request_id="req_1", stream_id="str_1")
    our_log().info("hello", model="m")
    (entry,) = entries(out)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", entry.pop("timestamp"))
    assert entry == {
        "event": "hello",
        "level": "info",
        "logger": "archer_ws.somewhere",
        "model": "m",
        "request_id": "req_1",
        "stream_id": "str_1",
    }


def test_other_peoples_logs_come_in_the_same_form(out: io.StringIO) -> None:
    configure_logging("INFO", "json", out)
    structlog.contextvars.bind_contextvars(request_id="req_1")
    logging.getLogger("uvicorn.error").warning("cannot bind %s", "port 1")
    (entry,) = entries(out)
    assert entry["event"] == "cannot bind port 1"
    assert (entry["level"], entry["logger"], entry["request_id"]) == ("warning", "uvicorn.error", "req_1")


def test_the_console_has_colours_only_on_a_terminal(out: io.StringIO) -> None:
    configure_logging("INFO", "console", out)
    our_log().warning("plain")
    terminal = Terminal()
    configure_logging("INFO", "console", terminal)
    our_log().warning("coloured")
    assert "plain" in out.getvalue()
    assert "\x1b[" not in out.getvalue()
    assert "\x1b[" in terminal.getvalue()


def test_configuring_again_replaces_stream_form_and_level_even_for_loggers_in_use(out: io.StringIO) -> None:
    log = our_log()
    first = io.StringIO()
    configure_logging("INFO", "console", first)
    log.info("one")
    log.debug("not yet")
    configure_logging("DEBUG", "json", out)
    configure_logging("DEBUG", "json", out)
    log.debug("two")
    assert [line.count("one") for line in first.getvalue().splitlines()] == [1]
    assert [entry["event"] for entry in entries(out)] == ["two"]


def test_without_a_stream_lines_go_to_what_standard_error_is_now(monkeypatch: pytest.MonkeyPatch) -> None:
    configure_logging("INFO", "json")
    swapped = io.StringIO()
    monkeypatch.setattr("sys.stderr", swapped)
    our_log().info("hello")
    assert entries(swapped)[0]["event"] == "hello"


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="LOUD"):
        configure_logging("LOUD")


@pytest.mark.parametrize("name", ["openai._base_client", "anthropic", "httpx", "httpx2", "httpcore2.http11"])
def test_libraries_that_log_bodies_never_go_below_warning(out: io.StringIO, name: str) -> None:
    configure_logging("DEBUG", "json", out)
    logger = logging.getLogger(name)
    # Told so, the SDKs do not even format what they would log.
    assert not logger.isEnabledFor(logging.INFO)
    logger.debug("request %s", SECRET)
    logger.info("HTTP Request: POST")
    logger.warning("slow")
    # What OPENAI_LOG=debug does when the SDK is imported, long after us.
    logger.setLevel(logging.DEBUG)
    logger.debug("request %s", SECRET)
    logger.setLevel(logging.NOTSET)
    assert [entry["event"] for entry in entries(out)] == ["slow"]


def test_other_libraries_never_go_below_info_because_websockets_logs_frames_at_debug(out: io.StringIO) -> None:
    configure_logging("DEBUG", "json", out)
    logger = logging.getLogger("uvicorn.error")
    assert not logger.isEnabledFor(logging.DEBUG)
    logger.setLevel(logging.DEBUG)
    logger.debug("< TEXT %s", SECRET)
    logger.setLevel(logging.NOTSET)
    our_log().debug("ours")
    assert [entry["event"] for entry in entries(out)] == ["ours"]


def test_a_stricter_level_holds_for_everybody(out: io.StringIO) -> None:
    configure_logging("ERROR", "json", out)
    for log in (logging.getLogger("uvicorn.error"), logging.getLogger("openai"), logging.getLogger("archer_ws.x")):
        log.warning("no")
        log.error("yes")
    assert [entry["event"] for entry in entries(out)] == ["yes"] * 3


def test_uvicorns_own_handlers_are_replaced_and_its_access_lines_silenced(out: io.StringIO) -> None:
    stray = io.StringIO()
    for name in ("uvicorn", "uvicorn.access"):
        logging.getLogger(name).addHandler(logging.StreamHandler(stray))
        logging.getLogger(name).propagate = name == "uvicorn.access"
    configure_logging("INFO", "json", out)
    logging.getLogger("uvicorn.error").info("started")
    logging.getLogger("uvicorn.access").info("GET /?token=1")
    assert stray.getvalue() == ""
    assert [entry["event"] for entry in entries(out)] == ["started"]
    # Told so, uvicorn does not format the line at all.
    assert not logging.getLogger("uvicorn.access").hasHandlers()


async def test_no_query_string_reaches_the_log_of_a_real_server(out: io.StringIO) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await PlainTextResponse("ok")(scope, receive, send)
        else:
            await send({"type": "websocket.accept"})

    configure_logging("DEBUG", "json", out)
    async with asyncio.timeout(10), serving(RequestLog(app)) as address, httpx.AsyncClient() as client:
        await client.get(f"http://{address}/plain?token=secret")
        async with connect(f"ws://{address}/socket?token=secret") as socket:
            await socket.wait_closed()
    assert "secret" not in out.getvalue()
    assert [entry["path"] for entry in entries(out) if entry["event"] == "request"] == ["/plain", "/socket"]


@pytest.mark.parametrize("fmt", ["json", "console"])
def test_telling_keys_are_masked_wherever_they_stand(out: io.StringIO, fmt: Any) -> None:
    configure_logging("INFO", fmt, out)
    our_log().info(
        "hello",
        api_key=SECRET,
        Authorization=SECRET,
        token=SECRET,
        password=SECRET,
        prompt=SECRET,
        content=SECRET,
        messages=[SECRET],
        openai_api_key=SECRET,
        auth_token=SECRET,
        inner={"x-api-key": SECRET, "list": [{"content": SECRET}]},
        raw=SECRET.encode(),
    )
    assert "secret" not in out.getvalue()
    assert out.getvalue().count(REDACTED) >= 11


@pytest.mark.parametrize("fmt", ["json", "console"])
@pytest.mark.parametrize(
    "facts",
    [{"token": SECRET}, {"inner": {"token": SECRET}}, {"raw": SECRET.encode()}],
    ids=lambda facts: next(iter(facts)),
)
def test_one_telling_field_is_enough(out: io.StringIO, fmt: Any, facts: dict[str, Any]) -> None:
    configure_logging("INFO", fmt, out)
    our_log().info("hello", **dict.fromkeys(facts, "harmless"))
    our_log().info("hello", **facts)
    assert SECRET not in out.getvalue()


def test_bound_values_are_masked_too(out: io.StringIO) -> None:
    configure_logging("INFO", "json", out)
    structlog.contextvars.bind_contextvars(token=SECRET)
    our_log().bind(password=SECRET).info("hello")
    assert SECRET not in out.getvalue()


def test_masking_leaves_counts_alone() -> None:
    facts = {"event": "done", "prompt_tokens": 3, "max_tokens": 9, "content_type": "text", "first_token_ms": 4.5}
    assert redact(None, "info", dict(facts)) == facts


def test_models_are_logged_by_name_only(out: io.StringIO) -> None:
    class ChatMessage(BaseModel):
        content: str

    configure_logging("INFO", "json", out)
    our_log().info("hello", request=ChatMessage(content=SECRET), all=[ChatMessage(content=SECRET)])
    (entry,) = entries(out)
    assert (entry["request"], entry["all"]) == ("<ChatMessage>", ["<ChatMessage>"])


def test_what_nests_without_end_is_cut_off() -> None:
    loop: dict[str, Any] = {}
    loop["again"] = loop
    assert "…" in str(redact(None, "info", {"event": "x", "value": loop}))


def _fail() -> None:
    prompt = SECRET
    raise RuntimeError(f"it broke after {len(prompt)} characters")


@pytest.mark.parametrize("fmt", ["json", "console"])
def test_exceptions_are_logged_with_traceback_but_without_local_variables(out: io.StringIO, fmt: Any) -> None:
    configure_logging("INFO", fmt, out)
    for log in (our_log(), logging.getLogger("uvicorn.error")):
        try:
            _fail()
        except RuntimeError:
            log.exception("failed")
    text = out.getvalue()
    assert text.count("in _fail") == text.count("RuntimeError: it broke") == 2
    assert SECRET not in text
    if fmt == "json":
        assert all(entry["exception"].startswith("Traceback") for entry in entries(out))


def _refuse_response(error: dict[str, Any]) -> None:
    raise ResponseValidationError([error])


@pytest.mark.parametrize("fmt", ["json", "console"])
def test_a_validation_error_is_logged_without_the_value_it_refuses(out: io.StringIO, fmt: Any) -> None:
    class Model(BaseModel):
        number: int
        names: list[str]

    configure_logging("INFO", fmt, out)
    for make in (
        lambda: Model.model_validate({"number": SECRET, "names": {SECRET: [SECRET]}}),
        lambda: _refuse_response({"type": "x", "loc": ("response",), "msg": "no", "input": {"content": SECRET}}),
    ):
        try:
            make()
        except (ValidationError, ResponseValidationError):
            our_log().exception("failed")
    assert "2 validation errors for Model" in out.getvalue()
    assert "1 validation error:" in out.getvalue()
    assert "secret" not in out.getvalue()


def test_a_line_that_might_repeat_values_everywhere_is_read_once() -> None:
    # If each beginning were followed to the end of the line, this would take many minutes.
    beginnings = "input_value=" * 100_000
    try:
        raise RuntimeError(f"{beginnings}\ninput_value='my prompt', input_type=str, 'input': 'my prompt'\n{beginnings}")
    except RuntimeError as error:
        shown = exception_text((RuntimeError, error, None))

    masked = f"input_value={REDACTED}, input_type=str, 'input': {REDACTED}"
    assert shown == f"RuntimeError: {beginnings}\n{masked}\n{beginnings}"


def test_a_clients_text_can_neither_forge_console_lines_nor_steer_the_terminal(out: io.StringIO) -> None:
    configure_logging("INFO", "console", out)
    our_log().info("request\x1b[2J", path="/x\n2026 [error] forged", origin="a\x1b]0;b\x07", lone="\ud800")
    logging.getLogger("asyncio").warning("first\nsecond")
    assert len(out.getvalue().splitlines()) == 2
    assert "\x1b" not in out.getvalue()
    assert "\x07" not in out.getvalue()
    out.getvalue().encode()


def test_json_lines_can_always_be_written(out: io.StringIO) -> None:
    configure_logging("INFO", "json", out)
    our_log().info("lone", text="\ud800", odd=object())
    out.getvalue().encode("ascii")
    assert entries(out)[0]["event"] == "lone"


@pytest.mark.parametrize("fmt", ["json", "console"])
def test_a_known_key_is_masked_in_a_traceback_and_what_looks_like_one_too(out: io.StringIO, fmt: Any) -> None:
    key = 'canary-"key"-0001'
    secrets.remember(key)
    configure_logging("INFO", fmt, out)
    try:
        raise ValueError(f"401: {{'message': 'Incorrect key {key}, not sk-live-0123456789'}}")
    except ValueError:
        our_log().exception("failed", said=f"it was {key}")
    finally:
        secrets.forget(key)
    assert "Incorrect key" in out.getvalue()
    assert "canary" not in out.getvalue()
    assert "0123456789" not in out.getvalue()


def test_what_cannot_be_formatted_is_told_and_fails_nobody(out: io.StringIO) -> None:
    class Unspeakable:
        def __repr__(self) -> str:
            raise RuntimeError("no words")

    root = logging.getLogger()
    root.handlers.clear()  # pytest's own handler raises what ours must not
    configure_logging("INFO", "console", out)
    our_log().info("fine", value=Unspeakable())
    our_log().info("and on")
    assert "could not be formatted (RuntimeError)" in out.getvalue()
    assert "and on" in out.getvalue()


def test_a_line_of_a_record_names_its_caller(out: io.StringIO, caplog: pytest.LogCaptureFixture) -> None:
    configure_logging("INFO", "json", out)
    logging.getLogger().addHandler(caplog.handler)
    for write in (our_log().info, our_log().error, our_log().bind(a=1).warning, our_log().critical):
        write("hello")
        (record,) = caplog.records
        assert record.funcName == "test_a_line_of_a_record_names_its_caller"
        caplog.clear()


def test_processors_before_ours_see_each_line_and_may_drop_it(out: io.StringIO) -> None:
    def seen(_logger: Any, _method: str, event_dict: structlog.typing.EventDict) -> structlog.typing.EventDict:
        if event_dict["event"] == "dropped":
            raise structlog.DropEvent
        return {**event_dict, "seen": True}

    log = our_log().bind(of="us")
    configure_logging("INFO", "json", out)
    processors = structlog.get_config()["processors"]
    processors.insert(0, seen)
    log.info("dropped")
    log.info("hello")
    del processors[0]
    log.debug("not logged")
    log.info("hello")
    first, second = entries(out)
    assert first.pop("seen") is True
    assert "seen" not in second
    assert {name: value for name, value in first.items() if name != "timestamp"} == {
        name: value for name, value in second.items() if name != "timestamp"
    }


def test_a_stack_is_that_of_the_lines_caller(out: io.StringIO) -> None:
    configure_logging("INFO", "json", out)
    our_log().info("here", stack_info=True)
    (entry,) = entries(out)
    assert entry["stack"].splitlines()[-1].strip() == 'our_log().info("here", stack_info=True)'


@pytest.mark.parametrize("fmt", ["json", "console"])
def test_what_others_bind_to_the_context_is_no_field(out: io.StringIO, fmt: Any) -> None:
    configure_logging("INFO", fmt, out)
    other = ContextVar[str]("request_path")
    token = other.set(SECRET)
    structlog.contextvars.bind_contextvars(request_id="req_1", stream_id="str_1")
    structlog.contextvars.unbind_contextvars("stream_id")
    our_log().info("hello", request_id="req_2")
    other.reset(token)
    assert "secret" not in out.getvalue()
    assert "req_2" in out.getvalue()
    assert "req_1" not in out.getvalue()
    assert "stream_id" not in out.getvalue()

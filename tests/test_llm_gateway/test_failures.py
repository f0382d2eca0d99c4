"""Transport errors and HTTP statuses become the right exceptions, from real sockets where it can be."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import httpx
import httpx2
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archer_ws.core.exceptions import (
    ArcherError,
    ContentTooLarge,
    ContextTooLong,
    ModelNotFound,
    ProviderAuth,
    ProviderError,
    ProviderQuota,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderUnavailable,
)
from archer_ws.core.limits import PROVIDER_MESSAGE_CHARS
from archer_ws.llm_gateway.failures import (
    ProviderIdentity,
    context_too_long,
    failure_from_status,
    failure_from_transport,
    retry_after_ms,
    trimmed,
    unreadable,
)
from tests.fakes.scripted_server import Abort, Reply, Wait, forever, scripted_server

IDENTITY = ProviderIdentity(
    name="acme",
    address="http://acme.test/v1",
    auth_hint="set ACME_KEY",
    unavailable_hint="start acme",
    model_hint="pull {model}",
)
NOW = datetime(2026, 11, 1, 12, 0, 0, tzinfo=UTC)

Get = Callable[[str], Awaitable[object]]


async def with_httpx(url: str) -> object:
    async with httpx.AsyncClient(trust_env=False, timeout=0.5) as client:
        return await client.get(url)


async def with_httpx2(url: str) -> object:
    async with httpx2.AsyncClient(trust_env=False, timeout=0.5) as client:
        return await client.get(url)


async def with_openai(url: str) -> object:
    http = openai.DefaultAsyncHttpxClient(trust_env=False)
    async with openai.AsyncOpenAI(api_key="k", base_url=url, max_retries=0, timeout=0.5, http_client=http) as client:
        return await client.get("/", cast_to=httpx2.Response)


@pytest.fixture(params=[with_httpx, with_httpx2, with_openai])
def get(request: pytest.FixtureRequest) -> Get:
    """A GET by each of the clients that adapters use."""
    found: Get = request.param
    return found


async def failure_of(request: Awaitable[object]) -> ArcherError:
    """What the request's exception is mapped to."""
    async with asyncio.timeout(10):
        try:
            await request
        except Exception as error:  # noqa: BLE001 - whatever a client raises
            return failure_from_transport(IDENTITY, error)
    raise AssertionError("the request succeeded")


@asynccontextmanager
async def plain_server(answer: bytes) -> AsyncIterator[str]:
    """A TCP server that says `answer` to whatever comes, and hangs up; its `host:port`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


async def test_a_refused_connection_says_where_nothing_answers(get: Get) -> None:
    failure = await failure_of(get(f"http://127.0.0.1:{unused_port()}"))
    assert isinstance(failure, ProviderUnavailable)
    assert failure.retryable
    assert failure.message == "nothing answers at http://acme.test/v1 (acme)"
    assert failure.hint == "start acme"


async def test_a_refused_connection_on_each_of_a_hosts_addresses_says_the_same(get: Get) -> None:
    failure = await failure_of(get(f"http://localhost:{unused_port()}"))
    assert isinstance(failure, ProviderUnavailable)
    assert "nothing answers" in failure.message


async def test_a_server_without_tls_is_told_apart(get: Get) -> None:
    async with plain_server(b"HTTP/1.1 400 Bad Request\r\n\r\n") as address:
        failure = await failure_of(get(f"https://{address}"))
    assert isinstance(failure, ProviderUnavailable)
    assert "TLS" in failure.message
    assert not failure.retryable


async def test_a_connection_cut_before_the_answer_is_no_time_out(get: Get) -> None:
    async with scripted_server(Reply(before_headers=[Abort()])) as server:
        failure = await failure_of(get(server.url))
    assert isinstance(failure, ProviderUnavailable)
    assert "was lost" in failure.message
    assert failure.retryable


async def test_a_silent_server_is_a_time_out(get: Get) -> None:
    async with scripted_server(Reply(before_headers=[forever()])) as server:
        failure = await failure_of(get(server.url))
    assert isinstance(failure, ProviderTimeout)
    assert "did not answer in time" in failure.message
    assert failure.retryable


async def test_a_deadline_of_ours_is_a_time_out(get: Get) -> None:
    arrived = asyncio.Event()

    async def impatient(url: str) -> None:
        async with asyncio.timeout(None) as deadline:
            request = asyncio.ensure_future(get(url))
            arrived_task = asyncio.create_task(arrived.wait())
            await asyncio.wait({request, arrived_task}, return_when=asyncio.FIRST_COMPLETED)
            deadline.reschedule(0)
            try:
                await request
            finally:
                request.cancel()

    def respond(_: object) -> Reply:
        arrived.set()
        return Reply(before_headers=[Wait(asyncio.Event())])

    async with scripted_server(responder=respond) as server:
        failure = await failure_of(impatient(server.url))
    assert isinstance(failure, ProviderTimeout)


def raised(outer: Exception, *causes: BaseException) -> Exception:
    """The exception with these causes, outermost first."""
    current: BaseException = outer
    for cause in causes:
        current.__cause__ = cause
        current = cause
    return outer


class ConnectTimeout(Exception):
    """As httpx and httpcore name it."""


class ConnectError(Exception):
    """As httpx and httpcore name it."""


def test_a_name_that_does_not_resolve_says_so() -> None:
    failure = failure_from_transport(IDENTITY, raised(ConnectError(), socket.gaierror(-2, "Name not known")))
    assert isinstance(failure, ProviderUnavailable)
    assert "can't be resolved" in failure.message
    assert failure.hint is not None
    assert "start acme" in failure.hint


def test_a_connection_not_accepted_in_time_says_so() -> None:
    failure = failure_from_transport(IDENTITY, raised(ConnectTimeout(), TimeoutError(), asyncio.CancelledError()))
    assert isinstance(failure, ProviderTimeout)
    assert "did not accept a connection in time" in failure.message


def test_a_refused_certificate_is_not_retried() -> None:
    failure = failure_from_transport(IDENTITY, raised(ConnectError(), ssl.SSLCertVerificationError("self-signed")))
    assert isinstance(failure, ProviderUnavailable)
    assert not failure.retryable


def test_the_failure_being_handled_meanwhile_does_not_count() -> None:
    """A retry may run inside the handler of the attempt before it."""
    try:
        try:
            raise ProviderUnavailable("the first attempt") from socket.gaierror(-2, "Name not known")
        except ProviderUnavailable:
            raise ConnectionResetError("the second")  # noqa: B904 - the context is what is tested
    except OSError as error:
        failure = failure_from_transport(IDENTITY, error)
    assert "ConnectionResetError" in failure.message


def test_a_host_with_several_addresses_fails_as_its_addresses_do() -> None:
    refused = ExceptionGroup("each address", [ConnectionRefusedError(), ConnectionRefusedError()])
    failure = failure_from_transport(IDENTITY, raised(OSError("All connection attempts failed"), refused))
    assert "nothing answers" in failure.message


def test_causes_in_a_circle_end() -> None:
    one, other = ValueError(), KeyError()
    one.__cause__, other.__cause__ = other, one
    assert isinstance(failure_from_transport(IDENTITY, one), ProviderUnavailable)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7000),
        ({"retry-after": "1.5"}, 1500),
        ({"retry-after": "-3"}, 0),
        ({"retry-after": "Sun, 01 Nov 2026 12:00:30 GMT"}, 30_000),
        ({"retry-after": "Sun, 01 Nov 2026 13:00:30 +0100"}, 30_000),
        ({"retry-after": "Sun, 01 Nov 2026 12:00:30 -0000"}, 30_000),
        ({"retry-after": "Sun, 01 Nov 2026 11:00:00 GMT"}, 0),
        ({"retry-after-ms": "250", "retry-after": "7"}, 250),
        ({"retry-after-ms": "soon", "retry-after": "7"}, 7000),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, 86_400_000),
        ({"retry-after": "1e300"}, 86_400_000),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}, 86_400_000),
        ({"retry-after": "Sunday, 01-Nov-26 12:00:30 GMT"}, 30_000),
        # The field twice, as every HTTP client joins it.
        ({"retry-after": "7, 7"}, 7000),
        ({"retry-after": "7,20, soon"}, 20_000),
        ({"retry-after": "Sun, 01 Nov 2026 12:00:30 GMT, Sun, 01 Nov 2026 12:00:40 GMT"}, 40_000),
        ({"retry-after": "7, Sun, 01 Nov 2026 12:00:30 GMT"}, 30_000),
        ({"retry-after-ms": "250, 200", "retry-after": "7"}, 250),
        ({"retry-after": ", ,"}, None),
    ],
)
def test_retry_after_is_read_in_all_its_forms(headers: dict[str, str], expected: int | None) -> None:
    assert retry_after_ms(headers, NOW) == expected


@given(st.text(max_size=40) | st.from_regex(r"[A-Z][a-z]{2}, [0-9]{1,12} Nov [0-9]{1,12} [0-9:]{1,12} \S{1,6}"))
def test_no_retry_after_raises(value: str) -> None:
    wait_ms = retry_after_ms({"retry-after": value, "retry-after-ms": value}, NOW)
    assert wait_ms is None or 0 <= wait_ms <= 86_400_000


@pytest.mark.parametrize(
    ("status", "expected", "retryable"),
    [
        (400, ProviderError, False),
        (401, ProviderAuth, False),
        (402, ProviderQuota, False),
        (403, ProviderAuth, False),
        (404, ModelNotFound, False),
        (408, ProviderTimeout, True),
        (409, ProviderError, True),
        (413, ContentTooLarge, False),
        (418, ProviderError, False),
        (422, ProviderError, False),
        (429, ProviderRateLimited, True),
        (500, ProviderError, True),
        (502, ProviderError, True),
        (503, ProviderUnavailable, True),
        (504, ProviderTimeout, True),
        (529, ProviderUnavailable, True),
    ],
)
def test_each_status_has_its_failure(status: int, expected: type[ArcherError], retryable: bool) -> None:
    failure = failure_from_status(IDENTITY, status, "so they say", {"retry-after": "2"}, "gpt-x")
    assert type(failure) is expected
    assert failure.retryable is retryable
    assert failure.provider == "acme"
    assert failure.hint
    if retryable:
        assert failure.retry_after_ms == 2000


def test_a_refusal_without_a_reason_is_not_said_to_have_one() -> None:
    # A page of nginx or a line of Go's server, for a plain request to a port with TLS.
    told = failure_from_status(IDENTITY, 400, "temperature: too high", {})
    assert told.hint == "Correct the request as the message says."
    for nothing in (None, "", " "):
        silent = failure_from_status(IDENTITY, 400, nothing, {})
        assert "scheme" in str(silent.hint)
        assert "message says" not in str(silent.hint)


def test_a_page_that_forbids_the_request_says_nothing_of_the_credential() -> None:
    # A proxy's or a firewall's page, of which nothing is repeated.
    page = {"content-type": "Text/HTML; charset=utf-8"}
    blocked = failure_from_status(IDENTITY, 403, "", page)
    assert type(blocked) is ProviderError
    assert not blocked.retryable
    assert IDENTITY.address in blocked.message
    assert "proxy" in str(blocked.hint)
    # What is refused in words, without any, or as unauthorized is about the credential.
    for refused in (
        failure_from_status(IDENTITY, 403, "not allowed", page),
        failure_from_status(IDENTITY, 403, "", {}),
        failure_from_status(IDENTITY, 401, "", page),
    ):
        assert type(refused) is ProviderAuth


def test_hints_come_from_the_providers_identity() -> None:
    assert failure_from_status(IDENTITY, 401, None, {}).hint == "set ACME_KEY"
    assert failure_from_status(IDENTITY, 404, None, {}, "a{b}").hint == "pull a{b}"


def test_a_refused_credential_is_never_repeated() -> None:
    failure = failure_from_status(IDENTITY, 401, "Incorrect API key provided: sk-12345", {})
    assert "sk-" not in failure.message


def test_a_providers_message_is_one_bounded_line() -> None:
    assert trimmed(None) == ""
    assert trimmed("  a\n\tb ") == "a b"
    assert len(trimmed("x " * 5000)) == PROVIDER_MESSAGE_CHARS
    assert trimmed("a\x1b[31mb\ud83d") == "a\ufffd[31mb\ufffd"


def test_too_long_and_unreadable_say_what_to_do() -> None:
    too_long = context_too_long(IDENTITY, "9000 tokens")
    assert isinstance(too_long, ContextTooLong)
    assert "9000 tokens" in too_long.message
    assert too_long.hint
    strange = unreadable(IDENTITY, "a page")
    assert "http://acme.test/v1 sent a page" in strange.message
    assert strange.retryable
    assert not unreadable(IDENTITY, "a page", retryable=False).retryable

"""The socket fuzzed with frames made from the OpenRPC document: whatever comes, every request gets its one answer.

The recorder judges each frame that comes back; what the server logs is looked at for defects. With `--long` there are
many times the conversations.
"""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import websockets
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archer_ws.core.limits import BAD_MESSAGES_MAX
from archer_ws.rpc.codec import BATCH_MAX
from archer_ws.rpc.methods import archer_v1
from archer_ws.rpc.openrpc import openrpc_document
from tests.contract.fuzzed_server import FuzzedServer, defects, fuzzed_server
from tests.contract.schema_strategies import SAFE_INTEGER, fitting, junk, spoiled, whole_text
from tests.fakes.recorded import Recorder
from tests.fakes.strict_schemas import params_schema

CONVERSATIONS = 3000 if settings.get_current_profile_name() == "long" else 200
FRAMES = 12
ANSWER_LIMIT_S = 15
UNAUTHORIZED = 4501
LAST = "the last request"
#: How deep JSON may be nested; what we make is well below or well above.
DEPTH_MAX = 200


@dataclass(frozen=True)
class Frame:
    """What is sent."""

    text: str
    #: The id that the answer is due under; None: an error for nobody. `...`: no answer at all.
    answer_id: Any
    #: Whether it is no request, of which there may be only so many a minute.
    is_bad: bool
    may_close: bool
    #: How many answers are due: a batch gets one for each of its entries, here none of them a request.
    count: int = 1

    def __repr__(self) -> str:
        return self.text[:300]


def frame(text: str) -> Frame:
    """The frame, with what the protocol's section 3 says of its answer."""
    try:
        message = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return Frame(text, None, is_bad=True, may_close=False)
    if isinstance(message, list) and 0 < len(message) <= BATCH_MAX and _depth(message) <= DEPTH_MAX:
        return Frame(text, None, is_bad=True, may_close=False, count=len(message))
    if not isinstance(message, dict) or not _is_id(message.get("id")) or _depth(message) > DEPTH_MAX:
        return Frame(text, None, is_bad=True, may_close=False)
    may_close = message["method"] == "initialize" and '"token"' in text
    identity = message.get("id")
    if identity is None:
        return Frame(text, ..., is_bad=False, may_close=may_close)
    return Frame(text, identity, is_bad=False, may_close=may_close)


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _is_id(identity: Any) -> bool:
    match identity:
        case bool():
            return False
        case int():
            return abs(identity) <= SAFE_INTEGER
        case str():
            return len(identity) <= 256 and identity.isprintable()
    return identity is None


def _depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, inner), default=0)


def _requests() -> dict[str, st.SearchStrategy[Any]]:
    """Fitting params of every method."""
    document = openrpc_document(archer_v1())
    components = document["components"]["schemas"]
    return {
        method["name"]: fitting(params_schema(method), components)
        for method in document["methods"]
        if "x-direction" not in method
    }


PARAMS = _requests()
# Some ids come up again and again, so that requests meet.
ids = st.sampled_from(["sky", "sky-1", "a"])
request_ids = st.one_of(
    st.integers(-SAFE_INTEGER, SAFE_INTEGER), st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)
)


@st.composite
def params_of(draw: st.DrawFn, method: str) -> Any:
    params = draw(PARAMS[method])
    for name in ("stream_id", "session_id"):
        if name in params and draw(st.booleans()):
            params[name] = draw(ids)
    return params


@st.composite
def requests(draw: st.DrawFn) -> Frame:
    """A request; its params fit, nearly fit, or are nothing of the sort."""
    method = draw(st.sampled_from([*PARAMS, "chat/send", "chat/send", "nobody/knows"]))
    fits = params_of(method) if method in PARAMS else st.just({})
    params = draw(st.one_of(fits, spoiled(fits), junk))
    request = {"jsonrpc": "2.0", "id": draw(request_ids), "method": method, "params": params, **draw(extras)}
    if draw(st.integers(0, 9)) == 0:
        del request["id"]
    text = json.dumps(request)
    if draw(st.integers(0, 9)) == 0:
        # Twice the same key: the last one counts.
        text = text[:-1] + f', "method": {json.dumps(method)}}}'
    return frame(text)


extras = st.one_of(st.just({}), st.dictionaries(whole_text.map(lambda name: f"x{name}"), junk, max_size=1))
bad_frames = st.one_of(
    whole_text.map(lambda text: text + "{"),
    st.just('{"jsonrpc": "2.0", "id": 1, "method": "ping"'),
    st.just("[" * 100_000),
    st.just('{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"a": NaN}}'),
    st.just("9" * 5000),
    st.just(""),
    junk.filter(lambda value: not isinstance(value, dict)).map(json.dumps),
    st.sampled_from([True, 1.5, 2**53, [], {}, "x" * 257, "\x07"]).map(
        lambda identity: json.dumps({"jsonrpc": "2.0", "id": identity, "method": "ping"})
    ),
).map(frame)


@st.composite
def conversations(draw: st.DrawFn) -> list[Frame]:
    """Frames with ids that are used once; too few bad ones to be closed for."""
    frames = draw(st.lists(requests() | bad_frames, min_size=1, max_size=FRAMES))
    used: set[Any] = {LAST}
    bad = 0
    chosen = []
    for each in frames:
        bad += each.is_bad
        if each.answer_id not in used and bad < BAD_MESSAGES_MAX:
            chosen.append(each)
            if each.answer_id not in (None, ...):
                used.add(each.answer_id)
    return chosen


@pytest.fixture(scope="module")
def server() -> Iterator[FuzzedServer]:
    with fuzzed_server() as running:
        yield running


def _due(frames: list[Frame]) -> Counter[Any]:
    """How many answers are due, by their ids."""
    due: Counter[Any] = Counter()
    for each in frames:
        if each.answer_id is not ...:
            due[each.answer_id] += each.count
    return due


async def converse(address: str, frames: list[Frame]) -> tuple[Counter[Any], int | None]:
    """The answers by id, and what the socket was closed with, if it was."""
    due = _due(frames) + Counter([LAST])
    answers: Counter[Any] = Counter()
    url = f"ws://{address}/api/v1/ws"
    async with websockets.connect(url, max_size=None, proxy=None) as connection:
        try:
            async with asyncio.timeout(ANSWER_LIMIT_S):
                for each in frames:
                    await connection.send(each.text)
                await connection.send(json.dumps({"jsonrpc": "2.0", "id": LAST, "method": "ping"}))
                while due - answers:
                    told = json.loads(await connection.recv())
                    for answer in told if isinstance(told, list) else [told]:
                        errors = (answer.get("error"), answer.get("params", {}).get("error"))
                        assert "internal_error" not in json.dumps(errors), answer
                        if "method" not in answer:
                            answers[answer["id"]] += 1
        except websockets.ConnectionClosed:
            return answers, connection.close_code
        except TimeoutError:
            pass  # What is missing shows in the answers.
    return answers, None


@pytest.mark.timeout(1800)
@settings(
    max_examples=CONVERSATIONS,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(frames=conversations())
def test_every_request_gets_its_one_answer(
    frames: list[Frame], server: FuzzedServer, recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    answers, closed_with = server.run(converse(server.address, frames))
    due = _due(frames)
    said = "\n".join(map(repr, frames))
    if closed_with is None:
        assert answers == due + Counter([LAST]), said
    else:
        assert closed_with == UNAUTHORIZED, said
        assert any(each.may_close for each in frames), said
    assert not recorder.take()
    assert not defects(caplog.records)

"""Servers broken in one way each: the check that is about it sees it, and says what was expected and what came."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from archer_ws.conformance.registry import all_checks
from tests.test_conformance.calling import calling, put
from tests.test_conformance.conftest import TOKEN, StartServer, conform
from tests.test_conformance.meddling import Honest, Message, meddler
from tests.test_conformance.newer import newer

#: What a broken server does not do need not be waited for long.
IMPATIENT_S = 0.25

Down = Callable[[Message], list[Message]]


def of(method: str, change: Callable[[dict[str, Any]], list[dict[str, Any]]]) -> type[Honest]:
    """Other params of a notification: what `change` makes of them, each as a notification of its own."""

    class Changed(Honest):
        def down(self, message: Message) -> list[Message]:
            if message.get("method") != method:
                return [message]
            return [{**message, "params": params} for params in change(message["params"])]

    return Changed


def answering(method: str, change: Down) -> type[Honest]:
    """Other responses to a method."""

    class Answering(Honest):
        def __init__(self) -> None:
            self.asked: set[Any] = set()

        def up(self, frame: str | bytes) -> list[str | bytes]:
            request = _json(frame)
            if isinstance(request, dict) and request.get("method") == method and _is_id(request.get("id")):
                self.asked.add(request["id"])
            return [frame]

        def down(self, message: Message) -> list[Message]:
            identity = message.get("id")
            if not _is_id(identity) or identity not in self.asked:
                return [message]
            self.asked.discard(identity)
            return change(message)

    return Answering


def errors(change: Down) -> type[Honest]:
    """Other errors."""

    class Errors(Honest):
        def down(self, message: Message) -> list[Message]:
            return change(message) if "error" in message else [message]

    return Errors


def swallowing(is_swallowed: Callable[[str | bytes], bool]) -> type[Honest]:
    """Frames of the client's that never come through."""

    class Swallowing(Honest):
        def up(self, frame: str | bytes) -> list[str | bytes]:
            return [] if is_swallowed(frame) else [frame]

    return Swallowing


class AnswersAfterTheFirstEvent(Honest):
    """The response to a send is held back until the stream has begun."""

    def __init__(self) -> None:
        self.held: list[Message] = []

    def down(self, message: Message) -> list[Message]:
        if "head_seq" in message.get("result", {}) and "duplicate" in message["result"]:
            self.held.append(message)
            return []
        if message.get("method", "").startswith("stream/"):
            held, self.held = self.held, []
            return [message, *held]
        return [message]


class LosesADelta(Honest):
    """The second delta of a connection never arrives."""

    def __init__(self) -> None:
        self.deltas = 0

    def down(self, message: Message) -> list[Message]:
        self.deltas += message.get("method") == "stream/delta"
        return [] if message.get("method") == "stream/delta" and self.deltas == 2 else [message]


class SwapsDeltas(Honest):
    """Every second delta comes before the first."""

    def __init__(self) -> None:
        self.held: list[Message] = []

    def down(self, message: Message) -> list[Message]:
        if message.get("method") == "stream/delta" and not self.held:
            self.held = [message]
            return []
        held, self.held = self.held, []
        return [message, *held]


class ForgetsWhatIsRead(Honest):
    """A subscribe always begins at the first event."""

    def up(self, frame: str | bytes) -> list[str | bytes]:
        request = _json(frame)
        if isinstance(request, dict) and request.get("method") == "stream/subscribe":
            request["params"].pop("after", None)
        return [_text(request) if isinstance(request, dict) else frame]


class PingsInsteadOfUnsubscribing(Honest):
    """An unsubscribe is answered, and nothing comes of it."""

    def up(self, frame: str | bytes) -> list[str | bytes]:
        return [frame.replace("stream/unsubscribe", "ping") if isinstance(frame, str) else frame]


class MakesNoDifferenceOfIds(Honest):
    """Every id comes back as text."""

    def down(self, message: Message) -> list[Message]:
        return [{**message, "id": str(message["id"])}] if _is_id(message.get("id")) else [message]


class ClosesAs(Honest):
    """Another close code for everything; None: it never closes."""

    code: int | None = None

    def close_code(self, code: int) -> int | None:
        return self.code


class ClosesPolitely(ClosesAs):
    code = 1000


class DropsParams(Honest):
    """Some params of chats are not heeded."""

    names: tuple[str, ...] = ()

    def up(self, frame: str | bytes) -> list[str | bytes]:
        request = _json(frame)
        if isinstance(request, dict) and request.get("method") == "chat/send":
            for name in self.names:
                request.get("params", {}).pop(name, None)
            return [_text(request)]
        return [frame]


class MintsItsOwnIds(DropsParams):
    names = ("stream_id",)


class NeverCancelsOnDisconnect(DropsParams):
    names = ("on_disconnect",)


class IgnoresReplaceFrom(DropsParams):
    names = ("replace_from",)


class AlwaysStreams(DropsParams):
    names = ("stream",)


class IgnoresSteps(DropsParams):
    names = ("max_steps",)


class IgnoresFormats(DropsParams):
    names = ("response_format",)


class IgnoresTools(DropsParams):
    names = ("tools", "tool_choice")


class JoinsParts(Honest):
    """Parts become one text, those that are none are left out."""

    def up(self, frame: str | bytes) -> list[str | bytes]:
        request = _json(frame)
        if isinstance(request, dict) and request.get("method") == "chat/send":
            for message in request["params"].get("messages", []):
                if isinstance(message["content"], list):
                    message["content"] = " ".join(part.get("text", "") for part in message["content"])
            return [_text(request)]
        return [frame]


def _json(frame: str | bytes) -> Any:
    try:
        return json.loads(frame)
    except ValueError:
        return None


def _text(value: Any) -> str:
    return json.dumps(value)


def _is_id(value: object) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def _with(params: dict[str, Any], **changed: Any) -> list[dict[str, Any]]:
    return [{**params, **changed}]


def _without(params: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [{other: value for other, value in params.items() if other != name}]


def _result(message: Message, **changed: Any) -> list[Message]:
    return [{**message, "result": {**message["result"], **changed}}] if "result" in message else [message]


def _error(message: Message, **changed: Any) -> list[Message]:
    return [{**message, "error": {**message["error"], **changed}}]


def _error_data(message: Message, **changed: Any) -> list[Message]:
    return _error(message, data={**message["error"]["data"], **changed})


BROKEN: dict[str, tuple[str, Callable[[], Honest]]] = {
    "doubles a delta": ("events_come_in_order", of("stream/delta", lambda params: [params, params])),
    "loses a delta": ("events_come_in_order", LosesADelta),
    "swaps deltas": ("events_come_in_order", SwapsDeltas),
    "loses the end": ("streams_end_once", of("stream/ended", lambda _: [])),
    "tells the end twice": ("streams_end_once", of("stream/ended", lambda params: [params, params])),
    "answers after the event": ("responses_come_first", AnswersAfterTheFirstEvent),
    "answers twice": ("one_response_each", answering("ping", lambda message: [message, message])),
    "answers never": ("one_response_each", answering("stream/list", lambda _: [])),
    "echoes 1 as text": ("ids_keep_their_type", MakesNoDifferenceOfIds),
    "never closes on binary": ("binary_is_closed", swallowing(lambda frame: isinstance(frame, bytes))),
    "stays open on a large frame": ("larger_frames_are_closed", ClosesAs),
    "closes a flood as if all were well": ("too_many_bad_frames_are_closed", ClosesPolitely),
    "lets wrong tokens stay": ("wrong_tokens_are_refused", ClosesAs),
    "ignores bad JSON": ("bad_json_is_told", swallowing(lambda frame: _json(frame) is None)),
    "ignores batches": ("batches_are_refused", swallowing(lambda frame: isinstance(_json(frame), list))),
    "sends null": ("messages_fit", of("stream/started", lambda params: _with(params, session_id=None))),
    "sends a number as text": (
        "messages_fit",
        of("stream/delta", lambda params: _with(params, seq=str(params["seq"]))),
    ),
    "leaves a field out": ("messages_fit", of("stream/ended", lambda params: _without(params, "text_bytes"))),
    "renames a field": ("messages_fit", of("stream/ended", lambda params: _with(params, finishReason="stop"))),
    "has integers beyond 2^53": ("messages_fit", of("stream/started", lambda params: _with(params, more=2**60))),
    "has local times": (
        "messages_fit",
        answering("stream/list", lambda message: _result(message, asked_at="2026-11-01T12:00:00+01:00")),
    ),
    "has other codes": ("errors_fit", errors(lambda message: _error(message, code=-32099))),
    "calls everything retryable": ("errors_fit", errors(lambda message: _error_data(message, retryable=True))),
    "names no paths": ("bad_params_are_told_by_path", errors(lambda message: _error_data(message, errors=[]))),
    "counts characters as bytes": (
        "text_bytes_are_those_of_the_text",
        of("stream/ended", lambda params: _with(params, text_bytes=params["text_bytes"] - 1)),
    ),
    "gives no content with the end": (
        "whole_answers_come_with_the_end",
        of("stream/ended", lambda params: _without(params, "content")),
    ),
    "streams what should come whole": ("whole_answers_come_with_the_end", AlwaysStreams),
    "mints its own ids": ("a_chat_is_accepted", MintsItsOwnIds),
    "calls duplicates new": (
        "duplicates_join",
        answering("chat/send", lambda message: _result(message, duplicate=False)),
    ),
    "ignores cancels": (
        "the_next_frame_cancels",
        swallowing(lambda frame: (_json(frame) or {}).get("method") == "stream/cancel"),
    ),
    "does not find what it cancels": (
        "the_next_frame_cancels",
        answering("stream/cancel", lambda message: _result(message, outcome="not_found")),
    ),
    "calls a cancel completed": (
        "a_cancel_in_mid_stream_keeps_the_text",
        of("stream/ended", lambda params: [{**_without(params, "reason")[0], "status": "completed"}]),
    ),
    "replays from the start": ("any_event_is_a_place_to_go_on", ForgetsWhatIsRead),
    "forgets events that nobody knows": ("whatever_has_a_number_is_an_event", newer(forgets=True)),
    "takes any after": ("nobody_is_ahead_of_the_log", ForgetsWhatIsRead),
    "repeats behind the end": ("nothing_comes_behind_the_end", ForgetsWhatIsRead),
    "does not unsubscribe": ("unsubscribing_is_not_leaving", PingsInsteadOfUnsubscribing),
    "never cancels on disconnect": ("the_last_holder_cancels", NeverCancelsOnDisconnect),
    "keeps what is replaced": ("turns_are_replaced", IgnoresReplaceFrom),
    "names no stream when busy": (
        "busy_sessions_refuse",
        errors(lambda message: _error_data(message, stream_id="another")),
    ),
    "ends the list early": (
        "sessions_are_listed_by_page",
        answering("session/list", lambda message: [{**message, "result": {"items": message["result"]["items"]}}]),
    ),
    "hides a method": (
        "discover_lists_everything",
        answering("rpc.discover", lambda message: _result(message, methods=message["result"]["methods"][1:])),
    ),
    "leaves pictures out": ("pictures_are_kept_or_told", JoinsParts),
    "takes anything for a picture": ("lying_pictures_are_told", JoinsParts),
    "takes any address": ("fetchable_pictures_are_told", JoinsParts),
    "leaves out what it does not know": ("unknown_parts_are_told", JoinsParts),
    "joins parts by a blank": ("text_parts_are_one_text", JoinsParts),
    "ignores how many steps there may be": ("steps_need_waiting", IgnoresSteps),
    "ignores formats": ("formats_have_a_schema", IgnoresFormats),
    "ignores nested tools": ("nested_tools_are_told", IgnoresTools),
    "chooses what is not there": ("choices_name_a_tool", IgnoresTools),
    "takes two tools of one name": ("tools_have_names_of_their_own", IgnoresTools),
    "does not say which result": (
        "results_need_an_open_call",
        errors(lambda message: _error_data(message, errors=[])),
    ),
    "loses a piece of the arguments": ("calls_are_whole", calling(lambda events: [*events[:2], *events[3:]])),
    "has no deltas of a call": ("calls_are_whole", calling(lambda events: [events[0], *events[2:]])),
    "renames the tool": ("calls_are_whole", calling(lambda events: put(events, 4, name="get_wind"))),
    "renames the tool in its deltas": ("calls_are_whole", calling(lambda events: put(events, 2, name="get_wind"))),
    "calls twice": ("calls_are_whole", calling(lambda events: [*events[:4], *events[3:]])),
    "forgets a call": ("calls_are_whole", calling(lambda events: [*events[:4], *events[5:]])),
    "forgets all calls": ("calls_are_whole", calling(lambda events: events[-1:])),
    "writes behind calls": (
        "calls_are_whole",
        calling(lambda events: [*events[:4], ("delta", {"content": "x"}), *events[4:]]),
    ),
    "stops as if nothing were called": (
        "calls_are_whole",
        calling(lambda events: put(events, 5, finish_reason="stop")),
    ),
    "calls and is cancelled": (
        "calls_are_whole",
        calling(lambda events: put(events, 5, status="cancelled", reason="client")),
    ),
    "has arguments without a call": (
        "messages_fit",
        calling(lambda events: [("delta", {"arguments": "{}"}), *events[1:]]),
    ),
    "has no retry_after_ms": (
        "streams_are_limited",
        errors(lambda message: _error(message, data=_without(message["error"]["data"], "retry_after_ms")[0])),
    ),
}


async def test_it_is_not_the_proxy_that_is_found_out(start_server: StartServer) -> None:
    names = {name for name, _ in BROKEN.values()}
    async with start_server(auth_token=TOKEN) as address, meddler(address, Honest) as url:
        results = await conform(address, *names, through=url, token=TOKEN)
    assert [result for result in results if result.state != "ok"] == []


async def test_a_server_whose_model_calls_tools_passes(start_server: StartServer) -> None:
    async with start_server(auth_token=TOKEN) as address, meddler(address, calling(lambda events: events)) as url:
        names = ("calls_are_whole", "events_come_in_order", "messages_fit", "an_answer_takes_its_course")
        results = await conform(address, *names, through=url, token=TOKEN)
    assert [result for result in results if result.state != "ok"] == []


class IsNewer(Honest):
    """Says more than this version of the protocol has, in the ways that it may grow."""

    def down(self, message: Message) -> list[Message]:
        if message.get("method") == "stream/progress":
            message["params"].update(phase="warming", warmth={"degrees": 20})
        if message.get("method") == "stream/ended":
            message["params"].update(finish_reason="bored", mood="fine")
        for stream in message.get("result", {}).get("items", []):
            stream["status"] = "dreaming"
        return [message, {"jsonrpc": "2.0", "method": "stream/mood", "params": {"stream_id": "x", "mood": None}}]


async def test_a_newer_server_is_not_a_broken_one(start_server: StartServer) -> None:
    names = {name for name, _ in BROKEN.values()}
    # One answer at a time: the others are told that they are queued.
    async with (
        start_server(auth_token=TOKEN, provider_concurrency={"ollama": 1}) as address,
        meddler(address, IsNewer) as url,
    ):
        results = await conform(address, *names, through=url, token=TOKEN)
    assert [result for result in results if result.state == "failed"] == []


async def test_a_server_whose_logs_have_events_that_nobody_knows_passes(start_server: StartServer) -> None:
    # What these two ask for does not come through a proxy of frames.
    names = [check.name for check in all_checks() if check.theme not in {"connecting", "http"}]
    async with start_server(auth_token=TOKEN) as address, meddler(address, newer()) as url:
        results = await conform(address, *names, through=url, token=TOKEN)
    assert [result for result in results if result.state != "ok"] == []


@pytest.mark.parametrize(("name", "broken"), BROKEN.values(), ids=BROKEN)
async def test_a_broken_server_is_found_out(name: str, broken: Callable[[], Honest], start_server: StartServer) -> None:
    async with start_server(auth_token=TOKEN) as address, meddler(address, broken) as url:
        (result,) = await conform(
            address, name, through=url, token=TOKEN, quiet_s=IMPATIENT_S, timeout_s=4 * IMPATIENT_S
        )
    assert result.state == "failed", result
    assert result.expected
    assert result.came

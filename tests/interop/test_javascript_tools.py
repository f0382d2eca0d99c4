"""The JavaScript client runs the calls that a stream waits for: once, whatever is lost, and while it matters."""

import asyncio
from typing import Any

import pytest

from tests.fakes.exchange_server import FIRST, TOLD_BYTES, Call, exchange_server
from tests.interop.javascript import Javascript
from tests.interop.scripted_chat import connected

pytestmark = [pytest.mark.interop, pytest.mark.timeout(180)]

QUESTION = {"stream_id": "mine", "messages": [{"role": "user", "content": "Rain?"}]}
#: Notes what ran, and gives what the arguments say of it.
TOOLS = """
    kept.ran = [];
    kept.tools = {
        get_weather: {
            description: "The weather.", parameters: { type: "object" },
            run: ({ city }, { callId }) => (kept.ran.push(callId), `rain in ${city}`),
        },
    };
"""
SEND = """
    const stream = kept.archer.send(request, { tools: kept.tools });
    const deltas = [];
    for await (const delta of stream) deltas.push(delta);
    return { ran: kept.ran, deltas, text: stream.text, messages: stream.messages, calls: stream.toolCalls };
"""
#: Asks nobody; over once the call is there.
UNDECIDED = """
    kept.stream = kept.archer.send(request, { tools: kept.tools });
    await new Promise((resolve) => {
        kept.archer.on("notification", ({ method }) => method === "stream/tool_call" && resolve());
    });
"""
READ = """
    const deltas = [];
    for await (const delta of kept.stream) deltas.push(delta);
    return { ran: kept.ran, deltas, text: kept.stream.text, status: (await kept.stream.ended).status };
"""


async def sent(js: Javascript, url: str, tools: str = TOOLS) -> dict[str, Any]:
    """What came of a question, and of the calls that it led to."""
    await connected(js, url)
    await js.run(tools)
    seen: dict[str, Any] = await js.run(SEND, request=QUESTION)
    return seen


async def test_a_call_is_claimed_and_run_and_the_stream_goes_on(js: Javascript) -> None:
    async with exchange_server(Call("c1")) as server:
        seen = await sent(js, server.url)
    assert seen["ran"] == ["c1"]
    assert seen["deltas"] == [{"content": FIRST}, {"step": 2}, {"content": "c1 ok"}]
    assert seen["text"] == "c1 ok"
    declared = {"name": "get_weather", "description": "The weather.", "parameters": {"type": "object"}}
    assert (server.request["tools"], server.request["on_tool_call"]) == ([declared], "wait")
    (claim,), (result,) = server.asked_of("tool/claim"), server.asked_of("tool/result")
    assert result == {"stream_id": "mine", "call_id": "c1", "content": "rain in Oslo", "status": "ok", **_of(claim)}
    assert seen["messages"] == [
        {
            "role": "assistant",
            "content": FIRST,
            "tool_calls": [{"call_id": "c1", "name": "get_weather", "arguments": '{"city": "Oslo"}'}],
        },
        {"role": "tool", "content": "rain in Oslo", "call_id": "c1", "result_status": "ok"},
        {"role": "assistant", "content": "c1 ok"},
    ]
    (call,) = seen["calls"]
    assert (call["state"], call["result"]) == ("settled", {"status": "ok", "content": "rain in Oslo"})


def _of(claim: dict[str, Any]) -> dict[str, Any]:
    return {"claim": claim["claim"]}


async def test_messages_have_a_long_result_whole_where_it_was_sent_from_here(js: Javascript) -> None:
    long = "Regen in Tromsø. " * 10_000
    tools = "kept.tools = { get_weather: { run: () => 'Regen in Tromsø. '.repeat(10000) } };"
    again = """
        const stream = kept.archer.resume("mine", { tools: {} });
        for await (const _ of stream);
        return { messages: stream.messages, calls: stream.toolCalls };
    """
    async with exchange_server(Call("c1")) as server:
        seen = await sent(js, server.url, tools)
        elsewhere = await js.run(again)
    assert seen["messages"][1]["content"] == long
    assert seen["calls"][0]["result"] == {"status": "ok", "content": long}
    beginning = long.encode()[:TOLD_BYTES].decode(errors="ignore")
    assert elsewhere["messages"][1]["content"] == beginning
    assert elsewhere["calls"][0]["result"] == {"status": "ok", "content": beginning, "truncated": True}


async def test_messages_have_a_long_result_whole_where_its_parts_have_it(js: Javascript) -> None:
    texts = ["Regen in Tromsø. " * 10_000, "Sonne in Bergen."]
    parts = [
        {"type": "text", "text": texts[0]},
        {"type": "image", "file_id": "file-1"},
        {"type": "text", "text": texts[1]},
    ]
    async with exchange_server(Call("c1")) as server:
        server.truncates_parts = False  # As earlier servers.
        server.begin("mine")
        await server.settle("c1", "ok", parts)
        await connected(js, server.url)
        seen = await js.run("""
            const stream = kept.archer.resume("mine", { tools: {} });
            for await (const _ of stream);
            return { messages: stream.messages, calls: stream.toolCalls };
        """)
    whole = {"content": "\n".join(texts), "parts": parts}
    assert seen["messages"][1] == {"role": "tool", "call_id": "c1", "result_status": "ok", **whole}
    assert seen["calls"][0]["result"] == {"status": "ok", **whole}


async def test_messages_have_a_long_result_with_a_picture_whole_where_it_was_sent_from_here(js: Javascript) -> None:
    long = "Regen in Tromsø. " * 10_000
    picture = {"type": "image", "file_id": "file-1"}
    parts = [{"type": "text", "text": long}, picture, {"type": "text", "text": "Sonne in Bergen."}]
    tools = """
        const parts = ["Regen in Tromsø. ".repeat(10000), { type: "image", file_id: "file-1" }, "Sonne in Bergen."];
        kept.tools = { get_weather: { run: () => parts } };
    """
    again = """
        const stream = kept.archer.resume("mine", { tools: {} });
        for await (const _ of stream);
        return { messages: stream.messages, calls: stream.toolCalls };
    """
    async with exchange_server(Call("c1")) as server:
        seen = await sent(js, server.url, tools)
        elsewhere = await js.run(again)
    whole = {"content": f"{long}\nSonne in Bergen.", "parts": parts}
    assert seen["messages"][1] == {"role": "tool", "call_id": "c1", "result_status": "ok", **whole}
    assert seen["calls"][0]["result"] == {"status": "ok", **whole}
    beginning = long.encode()[:TOLD_BYTES].decode(errors="ignore")
    shortened = {"content": beginning, "parts": [{"type": "text", "text": beginning}, picture], "truncated": True}
    assert elsewhere["calls"][0]["result"] == {"status": "ok", **shortened}


async def test_several_calls_run_side_by_side(js: Javascript) -> None:
    tools = """
        kept.ran = [];
        let both, count = 0;
        const together = new Promise((resolve) => (both = resolve));
        const run = async (_, { callId }) => (++count === 2 && both(), await together, kept.ran.push(callId), "done");
        kept.tools = { get_weather: { run } };
    """
    async with exchange_server(Call("c1"), Call("c2")) as server:
        seen = await sent(js, server.url, tools)
    assert seen["text"] == "c1 ok; c2 ok"


@pytest.mark.parametrize(
    "lost",
    [
        ["chat/send"],
        ["tool/claim"],
        ["tool/result"],
        ["tool/claim", "tool/claim", "tool/result", "tool/result"],
        ["chat/send", "tool/claim", "tool/result", "stream/subscribe", "stream/subscribe"],
    ],
    ids=str,
)
async def test_whatever_answer_is_lost_each_call_runs_once(js: Javascript, lost: list[str]) -> None:
    async with exchange_server(Call("c1"), Call("c2"), lost=lost) as server:
        seen = await sent(js, server.url)
    assert sorted(seen["ran"]) == ["c1", "c2"]
    assert seen["text"] == "c1 ok; c2 ok"
    claims = {(claim["call_id"], claim["claim"]) for claim in server.asked_of("tool/claim")}
    assert len(claims) == 2, "a claim was made twice"


async def test_a_call_that_runs_while_the_connection_is_lost_goes_on_under_its_claim(js: Javascript) -> None:
    tools = """
        kept.ran = [];
        kept.go = new Promise((resolve) => (kept.release = resolve));
        kept.tools = { get_weather: { run: async (_, { callId }) => (kept.ran.push(callId), await kept.go, "done") } };
    """
    async with exchange_server(Call("c1")) as server:
        sending = asyncio.create_task(sent(js, server.url, tools))
        await server.until("tool/claim")
        await server.close_all()
        await server.until("tool/claim", 2)
        await js.run("await kept.archer.call('ping'); kept.release();")
        seen = await sending
    assert seen["ran"] == ["c1"]
    assert seen["text"] == "c1 ok"
    first, second = server.asked_of("tool/claim")
    assert first == second


async def test_after_a_gap_in_the_events_no_claim_is_in_flight_twice(js: Javascript) -> None:
    # The first call runs and the response to the second one's claim is on its way when the gap is seen.
    async with exchange_server(Call("c1"), Call("c2")) as server:
        seen = await js.run(
            """
            let [isLeftOut, attached, claimed, goOn] = [false, 0, 0];
            const going = new Promise((resolve) => (goOn = resolve));
            class Leaky extends WebSocket {
                set onmessage(take) {
                    super.onmessage = take && ((event) => {
                        const { method, result } = JSON.parse(event.data);
                        if (method === "stream/tool_update" && !isLeftOut) return (isLeftOut = true);
                        if (result?.outcome === "claimed" && ++claimed === 2) return (kept.claimed = event);
                        take(event);
                        if (result?.head_seq === undefined || ++attached < 2) return;
                        take(kept.claimed);
                        goOn();
                    });
                }
            }
            const archer = connect({ url, WebSocket: Leaky });
            const tools = { get_weather: { run: (_, { callId }) => going.then(() => callId) } };
            const stream = archer.send(request, { tools });
            await stream.ended;
            archer.close();
            return stream.text;
            """,
            url=server.url,
            request=QUESTION,
        )
    assert seen == "c1 ok; c2 ok"
    assert len(server.asked_of("stream/subscribe")) == 1
    assert [claim["call_id"] for claim in server.asked_of("tool/claim")] == ["c1", "c2"]


async def test_a_call_whose_result_stands_further_on_in_a_replay_is_not_run(js: Javascript) -> None:
    async with exchange_server(Call("c1"), Call("c2")) as server:
        server.begin("mine")
        await server.settle("c1", "ok", "from elsewhere")
        server.held_at = 3
        await connected(js, server.url)
        await js.run(
            TOOLS
            + """
            kept.stream = kept.archer.resume('mine', { tools: kept.tools });
            while (!kept.stream.toolCalls.length) await new Promise((resolve) => setTimeout(resolve, 5));
            await kept.archer.call('ping');
            """
        )
        await server.release()
        seen = await js.run(READ)
    assert seen["ran"] == ["c2"]
    assert [claim["call_id"] for claim in server.asked_of("tool/claim")] == ["c2"]
    assert seen["deltas"] == [{"content": FIRST}, {"step": 2}, {"content": "c1 ok; c2 ok"}]


async def test_resumed_without_handlers_calls_are_shown_alone(js: Javascript) -> None:
    async with exchange_server(Call("c1", needs_approval=True), Call("c2")) as server:
        await connected(js, server.url)
        seen = await js.run(
            """
            const shown = [];
            kept.archer.send(request, { detach: true, tools: {} });
            const stream = kept.archer.resume("mine", { onEvent: ({ method }) => shown.push([method, stream.status]) });
            while (stream.toolCalls.length < 2) await new Promise((resolve) => setTimeout(resolve, 5));
            const states = stream.toolCalls.map(({ state }) => state);
            const told = await kept.archer.approve("mine", "c1", true);
            const given = await kept.archer.answer("mine", "c1", { degrees: 4 });
            await kept.archer.answer("mine", "c2", "no idea", { status: "error" });
            const twice = await kept.archer.answer("mine", "c2", "again");
            for await (const _ of stream);
            return { shown, states, told, given, twice, text: stream.text };
            """,
            request=QUESTION,
        )
    assert seen["states"] == ["needs_approval", "pending"]
    assert (seen["told"], seen["given"]) == ({"outcome": "accepted"}, {"outcome": "accepted"})
    assert seen["twice"] == {"outcome": "already_answered", "status": "error"}
    assert seen["text"] == "c1 ok; c2 error"
    assert not server.asked_of("tool/claim")
    assert [result["content"] for result in server.asked_of("tool/result")] == ['{"degrees":4}', "no idea", "again"]
    assert [status for method, status in seen["shown"] if method == "stream/tool_call"] == ["waiting", "waiting"]
    assert [status for method, status in seen["shown"] if method == "stream/step"] == ["running"]


APPROVING = (
    TOOLS
    + """
    kept.asked = [];
    kept.approve = (call, { signal }) => {
        kept.asked.push(call.call_id);
        signal.addEventListener("abort", () => kept.asked.push(`${call.call_id} ${signal.reason.message}`));
        return new Promise((resolve) => (kept.decide = resolve));
    };
"""
)
WITH_APPROVAL = "kept.stream = kept.archer.send(request, { tools: kept.tools, approve: kept.approve });"


@pytest.mark.parametrize(
    ("said", "told", "ran", "text"),
    [
        ("true", {"approved": True}, ["c1"], "c1 ok"),
        ("false", {"approved": False}, [], "c1 denied"),
        ("{ approved: false, reason: 'no' }", {"approved": False, "reason": "no"}, [], "c1 denied"),
        (r"{ approved: false, reason: 'no \ud83d' }", {"approved": False, "reason": "no \ufffd"}, [], "c1 denied"),
        ("{ approved: false, reason: 'no'.repeat(6000) }", {"approved": False, "reason": 5000 * "no"}, [], "c1 denied"),
        ("{ approved: false, reason: 404 }", {"approved": False, "reason": "404"}, [], "c1 denied"),
        (
            "Promise.reject(new Error('shut'))",
            {"approved": False, "reason": "nobody could be asked: shut"},
            [],
            "c1 denied",
        ),
    ],
)
async def test_a_person_is_asked_once_and_a_call_runs_only_where_they_agree(
    js: Javascript, said: str, told: dict[str, Any], ran: list[str], text: str
) -> None:
    async with exchange_server(Call("c1", needs_approval=True), lost=["tool/approve"]) as server:
        await connected(js, server.url)
        await js.run(APPROVING + WITH_APPROVAL, request=QUESTION)
        await server.until("chat/send")
        await server.close_all()
        await server.until("stream/subscribe")
        await js.run(f"kept.decide({said})")
        seen = await js.run(READ)
        asked = await js.run("return kept.asked.filter((each) => each === 'c1')")
    assert (seen["ran"], seen["text"], asked) == (ran, text, ["c1"])
    # The first answer was lost: said again, unless an event had told of it before.
    assert all(
        approval == {"stream_id": "mine", "call_id": "c1", **told} for approval in server.asked_of("tool/approve")
    )


async def test_a_question_is_withdrawn_when_another_window_answers_it(js: Javascript) -> None:
    async with exchange_server(Call("c1", needs_approval=True)) as server:
        await connected(js, server.url)
        await js.run(APPROVING + WITH_APPROVAL, request=QUESTION)
        await js.run("while (!kept.decide) await new Promise((resolve) => setTimeout(resolve, 5));")
        await js.run("await kept.archer.approve('mine', 'c1', true)")
        seen = await js.run(READ)
        await js.run("kept.decide(false)")
        assert await js.run("return kept.asked") == ["c1", "c1 it was decided elsewhere"]
    assert (seen["ran"], seen["text"]) == (["c1"], "c1 ok")
    assert len(server.asked_of("tool/approve")) == 1


async def test_without_anybody_to_ask_a_call_waits_for_approval_from_another_window(js: Javascript) -> None:
    async with exchange_server(Call("c1", needs_approval=True)) as server:
        await connected(js, server.url)
        await js.run(TOOLS + "kept.stream = kept.archer.send(request, { tools: kept.tools });", request=QUESTION)
        await server.until("chat/send")
        await js.run("await kept.archer.call('ping')")
        assert not server.asked_of("tool/claim")
        await js.run(
            """
            const other = connect({ url, WebSocket, shared: false });
            await other.approve("mine", "c1", true);
            other.close();
            """,
            url=server.url,
        )
        seen = await js.run(READ)
    assert (seen["ran"], seen["text"]) == (["c1"], "c1 ok")


async def test_of_two_windows_with_the_handler_one_runs_the_call_and_both_see_it(js: Javascript) -> None:
    async with exchange_server(Call("c1"), Call("c2"), Call("c3")) as server:
        await connected(js, server.url)
        seen = await js.run(
            TOOLS
            + """
            const other = connect({ url, WebSocket, shared: false });
            await other.call("ping");
            const stream = kept.archer.send(request, { tools: kept.tools });
            const second = other.resume("mine", { tools: kept.tools });
            for (const each of [stream, second]) for await (const _ of each);
            other.close();
            return { ran: kept.ran, texts: [stream.text, second.text], same: [stream.messages, second.messages] };
            """,
            request=QUESTION,
            url=server.url,
        )
    assert sorted(seen["ran"]) == ["c1", "c2", "c3"]
    assert seen["texts"] == ["c1 ok; c2 ok; c3 ok"] * 2
    assert seen["same"][0] == seen["same"][1]


HANGING = """
    kept.ran = [];
    kept.begun = new Promise((resolve) => (kept.begin = resolve));
    const run = (_, { callId, signal }) => new Promise((resolve, reject) => {
        kept.ran.push(callId);
        kept.begin();
        signal.addEventListener("abort", () => (kept.ran.push(signal.reason.message), reject(signal.reason)));
    });
    kept.tools = { get_weather: { run } };
    kept.stream = kept.archer.send(request, { tools: kept.tools });
    await kept.begun;
"""


async def test_a_handler_is_aborted_when_its_call_is_settled_elsewhere(js: Javascript) -> None:
    async with exchange_server(Call("c1")) as server:
        await connected(js, server.url)
        await js.run(HANGING, request=QUESTION)
        await server.settle("c1", "timeout")
        seen = await js.run(READ)
    assert (seen["ran"], seen["text"]) == (["c1", "the call is settled"], "c1 timeout")
    assert not server.asked_of("tool/result")


async def test_a_handler_is_aborted_when_the_stream_ends(js: Javascript) -> None:
    async with exchange_server(Call("c1")) as server:
        await connected(js, server.url)
        await js.run(HANGING, request=QUESTION)
        await server.end("cancelled", reason="client")
        seen = await js.run(READ)
    assert (seen["ran"], seen["status"]) == (["c1", "the call is settled"], "cancelled")
    assert not server.asked_of("tool/result")


async def test_a_handler_is_aborted_when_its_client_is_closed_and_nobody_waits_for_it_in_vain(js: Javascript) -> None:
    async with exchange_server(Call("c1")) as server:
        await js.run("kept.archer = connect({ url, WebSocket, lingerMs: 60000 });", url=server.url)
        await js.run(HANGING, request=QUESTION)
        await js.run("kept.archer.close()")
        await server.until("tool/result")
        assert await js.run("return kept.ran") == ["c1", "the stream was left"]
    (result,) = server.asked_of("tool/result")
    assert (result["status"], result["content"]) == ("error", "the stream was left")


@pytest.mark.parametrize(
    ("code", "status", "content"),
    [
        ("'as it is'", "ok", "as it is"),
        ("({ a: [1, null] })", "ok", '{"a":[1,null]}'),
        ("[{ type: 'file', name: 'a.txt' }]", "ok", '[{"type":"file","name":"a.txt"}]'),
        ("undefined", "ok", ""),
        ("['a', 'b']", "ok", '["a","b"]'),
        (
            "[{ type: 'text', text: 'hm' }, 'so']",
            "ok",
            [{"type": "text", "text": "hm"}, {"type": "text", "text": "so"}],
        ),
        ("Promise.reject(new TypeError('no such city'))", "error", "no such city"),
        ("1n", "error", None),
        ("'x'.repeat(2 ** 20)", "error", None),
    ],
)
async def test_what_a_handler_gives_is_what_the_model_is_told(
    js: Javascript, code: str, status: str, content: Any
) -> None:
    async with exchange_server(Call("c1")) as server:
        seen = await sent(js, server.url, f"kept.tools = {{ get_weather: {{ run: () => {code} }} }};")
    assert seen["text"] == f"c1 {status}"
    (result,) = server.asked_of("tool/result")
    assert result["content"] == content or (content is None and result["content"])


async def test_calls_of_other_names_are_not_run(js: Javascript) -> None:
    async with exchange_server(Call("c1", name="toString"), Call("c2", name="get_time")) as server:
        await connected(js, server.url)
        await js.run(TOOLS + "kept.stream = kept.archer.send(request, { tools: kept.tools });", request=QUESTION)
        await server.until("chat/send")
        await js.run("await kept.archer.call('ping')")
        await server.settle("c1", "error")
        await server.settle("c2", "error")
        assert (await js.run(READ))["ran"] == []
    assert not server.asked_of("tool/claim")


@pytest.mark.parametrize("call", [Call("c1", is_awaited=False), Call("c1", by="server")], ids=["ends", "by server"])
async def test_calls_that_end_their_stream_or_that_the_server_runs_are_not_run_here(js: Javascript, call: Call) -> None:
    async with exchange_server(call) as server:
        await connected(js, server.url)
        await js.run(TOOLS + "kept.stream = kept.archer.send(request, { tools: kept.tools });", request=QUESTION)
        await server.until("chat/send")
        await js.run("await kept.archer.call('ping')")
        await server.settle("c1", "ok")
        assert (await js.run(READ))["ran"] == []
    assert not server.asked_of("tool/claim")


async def test_a_message_can_be_steered_in_and_stands_among_the_messages(js: Javascript) -> None:
    async with exchange_server(Call("c1")) as server:
        await connected(js, server.url)
        seen = await js.run(
            """
            const stream = kept.archer.send(request, { tools: {} });
            const first = await stream.steer("In Celsius, please.", { messageId: "steer-1" });
            await kept.archer.answer("mine", "c1", "rain");
            for await (const _ of stream);
            return { first, messages: stream.messages };
            """,
            request=QUESTION,
        )
    assert seen["first"] == {"outcome": "accepted"}
    assert [message["role"] for message in seen["messages"]] == ["assistant", "tool", "user", "assistant"]
    assert seen["messages"][2] == {"role": "user", "message_id": "steer-1", "content": "In Celsius, please."}


async def test_the_client_s_own_tools_are_those_of_all_its_streams(js: Javascript) -> None:
    async with exchange_server(Call("c1")) as server:
        await js.run(TOOLS + "kept.archer = connect({ url, WebSocket, tools: kept.tools });", url=server.url)
        seen = await js.run("kept.stream = kept.archer.send(request);" + READ, request=QUESTION)
    assert (seen["ran"], seen["text"]) == (["c1"], "c1 ok")


@pytest.mark.parametrize("lost", [[], ["tool/approve"], ["tool/result"], ["tool/approve", "tool/result"]], ids=str)
async def test_a_call_that_was_denied_here_does_not_run_here_though_another_window_approved_it_first(
    js: Javascript, lost: list[str]
) -> None:
    deny = """
        kept.ran = [];
        const run = () => kept.ran.push("c1");
        const tools = { get_weather: { needsApproval: true, run } };
        const asked = new Promise((resolve) => (kept.asked = resolve));
        const approve = () => (kept.asked(), new Promise((resolve) => (kept.say = resolve)));
        kept.stream = kept.archer.send(request, { tools, approve });
        await asked;
    """
    async with exchange_server(Call("c1", needs_approval=True), lost=lost) as server:
        await connected(js, server.url)
        await js.run(deny, request=QUESTION)
        server.held_at = len(server.log)  # The approval's event is on its way when the person says no.
        await server.approve("c1")
        await js.run("kept.say({ approved: false, reason: 'not there' })")
        await server.until("tool/approve")
        await server.release()
        seen = await js.run(READ)
    assert seen["ran"] == []
    assert server.asked_of("tool/claim") == []
    denied = {"stream_id": "mine", "call_id": "c1", "content": "not there", "status": "denied"}
    results = server.asked_of("tool/result")
    assert results == [denied] * (1 + lost.count("tool/result"))
    assert seen["text"] == "c1 denied"


@pytest.mark.parametrize("lost", [[], ["tool/approve"], ["tool/result"]], ids=str)
async def test_a_call_that_was_denied_by_hand_does_not_run_here_though_another_window_approved_it_first(
    js: Javascript, lost: list[str]
) -> None:
    async with exchange_server(Call("c1", needs_approval=True), lost=lost) as server:
        await connected(js, server.url)
        await js.run(TOOLS + UNDECIDED, request=QUESTION)
        server.held_at = len(server.log)  # The approval's event is on its way when the person says no.
        await server.approve("c1")
        await js.run("kept.told = kept.archer.approve('mine', 'c1', false, 'not there')")
        await server.until("tool/approve")
        await server.release()
        seen = await js.run(READ)
        told = await js.run("return kept.told")
    assert seen["ran"] == []
    assert server.asked_of("tool/claim") == []
    denied = {"stream_id": "mine", "call_id": "c1", "content": "not there", "status": "denied"}
    assert server.asked_of("tool/result") == [denied] * (1 + lost.count("tool/result"))
    assert seen["text"] == "c1 denied"
    assert told["outcome"] == ("already_answered" if "tool/result" in lost else "accepted")


async def test_who_denies_by_hand_what_runs_elsewhere_is_told(js: Javascript) -> None:
    async with exchange_server(Call("c1", needs_approval=True)) as server:
        await connected(js, server.url)
        await js.run(TOOLS + UNDECIDED, request=QUESTION)
        server.held_at = len(server.log)
        await server.approve("c1")
        server.calls["c1"].claim = "another window's"
        told = await js.run("return kept.archer.approve('mine', 'c1', false)")
        await server.settle("c1", "ok", "rain")
        await server.release()
        seen = await js.run(READ)
    assert (told["outcome"], seen["ran"], seen["text"]) == ("taken", [], "c1 ok")


async def test_a_call_that_was_denied_by_hand_in_vain_and_then_approved_runs_here(js: Javascript) -> None:
    async with exchange_server(Call("c1", needs_approval=True)) as server:
        await connected(js, server.url)
        await js.run(TOOLS + UNDECIDED, request=QUESTION)
        seen = await js.run(
            """
            const refused = kept.archer.approve("mine", "c1", false, "x".repeat(4_000_000)).catch(({ kind }) => kind);
            if ((await refused) !== "content_too_large") throw new Error("it was sent");
            await kept.archer.approve("mine", "c1", true);
            """
            + READ,
        )
    assert (seen["ran"], seen["text"]) == (["c1"], "c1 ok")

"""Watching conversations by the JavaScript client, over lost connections too (protocol section 26)."""

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

import archer_ws
from tests.fakes.cutting_proxy import CuttingProxy
from tests.fakes.refused_list import RefusedList
from tests.fakes.scripted_archer import Scripted, listening
from tests.interop.javascript import Javascript
from tests.interop.scripted_chat import connected
from tests.processes import Server

pytestmark = [pytest.mark.interop, pytest.mark.timeout(180)]

CLIENT = Path(archer_ws.__file__).parent / "console"
WATCH = """
    kept.told = [];
    kept.errors = [];
    kept.until = (...matches) => new Promise((resolve) => {
        const look = () => matches.every((match) => kept.told.some(match)) && (clearInterval(timer), resolve());
        const timer = setInterval(look, 5);
    });
"""


def change(server: Server, method: str, path: str, body: dict[str, Any] | None = None) -> None:
    """Somebody else changes a conversation."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        f"{server.url}/api/v1/sessions{path}", data, {"Content-Type": "application/json"}, method=method
    )
    urllib.request.urlopen(request, timeout=10).close()


async def test_what_another_window_does_is_told(js: Javascript, sidecar: Server) -> None:
    await connected(js, sidecar.url)
    told = await js.run(
        WATCH
        + """
        const { archer } = kept;
        await archer.call("session/create", { session_id: "w-old" });
        const stop = archer.watch((change) => kept.told.push(change));
        await archer.call("session/create", { session_id: "w-sky", title: "Sky" });
        await kept.until(({ session_id, title }) => session_id === "w-sky" && title === "Sky");
        await archer.send({ session_id: "w-sky", messages: [{ role: "user", content: "Why?" }] }).ended;
        await kept.until(({ version, active }) => version === 3 && active.length === 0);
        await archer.call("session/delete", { session_id: "w-sky" });
        await kept.until(({ deleted }) => deleted);
        stop();
        await archer.call("session/update", { session_id: "w-old", title: "t" });
        await archer.call("ping");
        return kept.told.map(({ session_id }) => session_id);
    """
    )
    assert set(told) == {"w-sky"}


async def test_what_changed_without_a_connection_is_told_behind_the_next(
    js: Javascript, sidecar: Server, proxy: CuttingProxy
) -> None:
    await connected(js, proxy.url)
    await js.run(
        WATCH
        + """
        const { archer } = kept;
        for (const id of ["x-gone", "x-changed"]) await archer.call("session/create", { session_id: id });
        archer.watch((change) => kept.told.push(change));
        await archer.call("session/update", { session_id: "x-gone", title: "seen" });
        await kept.until(({ title }) => title === "seen");
        await archer.call("session/list");
        await archer.call("session/list");
        kept.told.length = 0;
    """
    )
    proxy.accepts = False
    proxy.cut()
    change(sidecar, "DELETE", "/x-gone")
    change(sidecar, "PATCH", "/x-changed", {"title": "new"})
    change(sidecar, "POST", "", {"session_id": "x-made"})
    proxy.accepts = True
    await js.run("""
        await kept.until(
            ({ session_id, deleted }) => session_id === "x-gone" && deleted,
            ({ session_id, title }) => session_id === "x-changed" && title === "new",
            ({ session_id }) => session_id === "x-made",
        );
        kept.told.length = 0;
        await kept.archer.call("session/update", { session_id: "x-made", title: "later" });
        await kept.until(({ title }) => title === "later");
    """)


async def test_a_list_that_was_refused_on_a_lost_connection_disturbs_none_on_the_next(js: Javascript) -> None:
    async with listening(Scripted(RefusedList())) as url:
        await connected(js, url)
        told = await js.run(
            WATCH
            + """
            kept.archer.watch((change) => kept.told.push(change));
            await kept.until(({ session_id }) => session_id === "new");
            for (let time = 0; time < 3; time++) await kept.archer.call("ping");
            return kept.told.map(({ session_id }) => session_id);
        """
        )
    assert told == ["new"]


async def test_one_conversation_is_watched_alone_and_one_that_is_not_there_is_told(
    js: Javascript, sidecar: Server
) -> None:
    await connected(js, sidecar.url)
    seen = await js.run(
        WATCH
        + """
        const { archer } = kept;
        const error = await new Promise((onError) => archer.watch(() => {}, { sessionId: "nobody", onError }));
        for (const id of ["y-one", "y-two"]) await archer.call("session/create", { session_id: id });
        archer.watch((change) => kept.told.push(change), { sessionId: "y-two" });
        for (const id of ["y-one", "y-two"]) await archer.call("session/update", { session_id: id, title: "t" });
        await kept.until(({ title }) => title === "t");
        return { kind: error.kind, told: kept.told.map(({ session_id }) => session_id) };
    """
    )
    assert seen["kind"] == "session_not_found"
    assert set(seen["told"]) == {"y-two"}


async def test_a_watch_remembers_no_conversation_that_is_gone(js: Javascript) -> None:
    module = (CLIENT / "archer-watch.js").as_uri()
    grown_bytes = await js.run(
        """
        const { setFlagsFromString } = await import("node:v8");
        const { runInNewContext } = await import("node:vm");
        setFlagsFromString("--expose_gc");
        const collect = runInNewContext("gc");
        const used = () => (collect(), process.memoryUsage().heapUsed);
        const { SessionWatches } = await import(module);
        const watches = new SessionWatches({ ask: (method, params, resolve) => resolve({ items: [] }) });
        watches.add(() => {});
        const before = used();
        for (let number = 0; number < 100_000; number++) {
            watches.notified({ session_id: `${number}-`.padEnd(64, "x"), version: 1, active: [], deleted: true });
        }
        const grown = used() - before;
        watches.opened(); // Until here it is used.
        return grown;
    """,
        module=module,
    )
    assert grown_bytes < 2_000_000

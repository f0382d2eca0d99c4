"""Autobahn's cases, run by kosoku against an echo on the production WebSocket stack.

    python -m tests.test_socket_conformance.autobahn [FILE]

The results go to the file, results.json beside this module where none is named.

It runs in a process of its own: kosoku changes `sys.path` and `binascii` for Autobahn's Python 2 cases.

Left out are what the cases themselves call performance (9.3 to 9.8: megabytes in fragments, and round trips), messages
over our limit (9.1 and 9.2 from number 4 on; the first of each is kept to see the limit), and compression (12 and 13),
which is off.
"""

import asyncio
import json
import os
import sys
from pathlib import Path

import kosoku
from fastapi import FastAPI, WebSocket, WebSocketDisconnect

from archer_ws.core.limits import Limits
from archer_ws.server.server import _config
from tests.fakes.prompt_server import PromptServer, served

RESULTS = Path(__file__).with_name("results.json")
RUN_LIMIT_S = 90.0
EXCLUDED = ["9.1.5", "9.1.6", "9.2.5", "9.2.6", "9.3.*", "9.4.*", "9.5.*", "9.6.*", "9.7.*", "9.8.*", "12.*", "13.*"]
#: A good message and a frame that breaks the rules come at once: how many of the good one's echoes are sent before the
#: connection fails is chance, and Autobahn takes any number, as OK or as NON-STRICT.
LAST_ECHO_IS_CHANCE = {"3.2", "3.3", "3.4", "4.1.3", "4.1.4", "4.1.5", "4.2.3", "4.2.4", "4.2.5", "5.15"}

app = FastAPI()


@app.websocket("/")
async def echo(websocket: WebSocket) -> None:
    """Send back each message as it came."""
    await websocket.accept()
    while (message := await websocket.receive())["type"] == "websocket.receive":
        try:
            await websocket.send({**message, "type": "websocket.send"})
        except WebSocketDisconnect:
            return


async def run_cases() -> dict[str, str]:
    """The cases' results in their order: the exchange's verdict, the close's, and the close code that we sent."""
    async with served(PromptServer(_config(app, Limits()))) as address:
        try:
            async with asyncio.timeout(RUN_LIMIT_S):
                results = await kosoku.run_fuzzingclient(f"ws://{address}/", None, EXCLUDED, concurrency=8)
        except kosoku.FailureError as failure:
            results = failure.results
    return {
        result.case_id: ", ".join(
            (
                _settled(result.case_id, result.behavior.value),
                f"close {result.behavior_close.value}",
                str(result.remote_close_code or "no code"),
            )
        )
        for result in results
    }


def _settled(case: str, verdict: str) -> str:
    return "OK or NON-STRICT" if case in LAST_ECHO_IS_CHANCE and verdict in {"OK", "NON-STRICT"} else verdict


def main() -> None:
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS
    file.write_text(json.dumps(asyncio.run(run_cases()), indent=1) + "\n", encoding="utf-8")
    # At a regular exit kosoku's threads, which are Rust's, may still want the interpreter: Python ends such threads by
    # unwinding their stacks, and Rust aborts the process then.
    os._exit(0)


if __name__ == "__main__":
    main()

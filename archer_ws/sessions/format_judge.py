"""Checks whether a finished completion has the requested response format (protocol section 25).

It decides whether a check runs on the event loop or in a child process, limits the child's time, and owns the queue for
it. core/judging does the check itself; the caller reports the result.

The child is a process and not a thread, because the engine holds the interpreter's lock for the whole check.
"""

import asyncio
import json
import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import structlog

from archer_ws.core.child_processes import apart, child_command, child_environment
from archer_ws.core.exceptions import FieldError
from archer_ws.core.judging import engine
from archer_ws.core.judging.on_the_loop import judged_here
from archer_ws.llm_gateway.formats import ResponseFormat

#: How long a stream's end may wait for the check, in seconds: in the queue and in the child together.
JUDGE_S = 2.0
#: How many completions may wait for the child; each holds its text in memory.
QUEUE_MAX = 16
CHILD_COMMAND = child_command(engine)
_OBJECT = json.dumps({"type": "object"})

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Judgement:
    """The result of a check.

    Attributes:
        errors: the first 20 errors; empty if the text has the format. A path is names and indices joined by dots, and
            "" for the whole text.
    """

    errors: tuple[FieldError, ...]

    @property
    def valid(self) -> bool:
        """Whether the text has the requested format."""
        return not self.errors


class FormatJudge:
    """Checks formats; one for the server, usable from any event loop.

    Args:
        command: the child's command line; it has the interface of core/judging/engine.py.
        within_s: how long a check may take, in seconds.
        queue_max: how many checks may wait for the child.
    """

    def __init__(
        self, command: Sequence[str] = CHILD_COMMAND, *, within_s: float = JUDGE_S, queue_max: int = QUEUE_MAX
    ) -> None:
        # Loads the engine now, so that no request waits for it.
        engine.accept({})
        self._command = tuple(command)
        self._within_s = within_s
        self._queue_max = queue_max
        self._asked = 0
        # One thread, so one child at a time.
        self._children = ThreadPoolExecutor(1, "format-judge")
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._closed = False

    async def judge(self, text: str, response_format: ResponseFormat) -> Judgement | None:
        """Check a finished completion. None if the request asked for plain text, or if the check took too long.

        Never raises because of the text or the schema.
        """
        match response_format.type:
            case "text":
                return None
            case "json_object":
                schema = _OBJECT
            case "json_schema":
                assert response_format.json_schema
                schema = json.dumps(response_format.json_schema.schema_)
        found = await self._judged(text, schema)
        return None if found is None else Judgement(tuple(found))

    async def judge_by(self, text: str, schema: Mapping[str, Any]) -> list[FieldError] | None:
        """The first 20 errors of a text by a JSON schema; None if the check took too long."""
        return await self._judged(text, json.dumps(schema))

    async def aclose(self) -> None:
        """Kill the child. Checks that wait for it return None."""
        with self._lock:
            self._closed = True
            if self._child is not None:
                self._child.kill()
        await asyncio.to_thread(self._children.shutdown)

    async def _judged(self, text: str, schema: str) -> list[FieldError] | None:
        found = judged_here(text, schema)
        if found is None:
            found = await self._judged_apart(text, schema)
        return None if found is None else [FieldError(path=path, message=said) for path, said in found]

    async def _judged_apart(self, text: str, schema: str) -> list[engine.Finding] | None:
        if self._closed or self._asked > self._queue_max:
            _log.warning("format_not_judged", reason="closed" if self._closed else "queue_full")
            return None
        deadline = time.monotonic() + self._within_s
        self._asked += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._children, self._ask, text, schema, deadline)
        finally:
            self._asked -= 1

    def _ask(self, text: str, schema: str, deadline: float) -> list[engine.Finding] | None:
        """Run a child, and kill it at the deadline (`time.monotonic()` seconds). Runs in the executor's thread."""
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            _log.warning("format_not_judged", reason="waited_too_long")
            return None
        try:
            told = self._run(f"{schema}\n{text}".encode("utf-8", "surrogatepass"), left_s)
        except OSError as error:
            _log.warning("format_not_judged", reason="not_started", error=str(error))
            return None
        # The last complete line; the child may have been killed in the middle of another.
        _, _, last = told.rpartition(b"\n")[0].rpartition(b"\n")
        found: list[engine.Finding] | None = json.loads(last) if last else None
        if found is None:
            _log.warning("format_not_judged", reason="undecided")
        return found

    def _run(self, request: bytes, within_s: float) -> bytes:
        pipe = subprocess.PIPE
        with self._lock:
            if self._closed:
                return b""
            child: subprocess.Popen[bytes] = subprocess.Popen(
                self._command,
                stdin=pipe,
                stdout=pipe,
                stderr=subprocess.DEVNULL,
                env=child_environment(os.environ),
                **apart(),
            )
            self._child = child
        with child:
            try:
                return child.communicate(request, within_s)[0]
            except subprocess.TimeoutExpired:
                child.kill()
                return child.communicate()[0]
            finally:
                with self._lock:
                    # Once it has ended, its process id may belong to another process.
                    self._child = None

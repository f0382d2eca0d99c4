"""Whether a finished answer has the form that was asked for (protocol section 25).

Owns: what is judged on the event loop and what in a child process, the child's time, and the queue before it. Leaves to
core/judging what is wrong with a text, and to the caller what to tell of it.

A thread would be no help: the engine holds the interpreter for as long as it takes.
"""

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from archer_ws.core.child_processes import apart, child_environment
from archer_ws.core.exceptions import FieldError
from archer_ws.core.judging import engine
from archer_ws.core.judging.on_the_loop import judged_here
from archer_ws.llm_gateway.formats import ResponseFormat

#: How long an answer's end may wait for the judgement, in seconds: in the queue and in the child.
JUDGE_S = 2.0
#: Answers that may wait for the child, each with its text.
QUEUE_MAX = 16
CHILD_COMMAND = (sys.executable, "-P", str(Path(engine.__file__)))
_OBJECT = json.dumps({"type": "object"})

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What became of a format.

    Attributes:
        errors: what is wrong, the first 20; none where the answer is as it was asked for. Paths are names and indices
            joined by dots, "" for the whole answer.
    """

    errors: tuple[FieldError, ...]

    @property
    def valid(self) -> bool:
        """Whether the answer is as it was asked for."""
        return not self.errors


class FormatJudge:
    """One for a server; usable from any event loop.

    Args:
        command: the program of the child, as core/judging/engine.py has it.
        within_s: how long a judgement may take, in seconds.
        queue_max: how many may wait for the child.
    """

    def __init__(
        self, command: Sequence[str] = CHILD_COMMAND, *, within_s: float = JUDGE_S, queue_max: int = QUEUE_MAX
    ) -> None:
        # Loads the engine, which no request shall wait for.
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
        """What a finished answer is worth; None where nothing but text was asked for, or where it could not be judged
        in time. Never raises for what stands in the text or the schema.
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
        """What is wrong with a text by a schema, the first 20; None where it could not be judged in time."""
        return await self._judged(text, json.dumps(schema))

    async def aclose(self) -> None:
        """End the child; what waits for it is not judged."""
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
        """Run a child, and kill it at the deadline (in `time.monotonic`'s seconds); in the executor's thread."""
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            _log.warning("format_not_judged", reason="waited_too_long")
            return None
        try:
            told = self._run(f"{schema}\n{text}".encode("utf-8", "surrogatepass"), left_s)
        except OSError as error:
            _log.warning("format_not_judged", reason="not_started", error=str(error))
            return None
        # The last line that is whole.
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
                    # From its end on its process id may be another's.
                    self._child = None

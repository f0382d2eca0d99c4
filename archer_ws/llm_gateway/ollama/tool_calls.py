"""The calls in a completion of Ollama's. Pure.

Each call comes complete, with its arguments as an object; several come in one line or in separate lines. In many
versions the index is always 0, and older ones send no ids, so each entry is a separate call (BerriAI/litellm#33678).
"""

from collections.abc import Iterator

from archer_ws.llm_gateway.decoding.completion import Unreadable
from archer_ws.llm_gateway.decoding.tool_calls import ArgumentsPiece, AssembledCall, ToolCallAssembler


class CalledTools:
    """The calls of one completion."""

    def __init__(self) -> None:
        self._assembler = ToolCallAssembler()
        self._count = 0

    @property
    def has_calls(self) -> bool:
        """Whether there is a call with a name."""
        return self._assembler.has_calls

    @property
    def all(self) -> list[AssembledCall]:
        """The calls that were reported, in order."""
        return self._assembler.told

    def take(self, calls: object) -> Iterator[ArgumentsPiece]:
        """Add a message's `tool_calls`; yields their arguments.

        Raises:
            Unreadable: it is not a list of calls.
        """
        if not calls:
            return
        if not isinstance(calls, list):
            raise Unreadable("tool calls that are not a list")
        for call in calls:
            function = call.get("function") if isinstance(call, dict) else None
            if not isinstance(function, dict):
                raise Unreadable("a tool call without a function")
            yield from self._assembler.add(
                index=self._count,
                foreign_id=call.get("id"),
                name=function.get("name"),
                arguments=function.get("arguments"),
            )
            self._count += 1

    def finish(self) -> Iterator[ArgumentsPiece]:
        """The completion ended well: yields the arguments of calls without any."""
        return self._assembler.finish()

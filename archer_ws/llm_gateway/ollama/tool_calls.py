"""The calls in an answer of Ollama's. Pure.

Each comes whole, its arguments as an object; several in one line, or in lines of their own. In many versions the index
is 0 each time, and older ones give no ids, so that each entry is a call of its own (BerriAI/litellm#33678).
"""

from collections.abc import Iterator

from archer_ws.llm_gateway.decoding.completion import Unreadable
from archer_ws.llm_gateway.decoding.tool_calls import ArgumentsPiece, AssembledCall, ToolCallAssembler


class CalledTools:
    """The calls of one answer."""

    def __init__(self) -> None:
        self._assembler = ToolCallAssembler()
        self._count = 0

    @property
    def has_calls(self) -> bool:
        """Whether a call came that has a name."""
        return self._assembler.has_calls

    @property
    def all(self) -> list[AssembledCall]:
        """The calls that were told of, in their order."""
        return self._assembler.told

    def take(self, calls: object) -> Iterator[ArgumentsPiece]:
        """What a message has as `tool_calls`.

        Raises:
            Unreadable: it is no list of calls.
        """
        if not calls:
            return
        if not isinstance(calls, list):
            raise Unreadable("tool calls that are no list")
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
        """The answer ended well: the arguments of calls that have none."""
        return self._assembler.finish()

"""The tool calls among the blocks of a completion of Anthropic's: where one begins, and which pieces belong to it.
Pure."""

from collections.abc import Iterator
from typing import Any

from archer_ws.llm_gateway.decoding.tool_calls import ArgumentsPiece, AssembledCall, ToolCallAssembler

#: Other servers may send a block's index as text; longer text is not an index.
_PLACE_CHARS = 64


class CalledTools:
    """The calls of one completion. Blocks are identified by their index. Tools that the server runs itself are not
    calls here.

    Attributes:
        told: by index, the id and name of calls that were reported and may continue; pieces of their arguments need not
            pass through here.
    """

    def __init__(self) -> None:
        self._assembler = ToolCallAssembler()
        #: Blocks whose arguments have not come yet.
        self._open: set[int | str | None] = set()
        self.told: dict[object, tuple[str, str]] = {}

    @property
    def has_calls(self) -> bool:
        """Whether there is a call with a name."""
        return self._assembler.has_calls

    @property
    def all(self) -> list[AssembledCall]:
        """The calls that were reported, in order."""
        return self._assembler.told

    def begin(self, index: object, block: dict[str, Any]) -> Iterator[ArgumentsPiece]:
        """Begin a block. If it is a call, yields the arguments that it contains: all, or none."""
        place = _place(index)
        self._open.discard(place)
        self.told.pop(place, None)
        if block.get("type") != "tool_use":
            return
        given = block.get("input")
        if not given:
            self._open.add(place)
        yield from self._assembler.add(index=place, foreign_id=block.get("id"), name=block.get("name"), arguments=given)

    def go_on(self, index: object, text: object) -> Iterator[ArgumentsPiece]:
        """Append a piece of a block's arguments."""
        place = _place(index)
        if place in self._open:
            yield from self._assembler.add(index=place, arguments=text)
            call = self._assembler.going_on(place) if isinstance(place, int) else None
            if call is not None:
                self.told[place] = call

    def finish(self) -> Iterator[ArgumentsPiece]:
        """The completion ended well: yields the arguments of calls without any."""
        return self._assembler.finish()


def _place(index: object) -> int | str | None:
    return index if isinstance(index, int) or (isinstance(index, str) and len(index) <= _PLACE_CHARS) else None

"""The calls among the blocks of an answer of Anthropic's: where one begins, and what belongs to it. Pure."""

from collections.abc import Iterator
from typing import Any

from archer_ws.llm_gateway.decoding.tool_calls import ArgumentsPiece, AssembledCall, ToolCallAssembler

#: Other servers may say a block's number as text; what is longer is none.
_PLACE_CHARS = 64


class CalledTools:
    """The calls of one answer. Blocks are told apart by their index; what the server itself runs is no call of ours.

    Attributes:
        told: by index, id and name of calls that were told of, and may go on: a piece of their arguments need not be
            taken here.
    """

    def __init__(self) -> None:
        self._assembler = ToolCallAssembler()
        #: Blocks whose arguments are still to come.
        self._open: set[int | str | None] = set()
        self.told: dict[object, tuple[str, str]] = {}

    @property
    def has_calls(self) -> bool:
        """Whether a call came that has a name."""
        return self._assembler.has_calls

    @property
    def all(self) -> list[AssembledCall]:
        """The calls that were told of, in their order."""
        return self._assembler.told

    def begin(self, index: object, block: dict[str, Any]) -> Iterator[ArgumentsPiece]:
        """A block begins; where it is a call, what it says of its arguments already: all, or nothing."""
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
        """A piece of a block's arguments."""
        place = _place(index)
        if place in self._open:
            yield from self._assembler.add(index=place, arguments=text)
            call = self._assembler.going_on(place) if isinstance(place, int) else None
            if call is not None:
                self.told[place] = call

    def finish(self) -> Iterator[ArgumentsPiece]:
        """The answer ended well: the arguments of calls that have none."""
        return self._assembler.finish()


def _place(index: object) -> int | str | None:
    return index if isinstance(index, int) or (isinstance(index, str) and len(index) <= _PLACE_CHARS) else None

"""Recognises what a server sends again of a call's arguments: the whole behind its pieces, or everything so far with
each piece. Pure.

Only a piece that begins an object may be either. It is one if the arguments can't go on with an object: if they are
whole, or do not end where JSON has a value.
"""

import json
from collections.abc import Callable

#: How much of the arguments before such pieces is looked at, in characters, besides twice the length of these pieces.
_LOOKED_AT_MAX = 4 * 1024 * 1024
#: What a value may follow in JSON.
_BEFORE_VALUES = (":", "[", ",")


class RepeatedArguments:
    """The calls of one completion."""

    def __init__(self) -> None:
        #: The calls each of whose pieces has everything before it.
        self._growing: set[str] = set()
        self._to_look_at = _LOOKED_AT_MAX

    def new_in(self, call_id: str, piece: str, said: Callable[[], str]) -> str:
        """The part of a piece that was not sent before.

        Args:
            piece: a text that begins with a brace.
            said: gives the call's arguments before it.
        """
        if self._to_look_at < 0:
            return piece
        before = said()
        self._to_look_at += 2 * len(piece) - len(before)
        end = before.rstrip()
        if not end:
            return piece
        if piece.startswith(before) and (call_id in self._growing or not end.endswith(_BEFORE_VALUES)):
            self._growing.add(call_id)
            return piece[len(before) :]
        if end.endswith("}") and piece.rstrip().endswith("}") and (whole := _object(before)) is not None:
            return "" if _object(piece) == whole else piece
        return piece


def _object(text: str) -> dict[str, object] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None

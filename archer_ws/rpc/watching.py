"""Which of its principal's conversations one connection watches, and how their changes are sent.

At most one state of each conversation waits to be sent, so a peer that does not read needs memory for no more than its
conversations, and delays nobody.
"""

from functools import partial

from archer_ws.core.exceptions import Overloaded
from archer_ws.rpc.codec import encode_notification
from archer_ws.rpc.writer import Writer
from archer_ws.sessions.changes import SessionChanges, Watch
from archer_ws.sessions.models import SessionChanged

#: The most conversations that one connection watches one by one; a client with more watches all.
WATCHED_MAX = 256

CHANGED = "session/changed"


class Watching:
    """A connection's watches.

    Args:
        principal: whose conversations.
        changes: reports their changes.
        writer: sends them.
    """

    def __init__(self, principal: str, changes: SessionChanges, writer: Writer) -> None:
        self._changes = changes
        self._writer = writer
        self._watch = Watch(principal, self._told)

    def check_room(self, session_id: str) -> None:
        """Refuse one conversation more than may be watched one by one.

        Raises:
            Overloaded: the limit is reached.
        """
        watched = self._watch.session_ids
        if session_id not in watched and len(watched) >= WATCHED_MAX:
            raise Overloaded(
                f"{WATCHED_MAX} conversations are watched one by one on this connection, the most there may be",
                hint="Leave session_id out to watch all of them, or session/unwatch some.",
                retry_after_ms=1000,
            )

    def begin(self, session_id: str | None) -> None:
        """Watch the conversation from now on, or all of them if it is None."""
        if session_id is None:
            self._watch.wants_all = True
        elif len(self._watch.session_ids) < WATCHED_MAX:
            self._watch.session_ids.add(session_id)
        self._changes.add(self._watch)

    def end(self, session_id: str | None) -> None:
        """Stop watching the conversation, or everything if it is None. States of it that wait to be sent are
        dropped."""
        if session_id is None:
            self._watch.wants_all = False
            self._watch.session_ids.clear()
            self._changes.remove(self._watch)
        else:
            self._watch.session_ids.discard(session_id)
        self._writer.keep_states(self._watch.wants)

    def _told(self, state: SessionChanged) -> None:
        self._writer.put_state(state.session_id, partial(encode_notification, CHANGED, state))

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


class ExpectedWatch:
    """A watch of one conversation that begins with a response which has not been sent yet."""

    __slots__ = ("session_id",)

    def __init__(self, session_id: str) -> None:
        self.session_id = session_id


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
        self._expected: dict[ExpectedWatch, None] = {}

    def expect(self, session_id: str) -> ExpectedWatch:
        """Note that a watch of one conversation begins when the request that asks for it no longer waits. Until `begin`
        or `forget` it counts as one.

        Raises:
            Overloaded: one more than may be watched one by one.
        """
        watched = self._watch.session_ids.union(each.session_id for each in self._expected)
        if session_id not in watched and len(watched) >= WATCHED_MAX:
            raise Overloaded(
                f"{WATCHED_MAX} conversations are watched one by one on this connection, the most there may be",
                hint="Leave session_id out to watch all of them, or session/unwatch some.",
                retry_after_ms=1000,
            )
        expected = ExpectedWatch(session_id)
        self._expected[expected] = None
        return expected

    def forget(self, expected: ExpectedWatch) -> None:
        """The watch does not begin."""
        self._expected.pop(expected, None)

    def begin(self, expected: ExpectedWatch) -> None:
        """Watch the conversation from now on, unless `end` came first."""
        if expected in self._expected:
            del self._expected[expected]
            self._watch.session_ids.add(expected.session_id)
            self._changes.add(self._watch)

    def begin_all(self) -> None:
        """Watch all conversations from now on."""
        self._watch.wants_all = True
        self._changes.add(self._watch)

    def end(self, session_id: str | None) -> None:
        """Stop watching the conversation, or everything if it is None; what is expected does not begin. States of it
        that wait to be sent are dropped."""
        self._expected = {each: None for each in self._expected if session_id not in {None, each.session_id}}
        if session_id is None:
            self._watch.wants_all = False
            self._watch.session_ids.clear()
            self._changes.remove(self._watch)
        else:
            self._watch.session_ids.discard(session_id)
        self._writer.keep_states(self._watch.wants)

    def _told(self, state: SessionChanged) -> None:
        self._writer.put_state(state.session_id, partial(encode_notification, CHANGED, state))

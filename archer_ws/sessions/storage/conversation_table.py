"""The table of the conversations in memory: which there are, how large they are together, and which files they name.

What a store does with them is memory.py's.
"""

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Sequence
from typing import Any

from archer_ws.core.clock import utc_now
from archer_ws.core.exceptions import Overloaded
from archer_ws.sessions.shares import Shares
from archer_ws.sessions.storage.conversation import Conversation, Entry, described_bytes
from archer_ws.sessions.storage.refusals import check_count, no_session

#: A principal and the id of its session.
Key = tuple[str, str]


class ConversationTable:
    """Conversations by principal and id, with limits of number, bytes and age, which principals share (see Shares).

    Each method that may add a conversation, or looks at several, should be called after `expire`.

    Args:
        sessions_max: the limit of sessions of all principals.
        bytes_max: the limit of all sessions together, in bytes (see MemoryStore).
        idle_ttl_s: a session that is not used for so long is deleted, in seconds.
        principals: the configured principals.
        clock: a monotonic clock, in seconds.
    """

    def __init__(
        self,
        *,
        sessions_max: int,
        bytes_max: int,
        idle_ttl_s: float,
        principals: Sequence[str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._counts = Shares(sessions_max, principals)
        self._sizes = Shares(bytes_max, principals)
        self._idle_ttl_s = idle_ttl_s
        self._clock = clock
        #: Whether a session counts as used although nobody asks for it.
        self.is_busy: Callable[[str, str], bool] = lambda _principal, _session_id: False
        # In order of use over all principals, the least recent first.
        self._conversations: OrderedDict[Key, Conversation] = OrderedDict()
        # In the order of their creation, by principal and ordinal.
        self._by_principal: dict[str, dict[int, Conversation]] = {}
        self._next_ordinal = 1
        #: The number of messages that name each file.
        self._files: Counter[str] = Counter()
        # The number of the next message.
        self._next_number = 1

    def __contains__(self, key: Key) -> bool:
        """Whether there is a session with this principal and id."""
        return key in self._conversations

    @property
    def principals(self) -> Collection[str]:
        """All principals that have sessions."""
        return self._by_principal.keys()

    @property
    def files(self) -> Collection[str]:
        """The ids of the files that messages name."""
        return self._files.keys()

    @property
    def next_ordinal(self) -> int:
        """The ordinal of the next session: all others have smaller ones."""
        return self._next_ordinal

    @property
    def next_number(self) -> int:
        """The number of the next message in the order of storing: all others have smaller ones."""
        return self._next_number

    def of(self, principal: str) -> Sequence[Conversation]:
        """The principal's conversations, oldest first."""
        return list(self._by_principal.get(principal, {}).values())

    def peek(self, principal: str, session_id: str) -> Conversation | None:
        """The session's conversation, without using it."""
        return self._conversations.get((principal, session_id))

    def use(self, principal: str, session_id: str) -> Conversation:
        """The session's conversation, which counts as used now.

        Raises:
            SessionNotFound: there is none.
        """
        self.expire()
        conversation = self._conversations.get((principal, session_id))
        if conversation is None:
            raise no_session(session_id)
        conversation.used_at = self._clock()
        self._conversations.move_to_end((principal, session_id))
        return conversation

    def begin(self, key: Key, title: str | None, metadata: dict[str, Any] | None) -> Conversation:
        """Add a new session.

        Raises:
            Overloaded: the store is full.
        """
        principal, session_id = key
        check_count(self._counts, principal)
        now = utc_now()
        conversation = Conversation(session_id, self._next_ordinal, None, None, now, now, self._clock())
        self.describe(principal, conversation, title, metadata)
        self._next_ordinal += 1
        self._conversations[key] = conversation
        self._by_principal.setdefault(principal, {})[conversation.ordinal] = conversation
        self._counts.take(principal, 1)
        return conversation

    def fill(self, principal: str, conversation: Conversation, messages: list[Entry]) -> None:
        """Give a new session its messages, for which there is room."""
        self.enter(messages)
        conversation.replace_end(0, messages)
        conversation.refused = sum(1 for entry in messages if entry.is_refused)
        conversation.native = [entry for entry in messages if entry.native is not None]
        self.resize(principal, size_of(messages))

    def describe(
        self, principal: str, conversation: Conversation, title: str | None, metadata: dict[str, Any] | None
    ) -> None:
        """Set title and metadata, unless they are None.

        Raises:
            Overloaded: there is no room for the change.
        """
        title = conversation.title if title is None else title
        metadata = conversation.metadata if metadata is None else metadata
        size = described_bytes(title, metadata)
        change = size - conversation.described_bytes
        self.check_room(principal, change)
        conversation.title, conversation.metadata, conversation.described_bytes = title, metadata, size
        self.resize(principal, change)

    def enter(self, come: Sequence[Entry], gone: Sequence[Entry] = ()) -> None:
        """Number new messages in the order of storing, and count the files that they name; those that they replace
        (`gone`) name theirs no more."""
        for entry in come:
            entry.number = self._next_number
            self._next_number += 1
        self._files.update(files_of(come))
        for file_id in files_of(gone):
            self._files[file_id] -= 1
            if not self._files[file_id]:
                del self._files[file_id]

    def check_room(self, principal: str, change: int) -> None:
        """Check that there is room for so many bytes more.

        Raises:
            Overloaded: there is not.
        """
        if change > 0 and not self._sizes.has_room(principal, change):
            raise Overloaded(
                "the stored sessions have reached their limit of memory"
                if self._sizes.is_full(change)
                else "your stored sessions have reached their limit of memory; the rest is reserved for others",
                hint="Delete sessions that are no longer needed, or raise SESSION_BYTES_MAX.",
            )

    def resize(self, principal: str, change: int) -> None:
        """Note that the principal's sessions take so many bytes more."""
        self._sizes.take(principal, change)

    def forget(self, key: Key) -> None:
        """Remove a session."""
        principal, _ = key
        conversation = self._conversations.pop(key)
        self.resize(principal, -size_of(conversation.messages) - conversation.described_bytes)
        self.enter((), conversation.messages)
        self._counts.take(principal, -1)
        mine = self._by_principal[principal]
        del mine[conversation.ordinal]
        if not mine:
            del self._by_principal[principal]

    def expire(self) -> None:
        """Remove the sessions that were not used for too long."""
        now = self._clock()
        oldest = now - self._idle_ttl_s
        while self._conversations:
            key, conversation = next(iter(self._conversations.items()))
            if conversation.used_at > oldest:
                break
            if self.is_busy(*key):
                conversation.used_at = now
                self._conversations.move_to_end(key)
            else:
                self.forget(key)


def size_of(messages: Sequence[Entry]) -> int:
    """The size of messages, in bytes."""
    return sum(entry.size for entry in messages)


def files_of(messages: Sequence[Entry]) -> list[str]:
    """The ids of the files that messages name, once for each time."""
    return [file_id for entry in messages if entry.chat.parts for file_id in entry.chat.file_ids]

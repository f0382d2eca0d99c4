"""What all turns of a session manager share."""

from archer_ws.agents.base import Gateway
from archer_ws.agents.orchestrator import Orchestrator
from archer_ws.core.lean_dataclass import lean_dataclass
from archer_ws.sessions.attachments import Attachments
from archer_ws.sessions.changes import SessionChanges
from archer_ws.sessions.format_judge import FormatJudge
from archer_ws.sessions.journaling import Journaling
from archer_ws.sessions.native_cache import NativeTurnCache
from archer_ws.sessions.settling import Settling
from archer_ws.sessions.storage.store import SessionStore
from archer_ws.sessions.streams.gates import StreamQuota
from archer_ws.sessions.windows import Windows


@lean_dataclass(frozen=True, slots=True, kw_only=True)
class TurnServices:
    """What a turn calls beside its stream, its slot and its files."""

    #: The providers, and what runs the agents.
    gateway: Gateway
    orchestrator: Orchestrator
    store: SessionStore
    #: Stores the completion, retrying after the stream's end if needed.
    settling: Settling
    #: Writes streams to the store; None if the store has no streams.
    journaling: Journaling | None
    #: The models' context windows.
    windows: Windows
    #: Caches native turns for requests without a session.
    native: NativeTurnCache
    #: Checks the response format.
    judge: FormatJudge
    #: The files that messages name.
    attachments: Attachments
    #: Notified of what is stored.
    changes: SessionChanges
    #: Counts the streams that wait for tool results.
    quota: StreamQuota

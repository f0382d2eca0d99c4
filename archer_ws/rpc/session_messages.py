"""The params of the methods about sessions (protocol section 3); their results are sessions/models.py's."""

from typing import Any, Literal

from pydantic import ConfigDict, Field, model_validator

from archer_ws.core.limits import PAGE_ITEMS_MAX
from archer_ws.core.wire_model import Identifier, WireModel, wrong
from archer_ws.examples.connection import (
    SESSION_CHANGES,
    SESSION_DELETES,
    SESSION_FORKS,
    SESSION_GETS,
    SESSION_IDS,
    SESSION_LISTS,
    SESSION_SEARCHES,
    SESSION_WATCHES,
)
from archer_ws.rpc.messages import CURSOR_DESCRIPTION, Cursor, PageLimit
from archer_ws.sessions.models import ListOrder, Query, SessionFork, SessionUpdate, Version


class SessionIdParams(WireModel):
    """One session."""

    model_config = ConfigDict(json_schema_extra={"examples": [*SESSION_IDS]})

    session_id: Identifier = Field(description="The conversation's id.")


class SessionGetParams(WireModel):
    """One session, and which of its messages: the newest, or those before a page that you have."""

    model_config = ConfigDict(json_schema_extra={"examples": [*SESSION_GETS]})

    session_id: Identifier = Field(description="The conversation's id.")
    limit: PageLimit = Field(default=PAGE_ITEMS_MAX, description="How many messages at most, 1 to 200.")
    cursor: Cursor = Field(
        default=None,
        description="The `next_cursor` of a page that you have, for older messages; without it, the newest.",
    )


class SessionListParams(WireModel):
    """A page of sessions, the most recently changed first."""

    model_config = ConfigDict(json_schema_extra={"examples": [*SESSION_LISTS]})

    order: ListOrder | None = Field(
        default=None,
        description="The time to sort by, newest first; without it, the order of the cursor's list, or `updated`.",
    )
    archived: bool | None = Field(
        default=None, description="True: only archived ones; false: only those that are not archived."
    )
    limit: PageLimit = Field(default=50, description="How many at most, 1 to 200.")
    cursor: Cursor = Field(default=None, description=CURSOR_DESCRIPTION)


class SessionDeleteParams(SessionIdParams):
    """Which session to delete."""

    model_config = ConfigDict(json_schema_extra={"examples": [*SESSION_DELETES]})

    version: Version | None = Field(
        default=None,
        description="The `version` that it must have; with any other, nothing is deleted and the error is `conflict`.",
    )


class SessionDeleteAllParams(WireModel):
    """Confirms that all sessions are to be deleted."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"confirm": True}]})

    confirm: Literal[True] = Field(description="Must be true, so that it does not happen by mistake.")

    @model_validator(mode="before")
    @classmethod
    def _is_confirmed(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("confirm") is not True:
            raise wrong(
                "must be true", "confirm", "Send confirm: true to delete all of your conversations permanently."
            )
        return given


class SessionForkParams(SessionFork):
    """Which session to copy, up to which message, and the copy's id."""

    model_config = ConfigDict(json_schema_extra={"examples": [*SESSION_FORKS]})

    session_id: Identifier = Field(description="The conversation's id.")


class SessionSearchParams(WireModel):
    """What to search for in the messages."""

    model_config = ConfigDict(json_schema_extra={"examples": [*SESSION_SEARCHES]})

    query: Query = Field(
        description="Up to 16 words and 1,000 characters. Finds messages that contain all of them, ignoring case and "
        "accents; the last one may be the beginning of a word."
    )
    limit: PageLimit = Field(default=50, description="How many at most, 1 to 200.")
    cursor: Cursor = Field(default=None, description=CURSOR_DESCRIPTION)


class SessionWatchParams(WireModel):
    """Which session to watch, or none for all of them."""

    model_config = ConfigDict(json_schema_extra={"examples": [*SESSION_WATCHES]})

    session_id: Identifier | None = Field(default=None, description="Only this conversation; without it, all of them.")


class SessionUpdateParams(SessionUpdate):
    """Which session to change, and what; fields that are missing or null keep their values."""

    model_config = ConfigDict(json_schema_extra={"examples": [*SESSION_CHANGES]})

    session_id: Identifier = Field(description="The conversation's id.")

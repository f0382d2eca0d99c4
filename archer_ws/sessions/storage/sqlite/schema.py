"""The tables, by the number of the migration that creates them. Pure text; migrations.py applies it.

`pk` is a number for internal use; the ids are those of clients. Times are microseconds since 1970. A released step
never changes, and neither do its comments, which SQLite stores: later changes are further steps.

Three comments are out of date. `message.hidden` is 2 where another message has taken its place, but its text is still
in the search index (SearchIndex.remove_later). `stream.waiting` has everything that a restart needs to go on with the
stream (journal.LogPart.loop), from the first write of it until the end. `message.ordinal` is the index of a message
among those that its stream left.
"""

#: "Arch" (https://sqlite.org/pragma.html#pragma_application_id): distinguishes this file from other programs'.
APPLICATION_ID = 0x41726368

_CONVERSATIONS = """
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value
) WITHOUT ROWID;

CREATE TABLE principal (
    pk INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    -- What they have, for the limits.
    sessions INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0
);

CREATE TABLE session (
    pk INTEGER PRIMARY KEY,
    principal_pk INTEGER NOT NULL REFERENCES principal,
    session_id TEXT NOT NULL,
    title TEXT,
    metadata TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    archived INTEGER NOT NULL DEFAULT 0,
    version INTEGER NOT NULL DEFAULT 1,
    -- Of the messages that are visible.
    message_count INTEGER NOT NULL DEFAULT 0,
    system_count INTEGER NOT NULL DEFAULT 0,
    refused_count INTEGER NOT NULL DEFAULT 0,
    preview TEXT,
    -- Of all messages, title and metadata.
    bytes INTEGER NOT NULL DEFAULT 0,
    UNIQUE (principal_pk, session_id)
);
CREATE INDEX session_by_creation ON session (principal_pk, pk);
CREATE INDEX session_by_change ON session (principal_pk, updated_at, pk);

CREATE TABLE message (
    pk INTEGER PRIMARY KEY,
    session_pk INTEGER NOT NULL REFERENCES session ON DELETE CASCADE,
    -- In the session's order; there may be gaps.
    position INTEGER NOT NULL,
    message_id TEXT NOT NULL,
    parent_id TEXT,
    -- 1 where another message has taken its place.
    hidden INTEGER NOT NULL DEFAULT 0,
    role TEXT NOT NULL,
    stream_id TEXT,
    -- Of an answer: the step of its stream, and the message that it stands behind.
    ordinal INTEGER,
    after_id TEXT,
    status TEXT NOT NULL,
    refused INTEGER NOT NULL DEFAULT 0,
    tokens INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    content TEXT NOT NULL,
    -- JSON: what a provider gets of it beside role and text.
    said TEXT,
    -- JSON: what is told of an answer beside that.
    told TEXT,
    reasoning TEXT,
    -- The answer as its provider must see it again.
    native BLOB
);
CREATE INDEX message_in_order ON message (session_pk, hidden, position);
CREATE INDEX message_system ON message (session_pk, position) WHERE hidden = 0 AND role = 'system';
CREATE INDEX message_native ON message (session_pk) WHERE native IS NOT NULL;
CREATE UNIQUE INDEX message_by_id ON message (session_pk, message_id) WHERE hidden = 0;
CREATE UNIQUE INDEX message_answer ON message (session_pk, stream_id, ordinal, after_id) WHERE ordinal IS NOT NULL;

-- The files that a session's messages name, the hidden ones' too.
CREATE TABLE session_file (
    session_pk INTEGER NOT NULL REFERENCES session ON DELETE CASCADE,
    file_id TEXT NOT NULL,
    PRIMARY KEY (session_pk, file_id)
) WITHOUT ROWID;
CREATE INDEX session_file_by_id ON session_file (file_id);

-- For streams that outlive the process.
CREATE TABLE stream (
    pk INTEGER PRIMARY KEY,
    principal_pk INTEGER NOT NULL REFERENCES principal,
    stream_id TEXT NOT NULL,
    session_pk INTEGER REFERENCES session ON DELETE CASCADE,
    after_id TEXT,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    request_id TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    status TEXT NOT NULL,
    -- JSON: the calls that it waits for.
    waiting TEXT,
    created_at INTEGER NOT NULL,
    ended_at INTEGER,
    -- JSON: its last event.
    ended TEXT,
    UNIQUE (principal_pk, stream_id)
);
CREATE INDEX stream_in_session ON stream (session_pk);

CREATE TABLE chunk (
    -- What is new of many streams stands together: in the order of their keys, each would cost a page.
    pk INTEGER PRIMARY KEY,
    stream_pk INTEGER NOT NULL REFERENCES stream ON DELETE CASCADE,
    first_seq INTEGER NOT NULL,
    last_seq INTEGER NOT NULL,
    kind TEXT NOT NULL,
    -- Where the pieces of the text end.
    ends BLOB,
    text TEXT NOT NULL,
    UNIQUE (stream_pk, first_seq)
);
"""

#: The migrations from each version (PRAGMA user_version) to the next; version 0 is an empty file.
STEPS: tuple[str, ...] = (_CONVERSATIONS,)

#: A contentless index: removing a text needs exactly the text that was added, as words.indexed makes it. So a change of
#: that function must keep its former form, for what is there (see SearchIndex).
INDEX = "message_words"
SEARCH_INDEX = (
    f"CREATE VIRTUAL TABLE {INDEX} USING fts5(text, content = '', tokenize = \"unicode61 remove_diacritics 2\")"
)

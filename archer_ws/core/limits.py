"""Every bound on what is read from a client or a provider, and on what is kept: one table, each with its reason.

What an owner may need to change is a setting (named beside the bound, defined in config.py); all others are constants
here. Sizes are in bytes and times in seconds unless a name says otherwise. Who holds a bound imports it from here; a
test for each goes past it.
"""

from dataclasses import dataclass

# Read from a client.

#: A request line with its header fields, and likewise the trailer fields behind a body (RFC 9110, section 6.5), which
#: nobody here reads. llhttp has no bound of its own, and joins a field's value anew with every read. A client is cut
#: within one `HTTP_SLICE_BYTES` past it.
MAX_HEAD_BYTES = 64 * 1024
#: So much is given to the HTTP parser at once; between two pieces the bounds are looked at.
HTTP_SLICE_BYTES = 64 * 1024
#: How long a client may take to send a request's head, from connecting or from the first byte of a further request.
HEAD_DEADLINE_S = 20.0
#: A body may be slow, but not stand still: at least so many bytes within each window, else 408. GPRS brings 30 times
#: as much; the window outlasts a phone's change of cells.
BODY_PROGRESS_BYTES, BODY_PROGRESS_WINDOW_S = 4 * 1024, 30.0
#: How long, and how much of, what is left of a body is read and dropped behind an answer that did not wait for it, so
#: that the answer arrives: closed with input unread, TCP resets the connection, and many clients look for an answer
#: only when they have sent everything.
BODY_REST_S, BODY_REST_BYTES = 10.0, 8 * 1024 * 1024
#: The same of a body whose head says how long it is, such as a photo that is too large: it takes half a minute over a
#: home's line. It is read while at least BODY_REST_PROGRESS_BYTES come in each BODY_REST_S.
DECLARED_REST_S, DECLARED_REST_BYTES = 120.0, 256 * 1024 * 1024
BODY_REST_PROGRESS_BYTES = 256 * 1024
#: Requests that wait on one connection behind one that is being served (pipelining, RFC 9112, section 9.3.2). Browsers
#: and HTTP libraries send none, scripts and load generators hundreds; each costs some kilobytes.
PIPELINED_REQUESTS_MAX = 1000
#: The most a body has beside the messages' text (setting MAX_CONTENT_BYTES): other fields, and JSON's own characters.
BODY_ALLOWANCE_BYTES = 1024 * 1024
#: Lists, objects and items of a body's or a frame's JSON: ten thousand messages with all their fields have 150,000.
#: Each takes some microseconds until it is validated, hashed and sent on.
REQUEST_VALUES_MAX = 150_000
#: Messages of a request, with the parts and calls in them: each is looked at by itself, several times.
REQUEST_MESSAGES_MAX = 10_000
#: How long a connection may stay open without a request; longer than most clients' pools keep one: they close first,
#: so no request is lost.
KEEP_ALIVE_S = 75

#: One message on a socket (protocol section 2): room for a long prompt, and a cancel behind it does not wait long.
MAX_FRAME_BYTES = 1024 * 1024
#: So much of what came over a socket is parsed in one turn of the loop: at worst 1,300 empty frames, some milliseconds.
WS_SLICE_BYTES = 8 * 1024
#: Pings, pongs and empty fragments do nothing but cost: so many may come within the window.
IDLE_FRAMES_MAX, IDLE_FRAMES_WINDOW_S = 2000, 10.0
#: How long a peer that was closed for junk may go on sending, so that the close reaches it before a reset.
WS_LINGER_S = 2.0
#: A credential must come over a socket within so long (protocol section 2).
INIT_TIMEOUT_S = 10.0
#: So many frames that are no requests may come in a minute before the socket is closed (protocol section 3).
BAD_MESSAGES_MAX, BAD_MESSAGES_WINDOW_S = 10, 60.0
#: Requests of one socket that may run at once, and running streams that may be attached (protocol section 8).
MAX_REQUESTS, MAX_STREAMS = 64, 32
#: After so much silence the server says that it lives: a heartbeat on a socket (protocol section 4), a comment among
#: events (section 10). Below the minute after which proxies and routers forget a silent connection.
HEARTBEAT_S, EVENTS_KEEP_ALIVE_S = 15.0, 15.0
#: Ids come back in answers, so they may not be long. In characters.
ID_CHARS_MAX = 256

#: Steps of a stream that waits for results: the default, and the most a request may ask for.
MAX_STEPS, MAX_STEPS_MAX = 16, 256
#: How long a step's calls may take: the default, and the most (a day: an approval may come in the morning).
TOOL_TIMEOUT_S, TOOL_TIMEOUT_MAX_S = 600.0, 86_400.0
#: How long a claim lasts that no socket holds, or none any more (protocol section 23); over HTTP a client may ask for
#: more.
CLAIM_S, CLAIM_MAX_S = 60.0, 86_400.0
#: Streams of one principal that may wait for results at a time (protocol section 23).
WAITING_STREAMS_MAX = 64
#: Of a result, what its event tells (protocol section 22); the whole is in the messages.
RESULT_TOLD_BYTES = 64 * 1024
#: The text of all results and steered messages of one stream: about what the longest contexts hold.
EXCHANGED_BYTES_MAX = 16 * 1024 * 1024
#: Messages that may wait to be steered into one stream.
STEERED_MAX = 64

# Taken by a client.

#: A peer that takes no byte for so long while some wait is cut (protocol section 8): sockets, events and answers alike.
WRITE_DEADLINE_S = 30.0
#: How often a peer that lags is looked at, and over HTTP each that has a request (5 µs a look); the deadline is late by
#: this much at most.
LOOK_EVERY_S = 3.0
#: How often a socket's peer is asked for a sign of life, and how long it may take: a dead one is noticed within 35 s
#: (protocol section 8).
PING_INTERVAL_S, PING_TIMEOUT_S = 15.0, 20.0
#: How long clients may take to read the ends of their streams, when a server that stops has ended all.
FLUSH_S = 5.0
#: The most that the kernel keeps for a socket's peer that lags (Linux doubles it for its own accounts).
SEND_BUFFER_BYTES = 64 * 1024
#: The most a socket's lane of responses may hold before its requests wait (protocol section 8).
LANE_BYTES_MAX = 1024 * 1024

# Connections.

#: All together, whatever the system would allow: each costs at least 10 KiB.
CONNECTIONS_MAX = 65_536
#: Descriptors that connections of clients never take, a quarter of all at most: for connections to providers (as many
#: as streams run, setting MAX_STREAMS), files and pipes.
RESERVED_DESCRIPTORS = 1200
#: The part of all connections that those may have which have shown no credential yet (or, where none is needed, sent
#: no request): one more costs the oldest of them its place, so that who shows a token always finds one.
GUESTS_PART = 0.5


# Read from a provider.

#: A status line with its header fields, and the trailer fields behind a body (or whatever else comes without any body:
#: chunk extensions, signs of life), each. Servers send a few hundred bytes; llhttp itself has no bound.
PROVIDER_HEAD_BYTES = 64 * 1024
#: What may lie unread before nothing more is taken from the network: a few reads, so that a pause costs no speed.
PROVIDER_UNREAD_BYTES = 256 * 1024
#: What is decoded before others have their turn. The worst that fits (thousands of the shortest lines) takes some 5 ms.
PROVIDER_SLICE_BYTES = 8 * 1024
#: What has longer lines than this on average, as nearly all answers have, is decoded in one go however much of it came
#: in one read (256 KiB at most): merged into few pieces, a token costs least.
PROVIDER_LINE_BYTES = 64
#: One line, one event of a stream, and what is not ended by anything but the body's end (a whole answer, a list of
#: models). An answer of 4 MiB (what a stream may keep) is far below, also with every character escaped.
PROVIDER_DOCUMENT_BYTES = 16 * 1024 * 1024
#: Lists, objects and items of one JSON document (a whole answer has dozens, a long list of models 20,000): each takes
#: about a microsecond in which nobody else has a turn.
PROVIDER_DOCUMENT_VALUES = 100_000
#: Of them, parts of a piece of text, choices of an answer and names in a list of models.
PROVIDER_PARTS, PROVIDER_CHOICES, PROVIDER_MODELS = 10_000, 128, 10_000
#: Tool calls of one step, and the arguments of one call, so that it fits a frame whatever JSON adds (protocol section
#: 22).
PROVIDER_CALLS, CALL_ARGUMENTS_BYTES = 256, 448 * 1024
#: An error's body: its sentence is at the beginning. The seconds are for a body that does not end.
PROVIDER_ERROR_BYTES, PROVIDER_ERROR_BODY_S = 64 * 1024, 5.0
#: Of a provider's own message, what is shown; in characters.
PROVIDER_MESSAGE_CHARS = 300
#: Values inside one another, in an answer's text or an error's body: the deepest known has 5.
PROVIDER_NESTING = 8

# Kept.

#: What may wait to be written to a log that nobody reads; then lines are dropped and counted. Some 5,000 lines: the
#: bursts of a busy second, and no more than a server has to spare.
LINES_WAITING_BYTES = 1024 * 1024

# The text of one stream and of all (RETAINED_BYTES_MAX), of stored sessions (SESSIONS_MAX, SESSION_BYTES_MAX).

#: What an ended stream costs beside its log's text and events, about (measured): without it, streams without text
#: would cost nothing, and so be kept without end.
STREAM_OVERHEAD_BYTES = 3072
#: What one event that is not text costs in a log, about (measured: the end with an error and its hint).
CONTROL_EVENT_BYTES = 1024
#: What each thing that is wrong with an answer's form costs in its end, beside the text, about (measured).
FIELD_ERROR_BYTES = 640
#: What each id of a stored message costs in an end, beside its characters, about.
MESSAGE_ID_BYTES = 64
#: Where all streams take more than they may, who reads an ended one and took nothing for so long is cut off: long
#: enough for a network's hiccup, short enough that readers who never read keep seconds of streams and not minutes.
STALLED_READER_S = 5.0
#: Who took something is cut off so long after the stream's end, where all take more than they may: the longest stream
#: (4 MiB) has come through at 70 KB/s by then.
SLOW_READER_S = 60.0

# Uploaded files (ARCHER_FILE_BYTES_MAX, ARCHER_FILES_BYTES_PER_PRINCIPAL, ARCHER_FILE_TTL_S).

#: What a file costs beside its bytes, about: its place in a directory, a part of a block, what is known of it here.
FILE_OVERHEAD_BYTES = 4096
#: The most that the files of all take in memory, where no directory is set for them.
MEMORY_FILES_BYTES = 256 * 1024 * 1024
#: The files of one request, and those of all requests at once that are being sent, as they stand in memory: providers
#: take 32 to 50 MiB in all.
MEDIA_REQUEST_BYTES, MEDIA_BYTES_IN_ALL = 64 * 1024 * 1024, 256 * 1024 * 1024
#: How often files are looked for whose time is over.
FILES_SWEEP_S = 60.0

# What providers must see again of answers with calls.

#: For callers without a session, together, in bytes: thinking of 10 KB each, of 3,000 answers.
NATIVE_CACHE_BYTES = 32 * 1024 * 1024
#: How long one is kept behind its last use: a person may have to agree before a tool runs. In seconds.
NATIVE_CACHE_S = 3600.0

# Streams that are kept on a disk.

#: How often what is new of all running streams is written, in one commit, in seconds: with the time that a write takes,
#: a kill costs at most a second. Four times as often would cost twice as much for each token, and seven times as many
#: bytes written.
JOURNAL_EVERY_S = 0.8

# A store that is slow, hangs or fails.

#: How long one operation of the store of conversations may take; a local one takes milliseconds, one behind a network
#: that fails over takes seconds.
STORE_LIMIT_S = 5.0
#: How long storing a turn's messages may hold back the acceptance of a request.
ADMIT_LIMIT_S = 5.0
#: How long storing an answer may hold back the stream's end (protocol section 10); it goes on behind it.
SETTLE_LIMIT_S = 5.0
#: The pauses before each further attempt to store an answer, about a minute in all: as long as a database's restart.
SETTLE_PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)

# Pages and histories.

#: The most items of one page of a list (protocol section 10).
PAGE_ITEMS_MAX = 200
#: The most a page's items take together, in bytes (protocol section 10), so that a page fits a frame of 1 MiB whatever
#: JSON adds; one item alone may be longer.
PAGE_BYTES_MAX = 512 * 1024
#: The most of a stored history that is sent where the model's context is not known, in tokens (about 4 MiB of text, as
#: MAX_CONTENT_BYTES has it): no model takes much more, and without a bound every turn of a long session costs more
#: than the one before.
HISTORY_TOKENS_MAX = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds above that whoever holds them is given by constructor, so that a test can hand in smaller ones.

    One value for the whole server, made where objects are wired together (main, cli); each room takes it, or the one
    field that it needs, and defaults to the table's values. What is read from providers in time is in `Timeouts`.
    """

    head_deadline_s: float = HEAD_DEADLINE_S
    body_progress_bytes: int = BODY_PROGRESS_BYTES
    body_progress_window_s: float = BODY_PROGRESS_WINDOW_S
    body_rest_s: float = BODY_REST_S
    idle_frames_max: int = IDLE_FRAMES_MAX
    init_timeout_s: float = INIT_TIMEOUT_S
    max_requests: int = MAX_REQUESTS
    max_streams: int = MAX_STREAMS
    heartbeat_s: float = HEARTBEAT_S
    events_keep_alive_s: float = EVENTS_KEEP_ALIVE_S
    write_deadline_s: float = WRITE_DEADLINE_S
    look_every_s: float = LOOK_EVERY_S
    ping_interval_s: float = PING_INTERVAL_S
    ping_timeout_s: float = PING_TIMEOUT_S
    flush_s: float = FLUSH_S
    provider_document_bytes: int = PROVIDER_DOCUMENT_BYTES
    files_sweep_s: float = FILES_SWEEP_S
    native_cache_bytes: int = NATIVE_CACHE_BYTES
    native_cache_s: float = NATIVE_CACHE_S
    journal_every_s: float = JOURNAL_EVERY_S
    store_limit_s: float = STORE_LIMIT_S
    admit_limit_s: float = ADMIT_LIMIT_S
    settle_limit_s: float = SETTLE_LIMIT_S
    settle_pauses_s: tuple[float, ...] = SETTLE_PAUSES_S

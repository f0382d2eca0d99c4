"""All limits on what is read from clients and providers, and on what is kept: one table, with a reason for each.

A limit that an owner may need to change is a setting (defined in config.py, and named here); all others are constants
here. Sizes are in bytes and times in seconds unless a name says otherwise. Code that applies a limit imports it from
here; for each limit, a test exceeds it.
"""

from dataclasses import dataclass

# Read from a client.

#: The request line with the header fields, and also the trailer fields after a body (RFC 9110, section 6.5), which are
#: not used here. llhttp has no limit of its own, and copies a field's value again with every read. A client is
#: disconnected within `HTTP_SLICE_BYTES` after the limit.
MAX_HEAD_BYTES = 64 * 1024
#: The size of the slices given to the HTTP parser; the limits are checked between two slices.
HTTP_SLICE_BYTES = 64 * 1024
#: The time limit for a request's head, from connecting, or from the first byte of a later request.
HEAD_DEADLINE_S = 20.0
#: A body may be slow, but must not stall: at least so many bytes within each window, or else 408. GPRS is 30 times as
#: fast; the window is longer than a phone's change of cells.
BODY_PROGRESS_BYTES, BODY_PROGRESS_WINDOW_S = 4 * 1024, 30.0
#: The rest of a body, after a response that did not wait for it, is read and dropped within these limits, so that the
#: response arrives: if the socket is closed with unread input, TCP resets the connection, and many clients read the
#: response only after they have sent everything.
BODY_REST_S, BODY_REST_BYTES = 10.0, 8 * 1024 * 1024
#: The same for a body with a Content-Length, such as a photo that is too large: it takes half a minute over a home
#: connection. It is read while at least BODY_REST_PROGRESS_BYTES come in each BODY_REST_S.
DECLARED_REST_S, DECLARED_REST_BYTES = 120.0, 256 * 1024 * 1024
BODY_REST_PROGRESS_BYTES = 256 * 1024
#: Requests that wait on one connection until the current one is served (pipelining, RFC 9112, section 9.3.2). Browsers
#: and HTTP libraries do not pipeline, scripts and load generators send hundreds; each costs a few kilobytes.
PIPELINED_REQUESTS_MAX = 1000
#: The limit of a body's size besides the messages' text (setting MAX_CONTENT_BYTES): other fields, and JSON syntax.
BODY_ALLOWANCE_BYTES = 1024 * 1024
#: The limit of lists, objects and items in the JSON of a body or a frame: ten thousand messages with all fields have
#: 150,000. Validating, hashing and sending on each one takes a few microseconds.
REQUEST_VALUES_MAX = 150_000
#: The limit of a request's messages, with the parts and calls in them: each one is processed separately, several times.
REQUEST_MESSAGES_MAX = 10_000
#: How long a connection may be idle; longer than in most clients' pools, so that the client closes first and no request
#: is lost.
KEEP_ALIVE_S = 75

#: The limit of one message on a socket (protocol section 2): room for a long prompt, while a cancel sent after it does
#: not wait long.
MAX_FRAME_BYTES = 1024 * 1024
#: The limit of socket input that is parsed in one loop iteration: at worst 1,300 empty frames, which take a few
#: milliseconds.
WS_SLICE_BYTES = 8 * 1024
#: The limit of pings, pongs and empty fragments within the window: they cost time and carry nothing.
IDLE_FRAMES_MAX, IDLE_FRAMES_WINDOW_S = 2000, 10.0
#: How long a peer that was disconnected for sending junk may continue to send, so that it receives the close frame
#: before a reset.
WS_LINGER_S = 2.0
#: The time limit for a socket's credential (protocol section 2).
INIT_TIMEOUT_S = 10.0
#: The limit of invalid frames per minute before the socket is closed (protocol section 3).
BAD_MESSAGES_MAX, BAD_MESSAGES_WINDOW_S = 10, 60.0
#: The limits of one socket's concurrent requests and subscribed running streams (protocol section 8).
MAX_REQUESTS, MAX_STREAMS = 64, 32
#: After so much silence the server sends a sign of life: a heartbeat on a socket (protocol section 4), a comment
#: between events (section 10). Less than the minute after which proxies and routers drop an idle connection.
HEARTBEAT_S, EVENTS_KEEP_ALIVE_S = 15.0, 15.0
#: The limit of an id's length, since responses repeat it. In characters.
ID_CHARS_MAX = 256

#: The limit of steps of a stream that waits for tool results: the default, and the highest that a request may set.
MAX_STEPS, MAX_STEPS_MAX = 16, 256
#: The time limit for a step's calls: the default, and the highest that a request may set (a day: an approval may come
#: in the morning).
TOOL_TIMEOUT_S, TOOL_TIMEOUT_MAX_S = 600.0, 86_400.0
#: How long a claim lasts that is not, or no longer, held by a socket (protocol section 23); over HTTP a client may ask
#: for more.
CLAIM_S, CLAIM_MAX_S = 60.0, 86_400.0
#: The limit of one principal's streams that wait for tool results (protocol section 23).
WAITING_STREAMS_MAX = 64
#: The limit of a tool result's text in its event (protocol section 22); the messages have the whole text.
RESULT_TOLD_BYTES = 64 * 1024
#: The limit of the text of all tool results and steered messages of one stream: about the size of the longest contexts.
EXCHANGED_BYTES_MAX = 16 * 1024 * 1024
#: The limit of steered messages that wait for one stream's next step.
STEERED_MAX = 64

# Read by a client.

#: A peer that reads no byte for so long while output waits is disconnected (protocol section 8): on sockets, event
#: streams and other responses.
WRITE_DEADLINE_S = 30.0
#: How often a slow peer is checked, and over HTTP each peer with a request (5 µs a check); the deadline is late by at
#: most this much.
LOOK_EVERY_S = 3.0
#: The interval of pings on a socket, and the time limit for the pong: a dead peer is noticed within 35 s (protocol
#: section 8).
PING_INTERVAL_S, PING_TIMEOUT_S = 15.0, 20.0
#: How long clients may take to read the ends of their streams, after a stopping server has ended them all.
FLUSH_S = 5.0
#: The limit of output that the kernel buffers for a slow socket peer (Linux doubles it for its own bookkeeping).
SEND_BUFFER_BYTES = 64 * 1024
#: The limit of queued responses on a socket, before its further requests wait (protocol section 8).
LANE_BYTES_MAX = 1024 * 1024

# Connections.

#: The limit of all connections, whatever the system allows: each costs at least 10 KiB.
CONNECTIONS_MAX = 65_536
#: Descriptors reserved for other uses than clients' connections, at most a quarter of all: for connections to providers
#: (one a running stream, setting MAX_STREAMS), files and pipes.
RESERVED_DESCRIPTORS = 1200
#: The share of all connections for clients that have not sent a credential yet (or, if none is required, no request).
#: One more such connection closes the oldest of them, so that a client with a token always finds a place.
GUESTS_PART = 0.5


# Read from a provider.

#: The limit of a status line with its header fields, and separately of the trailer fields after a body (or of other
#: bytes that are not body: chunk extensions, signs of life). Servers send a few hundred bytes; llhttp has no limit of
#: its own.
PROVIDER_HEAD_BYTES = 64 * 1024
#: The limit of unread input before reading from the network pauses: a few reads, so that a pause costs no speed.
PROVIDER_UNREAD_BYTES = 256 * 1024
#: How much is decoded before other tasks run. The worst case (thousands of the shortest lines) takes about 5 ms.
PROVIDER_SLICE_BYTES = 8 * 1024
#: Input with longer lines than this on average, as in nearly all responses, is decoded at once, however much came in
#: one read (256 KiB at most): merged into few pieces, a token costs least.
PROVIDER_LINE_BYTES = 64
#: The limit of one line, of one event of a stream, and of a document that only the body's end ends (a whole completion,
#: a list of models). A completion of 4 MiB (the limit of a stream) is far below, even with every character escaped.
PROVIDER_DOCUMENT_BYTES = 16 * 1024 * 1024
#: The limit of lists, objects and items in one JSON document (a whole completion has dozens, a long list of models
#: 20,000): each one blocks the event loop for about a microsecond.
PROVIDER_DOCUMENT_VALUES = 100_000
#: The separate limits of parts in a piece of text, choices in a completion and names in a list of models.
PROVIDER_PARTS, PROVIDER_CHOICES, PROVIDER_MODELS = 10_000, 128, 10_000
#: The limits of tool calls in one step, and of one call's arguments, so that a call fits into a frame with all JSON
#: escapes (protocol section 22).
PROVIDER_CALLS, CALL_ARGUMENTS_BYTES = 256, 448 * 1024
#: The limit of an error's body: its message is at the beginning. The time limit is for a body that does not end.
PROVIDER_ERROR_BYTES, PROVIDER_ERROR_BODY_S = 64 * 1024, 5.0
#: The limit of a provider's message as it is shown, in characters.
PROVIDER_MESSAGE_CHARS = 300
#: The limit of nesting in a completion's content or an error's body: the deepest known has 5 levels.
PROVIDER_NESTING = 8

# Kept.

#: The limit of output that waits for a log that nobody reads; after it, lines are dropped and counted. About 5,000
#: lines: the burst of a busy second, in memory that a server can spare.
LINES_WAITING_BYTES = 1024 * 1024

# The text of one stream and of all (RETAINED_BYTES_MAX), of stored sessions (SESSIONS_MAX, SESSION_BYTES_MAX).

#: The approximate memory of an ended stream besides its log's text and events (measured): without it, streams without
#: text would count as free, and be kept forever.
STREAM_OVERHEAD_BYTES = 3072
#: The approximate memory of one event that is not text (measured: an end with an error and its hint).
CONTROL_EVENT_BYTES = 1024
#: The approximate memory of each format error at a stream's end, besides its text (measured).
FIELD_ERROR_BYTES = 640
#: The approximate memory of each part of a result or steered message, besides its text or address (measured).
PART_BYTES = 800
#: The approximate memory of each stored message's id at a stream's end, besides its characters.
MESSAGE_ID_BYTES = 64
#: While all streams together exceed their limit, a reader of an ended stream that has read nothing for so long is
#: disconnected: long enough for a network hiccup, short enough that stalled readers retain seconds of streams and not
#: minutes.
STALLED_READER_S = 5.0
#: While all streams together exceed their limit, a reader that does read is disconnected so long after the stream's
#: end: by then the longest stream (4 MiB) was sent at 70 KB/s.
SLOW_READER_S = 60.0

# Uploaded files (ARCHER_FILE_BYTES_MAX, ARCHER_FILES_BYTES_PER_PRINCIPAL, ARCHER_FILE_TTL_S).

#: The approximate cost of a file besides its bytes: its directory entry, part of a block, its record in memory.
FILE_OVERHEAD_BYTES = 4096
#: The limit of all files together in memory, if no directory is set for them.
MEMORY_FILES_BYTES = 256 * 1024 * 1024
#: The limits of the files of one request, and of all requests being sent at once, in memory: providers accept 32 to 50
#: MiB in total.
MEDIA_REQUEST_BYTES, MEDIA_BYTES_IN_ALL = 64 * 1024 * 1024, 256 * 1024 * 1024
#: The interval of the search for expired files.
FILES_SWEEP_S = 60.0

# What providers must receive again of completions that call tools.

#: The limit for all callers without a session together, in bytes: thinking of 10 KB each, of 3,000 completions.
NATIVE_CACHE_BYTES = 32 * 1024 * 1024
#: How long one is kept after its last use: a person may have to approve a tool first. In seconds.
NATIVE_CACHE_S = 3600.0

# Streams that are stored on a disk.

#: The interval at which the new events of all running streams are written, in one commit, in seconds: with the time of
#: the write, a kill loses at most a second. Four times as often would double the cost of a token, and write seven times
#: as many bytes.
JOURNAL_EVERY_S = 0.8

# A store that is slow, hangs or fails.

#: The time limit for one operation of the store of conversations; a local store takes milliseconds, a networked one
#: that fails over takes seconds.
STORE_LIMIT_S = 5.0
#: The time limit for copying, deleting or importing one conversation, which takes longer the longer it is: some MB a
#: second. Below the silence that `archer-ws sessions` accepts.
STORE_WORK_LIMIT_S = 100.0
#: How long storing a turn's messages may delay the acceptance of a request.
ADMIT_LIMIT_S = 5.0
#: How long storing a completion may delay the stream's end (protocol section 10); afterwards storing continues in the
#: background.
SETTLE_LIMIT_S = 5.0
#: How long storing the pictures and files of a tool result or steered message may take. What is sent to the stream
#: later waits for it, and so does its next step: long enough for a disk that is only slow.
SAID_FILES_LIMIT_S = 30.0
#: The pauses before further attempts to store a completion, about a minute in total: as long as a database's restart.
SETTLE_PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)

# Pages and histories.

#: The limit of items on one page of a list (protocol section 10).
PAGE_ITEMS_MAX = 200
#: The limit of a page's items together, in bytes (protocol section 10), so that a page fits into a frame of 1 MiB with
#: all JSON escapes; a single item may be longer.
PAGE_BYTES_MAX = 512 * 1024
#: The limit of stored history that is sent if the model's context is unknown, in tokens (about 4 MiB of text, like
#: MAX_CONTENT_BYTES): no model accepts much more, and without a limit each turn of a long session would cost more than
#: the one before.
HISTORY_TOKENS_MAX = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits above that are passed by constructor, so that a test can use smaller ones.

    There is one value for the whole server, created where the objects are wired together (main, cli). Each room takes
    it, or the one field that it needs, and defaults to the values of the table. Time limits for providers are in
    `Timeouts`.
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
    files_sweep_s: float = FILES_SWEEP_S
    native_cache_bytes: int = NATIVE_CACHE_BYTES
    native_cache_s: float = NATIVE_CACHE_S
    journal_every_s: float = JOURNAL_EVERY_S
    store_limit_s: float = STORE_LIMIT_S
    store_work_limit_s: float = STORE_WORK_LIMIT_S
    admit_limit_s: float = ADMIT_LIMIT_S
    settle_limit_s: float = SETTLE_LIMIT_S
    said_files_limit_s: float = SAID_FILES_LIMIT_S
    settle_pauses_s: tuple[float, ...] = SETTLE_PAUSES_S

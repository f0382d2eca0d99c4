"""Every bound on what is read from a client or a provider, and on what is kept: one table, each with its reason.

What an owner may need to change is a setting (named beside the bound, defined in config.py); all others are constants
here. Sizes are in bytes and times in seconds unless a name says otherwise. Who holds a bound imports it from here; a
test for each goes past it.
"""

# Read from a client.

# Read from a provider.

# Kept.
# The text of one stream and of all (RETAINED_BYTES_MAX), of stored sessions (SESSIONS_MAX, SESSION_BYTES_MAX).

#: What an ended stream costs beside its log's text and events, about (measured): without it, streams without text
#: would cost nothing, and so be kept without end.
STREAM_OVERHEAD_BYTES = 3072
#: What one event that is not text costs in a log, about (measured: the end with an error and its hint).
CONTROL_EVENT_BYTES = 1024
#: Where all streams take more than they may, who reads an ended one and took nothing for so long is cut off: long
#: enough for a network's hiccup, short enough that readers who never read keep seconds of streams and not minutes.
STALLED_READER_S = 5.0
#: Who took something is cut off so long after the stream's end, where all take more than they may: the longest stream
#: (4 MiB) has come through at 70 KB/s by then.
SLOW_READER_S = 60.0

# A store that is slow, hangs or fails.

#: How long one operation of the store of conversations may take; a local one takes milliseconds, one behind a network
#: that fails over takes seconds.
STORE_LIMIT_S = 5.0
#: How long storing a turn's messages may hold back the acceptance of a request.
ADMIT_LIMIT_S = 5.0
#: How long storing an answer may hold back the stream's end (protocol section 26); it goes on behind it.
SETTLE_LIMIT_S = 5.0
#: The pauses before each further attempt to store an answer, about a minute in all: as long as a database's restart.
SETTLE_PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)

# Pages and histories.

#: The most items of one page of a list (protocol section 26).
PAGE_ITEMS_MAX = 200
#: The most a page's items take together, in bytes (protocol section 26), so that a page fits a frame of 1 MiB whatever
#: JSON adds; one item alone may be longer.
PAGE_BYTES_MAX = 512 * 1024
#: The most of a stored history that is sent where the model's context is not known, in tokens (about 4 MiB of text, as
#: MAX_CONTENT_BYTES has it): no model takes much more, and without a bound every turn of a long session costs more
#: than the one before.
HISTORY_TOKENS_MAX = 1024 * 1024

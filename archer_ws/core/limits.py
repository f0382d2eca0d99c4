"""Every bound on what is read from a client or a provider, and on what is kept: one table, each with its reason.

What an owner may need to change is a setting (named beside the bound, defined in config.py); all others are constants
here. Sizes are in bytes and times in seconds unless a name says otherwise. Who holds a bound imports it from here; a
test for each goes past it.
"""

# Read from a client.

# Read from a provider.

# Kept.

#: What may wait to be written to a log that nobody reads; then lines are dropped and counted. Some 5,000 lines: the
#: bursts of a busy second, and no more than a server has to spare.
LINES_WAITING_BYTES = 1024 * 1024

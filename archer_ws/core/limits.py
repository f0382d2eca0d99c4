"""Every bound on what is read from a client or a provider, and on what is kept: one table, each with its reason.

What an owner may need to change is a setting (named beside the bound, defined in config.py); all others are constants
here. Sizes are in bytes and times in seconds unless a name says otherwise. Who holds a bound imports it from here; a
test for each goes past it.
"""

# Read from a client.

# Read from a provider.

#: A status line with its header fields, and the trailer fields behind a body (or whatever else comes without any body:
#: chunk extensions, signs of life), each. Servers send a few hundred bytes; llhttp itself has no bound.
PROVIDER_HEAD_BYTES = 64 * 1024
#: What may lie unread before nothing more is taken from the network: a few reads, so that a pause costs no speed.
PROVIDER_UNREAD_BYTES = 256 * 1024
#: What is decoded before others have their turn. The worst that fits (thousands of the shortest lines) takes some 5 ms.
PROVIDER_SLICE_BYTES = 8 * 1024
#: One line, one event of a stream, and what is not ended by anything but the body's end (a whole answer, a list of
#: models). An answer of 4 MiB (what a stream may keep) is far below, also with every character escaped.
PROVIDER_DOCUMENT_BYTES = 16 * 1024 * 1024
#: Lists, objects and items of one JSON document (a whole answer has dozens, a long list of models 20,000): each takes
#: about a microsecond in which nobody else has a turn.
PROVIDER_DOCUMENT_VALUES = 100_000
#: Of them, parts of a piece of text, choices of an answer and names in a list of models.
PROVIDER_PARTS, PROVIDER_CHOICES, PROVIDER_MODELS = 10_000, 128, 10_000
#: An error's body: its sentence is at the beginning. The seconds are for a body that does not end.
PROVIDER_ERROR_BYTES, PROVIDER_ERROR_BODY_S = 64 * 1024, 5.0
#: Of a provider's own message, what is shown; in characters.
PROVIDER_MESSAGE_CHARS = 300
#: Values inside one another, in an answer's text or an error's body: the deepest known has 5.
PROVIDER_NESTING = 8

# Kept.

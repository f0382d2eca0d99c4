"""A client of the server's HTTP interface; it knows the protocol and nothing of the server's insides.

`sse` speaks to a server, `events` says what it answers, `terminal` shows an answer to a person as it comes.
"""

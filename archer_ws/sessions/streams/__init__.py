"""A stream: its states, its log, how long it is kept."""

"""Plain log lines are those of structlog's own renderer, after the guard against forged lines."""

import enum
from typing import Any

import structlog
from hypothesis import example, given
from hypothesis import strategies as st

from archer_ws.core.console_line import console_line, one_line

LEVELS = ("debug", "info", "warning", "error", "critical", "exception")


class Colour(enum.StrEnum):
    BLUE = "blue"


VALUES = st.one_of(
    st.text(),
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.lists(st.text(), max_size=2),
    st.dictionaries(st.text(), st.integers(), max_size=2),
    st.just(Colour.BLUE),
)
FIELDS = st.dictionaries(st.text(min_size=1, max_size=12), VALUES, max_size=6)
OWN = st.fixed_dictionaries(
    {"event": st.text(max_size=40), "level": st.sampled_from(LEVELS)},
    optional={
        "timestamp": st.just("2026-11-01T12:00:00.123456Z"),
        "logger": st.sampled_from(["archer_ws.main", "x"]),
        "stack": st.text(max_size=20),
        "exception": st.text(max_size=20),
    },
)


@given(FIELDS, OWN)
@example({"text": "\u2028=="}, {"event": "x", "level": "info"})
@example({"a b": "c", "100%s": "d", "e=": "f"}, {"event": "x", "level": "info"})
@example({}, {"event": "longer than its column, and then a space ", "level": "info", "logger": "x"})
def test_a_line_is_what_structlog_s_own_renderer_writes(fields: dict[str, Any], own: dict[str, Any]) -> None:
    renderer = structlog.dev.ConsoleRenderer(
        colors=False, sort_keys=False, exception_formatter=structlog.dev.plain_traceback
    )
    taken = {"logger_name", "exc_info"}
    event = {name: value for name, value in fields.items() if name not in taken} | own
    assert console_line(None, "info", dict(event)) == renderer(None, "info", one_line(None, "info", dict(event)))

from collections.abc import Callable

import pytest
import structlog

from archer_ws.core.rare_line import LOG_INTERVAL_S, RareLine


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the clock."""
    return lambda now: monkeypatch.setattr("archer_ws.core.rare_line.time.monotonic", lambda: now)


def test_what_comes_too_often_is_counted_and_told_with_the_next_line(at: Callable[[float], None]) -> None:
    line = RareLine("flooded")
    with structlog.testing.capture_logs() as entries:
        for now in (0.0, 1.0, 2.0, LOG_INTERVAL_S, LOG_INTERVAL_S + 1):
            at(now + 100)
            line.write(at=now)
    assert [(entry["at"], entry.get("left_out")) for entry in entries] == [(0.0, None), (LOG_INTERVAL_S, 2)]
    assert {entry["log_level"] for entry in entries} == {"warning"}


def test_a_line_may_come_in_a_burst_at_its_level(at: Callable[[float], None]) -> None:
    at(100.0)
    line = RareLine("failed", level="info", burst=3)
    with structlog.testing.capture_logs() as entries:
        for _ in range(5):
            line.write()
        at(100.0 + LOG_INTERVAL_S)
        line.write()
    assert [entry["log_level"] for entry in entries] == ["info"] * 4
    assert entries[-1]["left_out"] == 2

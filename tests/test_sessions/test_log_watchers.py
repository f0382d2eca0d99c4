from collections.abc import Callable

from archer_ws.sessions.streams.log import DELTA_BYTES_MAX
from archer_ws.sessions.streams.memory_log import MemoryLog
from tests.fakes.stream_events import ended, queued


def test_watchers_are_told_after_each_append_and_find_it() -> None:
    log = MemoryLog()
    heads: list[int] = []
    log.watch(lambda: heads.append(log.head_seq))

    log.append_text("content", b"a")
    log.append(queued)
    log.append_text("content", b"x" * (DELTA_BYTES_MAX + 1))
    log.append(lambda seq: ended(seq, text_bytes=log.content_bytes))

    assert heads == [1, 2, 4, 5]


def test_a_watcher_may_stop_watching_while_it_is_told() -> None:
    log = MemoryLog()
    told: list[str] = []
    stops: dict[str, Callable[[], None]] = {}

    def once(name: str) -> Callable[[], None]:
        def watcher() -> None:
            told.append(name)
            stops[name]()

        return watcher

    for name in ("first", "second"):
        stops[name] = log.watch(once(name))
    log.watch(lambda: told.append("always"))

    log.append_text("content", b"a")
    log.append_text("content", b"b")

    assert told == ["first", "second", "always", "always"]


def test_a_watcher_stopped_by_another_is_not_told_any_more() -> None:
    log = MemoryLog()
    told: list[str] = []
    stops: list[Callable[[], None]] = []

    def stop_the_other() -> None:
        stops[0]()

    log.watch(stop_the_other)
    stops.append(log.watch(lambda: told.append("stopped")))

    log.append_text("content", b"a")

    assert told == []


def test_stopping_twice_leaves_another_registration_of_the_same_watcher_alone() -> None:
    log = MemoryLog()
    told: list[int] = []

    def watcher() -> None:
        told.append(log.head_seq)

    stop_first = log.watch(watcher)
    log.watch(watcher)
    stop_first()
    stop_first()

    log.append_text("content", b"a")

    assert told == [1]

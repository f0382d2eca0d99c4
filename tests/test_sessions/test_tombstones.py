from archer_ws.sessions.streams.tombstones import TOMBSTONE_S, TOMBSTONES_PER_PRINCIPAL, Tombstones
from tests.fakes.manual_clock import ManualClock


def test_a_tombstone_is_found_once() -> None:
    tombstones = Tombstones()
    tombstones.add("ann", "s1")

    assert tombstones.take("ann", "s1")
    assert not tombstones.take("ann", "s1")


def test_an_id_never_cancelled_is_not_found() -> None:
    tombstones = Tombstones()
    tombstones.add("ann", "s1")

    assert not tombstones.take("ann", "s2")


def test_a_tombstone_is_its_principals_alone() -> None:
    tombstones = Tombstones()
    tombstones.add("ann", "s1")

    assert not tombstones.take("bob", "s1")
    assert tombstones.take("ann", "s1")


def test_a_tombstone_is_forgotten_after_ten_seconds() -> None:
    clock = ManualClock()
    tombstones = Tombstones(clock)
    tombstones.add("ann", "early")
    clock.advance(0.5)
    tombstones.add("ann", "late")

    clock.advance(9.5)

    assert TOMBSTONE_S == 10
    assert not tombstones.take("ann", "early")
    assert tombstones.take("ann", "late")


def test_a_repeated_cancel_starts_the_ten_seconds_again() -> None:
    clock = ManualClock()
    tombstones = Tombstones(clock)
    tombstones.add("ann", "again")
    tombstones.add("ann", "once")
    clock.advance(6)
    tombstones.add("ann", "again")

    clock.advance(6)

    assert not tombstones.take("ann", "once")
    assert tombstones.take("ann", "again")


def test_no_tombstone_is_forgotten_while_the_time_stands_still() -> None:
    clock = ManualClock()
    tombstones = Tombstones(clock)
    tombstones.add("ann", "before")
    clock.advance(6)
    tombstones.stop_time()
    clock.advance(60)
    tombstones.add("ann", "meanwhile")
    tombstones.stop_time()
    clock.advance(60)
    tombstones.go_on()
    tombstones.go_on()

    clock.advance(5)

    assert not tombstones.take("ann", "before")
    clock.advance(4)
    assert tombstones.take("ann", "meanwhile")


def test_a_principal_has_at_most_1024_and_the_oldest_go_first() -> None:
    tombstones = Tombstones(ManualClock())
    tombstones.add("bob", "s0")
    for number in range(1025):
        tombstones.add("ann", f"s{number}")

    assert TOMBSTONES_PER_PRINCIPAL == 1024
    assert not tombstones.take("ann", "s0")
    assert all(tombstones.take("ann", f"s{number}") for number in range(1, 1025))
    assert tombstones.take("bob", "s0")

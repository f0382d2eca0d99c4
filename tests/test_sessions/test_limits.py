import asyncio
from collections import Counter
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archer_ws.core.exceptions import Overloaded
from archer_ws.sessions.streams.gates import RETRY_AFTER_MS, ProviderGate, Slot, StreamQuota


def make_gate(concurrency: int = 1, queue: int = 2) -> ProviderGate:
    return ProviderGate("ollama", concurrency=concurrency, queue=queue)


async def settle() -> None:
    """Let every task that can go on do so."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_the_global_quota_refuses_one_too_many_and_says_when_to_retry() -> None:
    quota = StreamQuota(max_streams=2, max_per_principal=2)
    quota.enter("ann")
    quota.enter("bob")

    with pytest.raises(Overloaded, match="2 streams are running") as refused:
        quota.enter("eve")

    assert refused.value.retry_after_ms == RETRY_AFTER_MS
    assert refused.value.retryable
    assert "MAX_STREAMS" in (refused.value.hint or "")


def test_a_principals_quota_is_its_own() -> None:
    quota = StreamQuota(max_streams=10, max_per_principal=2)
    quota.enter("ann")
    quota.enter("ann")

    with pytest.raises(Overloaded, match="2 of your streams") as refused:
        quota.enter("ann")

    assert refused.value.retry_after_ms == RETRY_AFTER_MS
    assert "MAX_STREAMS_PER_PRINCIPAL" in (refused.value.hint or "")
    quota.enter("bob")


def test_a_stream_that_left_makes_room() -> None:
    quota = StreamQuota(max_streams=1, max_per_principal=1)
    quota.enter("ann")
    quota.leave("ann")

    quota.enter("bob")


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["enter", "leave"]), st.sampled_from("abc")), max_size=60))
def test_the_quota_counts_like_a_list_of_running_streams(steps: list[tuple[str, str]]) -> None:
    quota = StreamQuota(max_streams=5, max_per_principal=3)
    running: list[str] = []
    for step, principal in steps:
        if step == "leave":
            if principal in running:
                quota.leave(principal)
                running.remove(principal)
        elif len(running) < 5 and Counter(running)[principal] < 3:
            quota.enter(principal)
            running.append(principal)
        else:
            with pytest.raises(Overloaded):
                quota.enter(principal)


def test_slots_are_granted_up_to_the_concurrency_and_queued_behind() -> None:
    gate = make_gate(concurrency=2, queue=1)

    assert [gate.reserve().granted for _ in range(3)] == [True, True, False]


def test_a_full_queue_refuses_and_says_when_to_retry() -> None:
    gate = make_gate(concurrency=1, queue=1)
    gate.reserve()
    gate.reserve()

    with pytest.raises(Overloaded, match="ollama is busy: 1 requests run and 1 wait") as refused:
        gate.reserve()

    assert refused.value.retry_after_ms == RETRY_AFTER_MS
    assert refused.value.provider == "ollama"
    assert "PROVIDER_QUEUE" in (refused.value.hint or "")


def test_without_a_queue_a_busy_provider_refuses_at_once() -> None:
    gate = make_gate(concurrency=1, queue=0)
    slot = gate.reserve()
    with pytest.raises(Overloaded):
        gate.reserve()

    slot.release()

    assert gate.reserve().granted


def test_a_released_slot_goes_to_the_first_in_the_queue_and_not_to_a_newcomer() -> None:
    gate = make_gate(concurrency=1, queue=2)
    running, first = gate.reserve(), gate.reserve()

    running.release()
    newcomer = gate.reserve()

    assert not running.granted
    assert first.granted
    assert not newcomer.granted


def test_giving_up_a_place_in_the_queue_makes_room_in_it() -> None:
    gate = make_gate(concurrency=1, queue=2)
    running, first, second = gate.reserve(), gate.reserve(), gate.reserve()

    first.release()
    third = gate.reserve()
    running.release()

    assert second.granted
    assert not first.granted
    assert not third.granted


@settings(deadline=None)
@given(
    st.integers(1, 3),
    st.integers(0, 3),
    st.lists(st.one_of(st.none(), st.integers(0, 10)), max_size=60),
)
def test_any_sequence_of_reserving_and_releasing_serves_in_order_and_leaks_nothing(
    concurrency: int, queue: int, steps: list[int | None]
) -> None:
    gate = make_gate(concurrency, queue)
    # In the order of their reservation: the first ones are granted, the others wait.
    live: list[Slot] = []
    for step in steps:
        if step is not None:
            if step < len(live):
                live.pop(step).release()
        elif len(live) < concurrency + queue:
            live.append(gate.reserve())
        else:
            with pytest.raises(Overloaded):
                gate.reserve()
        assert [slot.granted for slot in live] == [position < concurrency for position in range(len(live))]

    for slot in live:
        slot.release()
    assert [gate.reserve().granted for _ in range(concurrency + queue)] == [True] * concurrency + [False] * queue


async def test_a_granted_slot_is_not_waited_for() -> None:
    async with asyncio.timeout(5):
        await make_gate().reserve().wait()


async def test_a_slot_granted_before_its_wait_is_not_waited_for() -> None:
    gate = make_gate()
    running, waiting = gate.reserve(), gate.reserve()
    running.release()

    async with asyncio.timeout(5):
        await waiting.wait()


async def test_waiters_go_on_first_come_first_served() -> None:
    gate = make_gate(concurrency=1, queue=3)
    served: list[int] = []

    async def call(number: int, slot: Slot) -> None:
        await slot.wait()
        served.append(number)
        await asyncio.sleep(0)
        slot.release()

    # Who began to wait last asked first: the order of asking counts.
    calls = [call(number, gate.reserve()) for number in range(4)]
    async with asyncio.timeout(5):
        await asyncio.gather(*reversed(calls))

    assert served == [0, 1, 2, 3]


async def test_a_waiter_keeps_its_place_until_it_is_released() -> None:
    gate = make_gate(concurrency=1, queue=1)
    running, waiting = gate.reserve(), gate.reserve()
    waiter = asyncio.create_task(waiting.wait())
    await settle()

    waiter.cancel()
    await settle()
    assert waiter.cancelled()
    with pytest.raises(Overloaded):
        gate.reserve()

    waiting.release()
    following = gate.reserve()
    running.release()
    assert following.granted


async def test_a_cancelled_waiter_that_was_granted_gives_the_slot_to_the_next() -> None:
    gate = make_gate(concurrency=1, queue=2)
    running, cancelled, following = gate.reserve(), gate.reserve(), gate.reserve()
    waiter = asyncio.create_task(cancelled.wait())
    await settle()
    waiter.cancel()
    await settle()

    running.release()
    assert cancelled.granted
    cancelled.release()

    async with asyncio.timeout(5):
        await following.wait()


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["reserve", "cancel", "release"]), st.integers(0, 5)), max_size=30))
def test_no_sequence_of_cancels_and_ends_keeps_a_provider_busy(steps: list[tuple[str, int]]) -> None:
    """As streams do it: wait for the slot, call, release in any case; cancelled or finished at any moment."""

    async def run() -> None:
        gate = make_gate(concurrency=2, queue=2)
        calls: list[tuple[asyncio.Task[None], asyncio.Event]] = []
        running = most = 0

        async def call(slot: Slot, done: asyncio.Event) -> None:
            nonlocal running, most
            try:
                await slot.wait()
                running += 1
                most = max(most, running)
                try:
                    await done.wait()
                finally:
                    running -= 1
            finally:
                slot.release()

        for step, number in steps:
            if step == "reserve":
                with suppress(Overloaded):
                    slot, done = gate.reserve(), asyncio.Event()
                    calls.append((asyncio.create_task(call(slot, done)), done))
                    # A task cancelled before it began never reaches its `finally`.
                    await asyncio.sleep(0)
            elif number < len(calls):
                task, done = calls[number]
                if step == "cancel":
                    task.cancel()
                else:
                    done.set()
            if number % 2:
                await settle()
        for _, done in calls:
            done.set()
        async with asyncio.timeout(5):
            await asyncio.gather(*(task for task, _ in calls), return_exceptions=True)

        assert most <= 2
        assert [gate.reserve().granted for _ in range(4)] == [True, True, False, False]

    asyncio.run(run())

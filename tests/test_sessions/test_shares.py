"""What one principal can take from the others: never all."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archer_ws.core.exceptions import Overloaded
from archer_ws.llm_gateway.types import ChatMessage, MessageRole
from archer_ws.sessions.shares import Shares
from archer_ws.sessions.storage.memory import MemoryStore
from archer_ws.sessions.streams.gates import ProviderGate, Slot, StreamQuota

PRINCIPALS = ("ann", "bob", "eve")


@given(
    st.integers(1, 60),
    st.lists(st.tuples(st.sampled_from(PRINCIPALS), st.integers(1, 9), st.booleans()), max_size=60),
)
def test_the_limit_holds_and_everybody_known_gets_his_share(total: int, steps: list[tuple[str, int, bool]]) -> None:
    shares = Shares(total, PRINCIPALS)
    for principal, amount, is_taking in steps:
        if not is_taking:
            shares.take(principal, -min(amount, shares.of(principal)))
        elif shares.has_room(principal, amount):
            shares.take(principal, amount)
        assert shares.taken == sum(map(shares.of, PRINCIPALS)) <= total
    for principal in PRINCIPALS:
        left = total // (2 * len(PRINCIPALS)) - shares.of(principal)
        if left > 0:
            assert shares.has_room(principal, left)


def test_one_alone_may_take_it_all() -> None:
    shares = Shares(10, ["ann"])
    assert shares.has_room("ann", 10)
    shares.take("ann", 10)
    assert not shares.has_room("ann", 1)


async def test_sessions_of_one_principal_leave_room_for_the_others() -> None:
    store = MemoryStore(sessions_max=100, principals=["ann", "bob"])
    for _ in range(75):
        await store.create("ann", None, None, None)

    with pytest.raises(Overloaded, match="others") as refused:
        await store.create("ann", None, None, None)
    assert "SESSIONS_MAX" in (refused.value.hint or "")
    for _ in range(25):
        await store.create("bob", None, None, None)


async def test_messages_and_metadata_of_one_principal_leave_room_for_the_others() -> None:
    store = MemoryStore(bytes_max=1_000_000, principals=["ann", "bob"])
    turn = [ChatMessage(role=MessageRole.USER, content="x" * 100_000)]
    for principal in ("ann", "bob"):
        await store.create(principal, "s", None, None)

    for _ in range(7):
        await store.begin_turn("ann", "s", turn, stream_id="str_1")
    with pytest.raises(Overloaded, match="others"):
        await store.begin_turn("ann", "s", turn, stream_id="str_1")
    await store.begin_turn("bob", "s", turn, stream_id="str_1")

    with pytest.raises(Overloaded):
        await store.update("ann", "s", None, {"notes": "x" * 60_000})
    await store.begin_turn("bob", "s", turn, stream_id="str_1")


def test_streams_of_one_principal_leave_room_for_the_others() -> None:
    quota = StreamQuota(max_streams=100, max_per_principal=256, principals=["ann", "bob"])
    for _ in range(75):
        quota.enter("ann")
    with pytest.raises(Overloaded, match="others"):
        quota.enter("ann")

    for _ in range(25):
        quota.enter("bob")


def test_a_queue_full_of_one_principals_requests_takes_the_others() -> None:
    gate = ProviderGate("ollama", concurrency=1, queue=64, principals=["ann", "bob"])
    for _ in range(1 + 48):
        gate.reserve("ann")
    with pytest.raises(Overloaded, match="of them yours"):
        gate.reserve("ann")

    assert not gate.reserve("bob").granted


@pytest.mark.parametrize("concurrency", [1, 4])
async def test_behind_sixty_four_waiting_requests_of_another_one_waits_for_one_of_them_at_most(
    concurrency: int,
) -> None:
    gate = ProviderGate("ollama", concurrency=concurrency, queue=256)
    served: list[str] = []

    async def call(principal: str, slot: Slot) -> None:
        await slot.wait()
        served.append(principal)
        await asyncio.sleep(0)
        slot.release()

    greedy = [call("greedy", gate.reserve("greedy")) for _ in range(64 + concurrency)]
    modest = [call("modest", gate.reserve("modest")) for _ in range(3)]
    async with asyncio.timeout(10):
        await asyncio.gather(*greedy, *modest)

    # The first ones had their slots before he came; from then on they take turns.
    after = served[concurrency:]
    assert [number for number, principal in enumerate(after) if principal == "modest"] == [1, 3, 5]
    assert served.count("greedy") == 64 + concurrency


def test_one_who_gave_up_waiting_loses_nobody_else_his_turn() -> None:
    gate = ProviderGate("ollama", concurrency=1, queue=10)
    running = gate.reserve("ann")
    slots = {name: gate.reserve(name) for name in ("ann", "bob", "eve")}

    slots["bob"].release()
    running.release()
    assert slots["ann"].granted
    slots["ann"].release()
    assert slots["eve"].granted

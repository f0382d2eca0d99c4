"""The soak in small: what sockets and streams take is given back. The real one is run by hand (soak.py)."""

import pytest

from tests.benchmarks.soak import PROC, Load, compare, soak

has_proc = pytest.mark.skipif(not PROC.exists(), reason="only Linux tells a process's descriptors and memory so")


SMALL = Load(sockets=50, streams=5, warm_up_s=3, load_s=3, lifetime_s=1.5, stay_s=1.5, samples=3)


@has_proc
async def test_tasks_descriptors_and_memory_come_back_after_sockets_came_and_went_at_random() -> None:
    outcome = await soak(SMALL)
    assert outcome.complaints == []
    assert outcome.peak["sockets"] > 25
    assert outcome.peak["streams"] > 125
    assert outcome.cold["streams"] == outcome.cold["sockets"] == 0
    left = ("closed", "reset", "vanished", "stopped reading")
    assert all(outcome.tally.done[deed] for deed in (*left, "stream/subscribe", "stream/cancel", "completed"))


def test_what_did_not_come_back_is_told() -> None:
    warm = {"tasks": 2, "fds": 15, "blocks": 500_000, "objects": {"dict": 50_000, "archer_ws.Stream": 0}}
    assert compare(warm, warm) == []
    leaking = {"tasks": 9, "fds": 40, "blocks": 600_000, "objects": {"dict": 50_000, "archer_ws.Stream": 5000}}
    tasks, fds, blocks, objects = compare(warm, leaking)
    assert tasks == "tasks: 2 after the warm-up, 9 after the load"
    assert fds.startswith("fds: ")
    assert blocks.startswith("blocks: ")
    assert objects.endswith("archer_ws.Stream +5000")

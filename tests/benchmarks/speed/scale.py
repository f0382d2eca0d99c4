"""How large each scenario is."""

from dataclasses import dataclass, replace

from tests.benchmarks.speed.measuring import file_limit

#: Descriptors of a process that are not for sockets under test.
SPARE_DESCRIPTORS = 500


@dataclass(frozen=True)
class Scale:
    """Sizes and times.

    Args:
        seconds: how long each steady load is measured.
        settle_s: what passes before that.
        unthrottled: streams at once where the provider is not throttled.
        unthrottled_tokens: of each of those answers.
        paced, paced_sockets, per_s: streams at a human pace, their sockets, and each one's tokens a second.
        sse_streams: streams at that pace over server-sent events, a connection each.
        saturating: the same, so many that the server's core is full; three loads, one after the other.
        starts_per_s: how quickly streams are started.
        step: by how much the rate grows in the search for the highest; `steps`: how often at most.
        probes: how often what is done one by one is done.
        at_once: plain answers at once, each followed by the next.
        idle_sockets: wanted; `sockets` says how many the file limit allows.
        held: streams that stand still, over `held_sockets` with up to 31 each, beside one on each that comes first.
        lengths: tokens of an answer, for the cost by length; `length_tokens`: of all answers of a length together.
        length_streams: how many of them at once.
    """

    seconds: float = 8.0
    settle_s: float = 1.5
    unthrottled: int = 16
    unthrottled_tokens: int = 4000
    paced: int = 500
    paced_sockets: int = 50
    per_s: float = 30.0
    sse_streams: int = 200
    saturating: tuple[int, int, int] = (400, 800, 950)
    starts_per_s: float = 200.0
    step: float = 1.2
    steps: int = 10
    probes: int = 200
    at_once: int = 32
    idle_sockets: int = 10_000
    held: int = 960
    held_sockets: int = 32
    lengths: tuple[int, ...] = (100, 1000, 10_000, 100_000)
    length_tokens: int = 400_000
    length_streams: int = 4

    @property
    def sockets(self) -> int:
        """Idle sockets as the file limit allows: server and generator need a descriptor each."""
        limit = file_limit()
        return self.idle_sockets if limit is None else max(1, min(self.idle_sockets, limit - SPARE_DESCRIPTORS))

    def lasting(self, seconds: float) -> "Scale":
        return replace(self, seconds=seconds)


FULL = Scale()
#: To see that all of it works; its figures mean little.
QUICK = Scale(
    seconds=1.0,
    settle_s=0.5,
    unthrottled_tokens=1000,
    paced=50,
    paced_sockets=5,
    sse_streams=20,
    saturating=(20, 40, 60),
    steps=2,
    probes=20,
    at_once=8,
    idle_sockets=300,
    held=60,
    held_sockets=4,
    lengths=(100, 1000, 10_000),
    length_tokens=20_000,
    length_streams=2,
)
#: For a test of the benchmark itself.
TOY = replace(
    QUICK,
    seconds=0.2,
    settle_s=0.1,
    unthrottled=4,
    unthrottled_tokens=200,
    paced=8,
    paced_sockets=2,
    sse_streams=4,
    saturating=(2, 4, 6),
    steps=1,
    probes=3,
    at_once=2,
    idle_sockets=20,
    held=8,
    held_sockets=2,
    lengths=(10, 100, 1000),
    length_tokens=2000,
)

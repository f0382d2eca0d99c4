"""Native turns of callers without a session: how long they are kept, and whose go first."""

from archer_ws.llm_gateway.native_turns import NativeBlocks, NativeCall, NativeTurn
from archer_ws.llm_gateway.tools import ToolCall
from archer_ws.llm_gateway.types import ChatMessage, MessageRole
from archer_ws.sessions.native_cache import NativeTurnCache
from tests.fakes.manual_clock import ManualClock


def turn(*call_ids: str, size: int = 1000, provider: str = "anthropic", model: str = "claude") -> NativeTurn:
    calls = [NativeCall(call_id, f"toolu_{call_id}", "now", "{}") for call_id in call_ids]
    kept = NativeBlocks.of(b"x" * size, calls)
    assert kept is not None
    return NativeTurn(provider, model, b"", kept)


def asked(*call_ids: str) -> list[ChatMessage]:
    calls = [ToolCall(call_id=call_id, name="now") for call_id in call_ids]
    return [
        ChatMessage(role=MessageRole.USER, content="?"),
        ChatMessage(role=MessageRole.ASSISTANT, content="", tool_calls=calls),
    ]


def kept(cache: NativeTurnCache, *call_ids: str, principal: str = "ann") -> set[str]:
    return {call_id for each in call_ids for call_id in cache.of_loop(principal, "anthropic", "claude", asked(each))}


def test_a_turn_is_found_by_each_of_its_calls() -> None:
    cache = NativeTurnCache()
    cache.put("ann", turn("one", "two"))
    assert kept(cache, "two") == {"one", "two"}
    assert kept(cache, "three") == set()


def test_two_principals_with_one_call_id_have_each_their_own() -> None:
    cache = NativeTurnCache()
    anns, bobs = turn("one", size=1), turn("one", size=2)
    cache.put("ann", anns)
    cache.put("bob", bobs)
    assert cache.of_loop("ann", "anthropic", "claude", asked("one")) == {"one": anns}
    assert cache.of_loop("bob", "anthropic", "claude", asked("one")) == {"one": bobs}
    assert cache.of_loop("eve", "anthropic", "claude", asked("one")) == {}


def test_another_provider_or_model_finds_nothing() -> None:
    cache = NativeTurnCache()
    cache.put("ann", turn("one"))
    assert cache.of_loop("ann", "openai", "claude", asked("one")) == {}
    assert cache.of_loop("ann", "anthropic", "claude-2", asked("one")) == {}


def test_a_turn_is_kept_for_its_time_behind_its_last_use() -> None:
    clock = ManualClock()
    cache = NativeTurnCache(ttl_s=60, clock=clock)
    cache.put("ann", turn("used"))
    cache.put("ann", turn("unused"))
    clock.advance(59)
    assert kept(cache, "used") == {"used"}
    clock.advance(59)
    assert kept(cache, "used", "unused") == {"used"}
    clock.advance(60)
    assert kept(cache, "used") == set()
    assert cache.size == 0


def test_where_it_is_full_what_was_not_used_for_the_longest_time_goes() -> None:
    cache = NativeTurnCache(bytes_max=3 * turn("0").size)
    for call_id in "123":
        cache.put("ann", turn(call_id))
    assert kept(cache, "1") == {"1"}
    cache.put("ann", turn("4"))
    assert kept(cache, "1", "2", "3", "4") == {"1", "3", "4"}


def test_nobody_pushes_out_what_others_keep() -> None:
    room = turn("00").size
    cache = NativeTurnCache(bytes_max=10 * room)
    for number in range(10, 20):
        cache.put("ann", turn(str(number)))
    for number in range(20, 25):
        cache.put("bob", turn(str(number)))
    for number in range(30, 90):
        cache.put("ann", turn(str(number)))
    assert kept(cache, *map(str, range(20, 25)), principal="bob") == set(map(str, range(20, 25)))
    assert cache.size <= 10 * room


def test_one_that_is_kept_again_is_there_once_and_one_too_large_is_not_kept() -> None:
    cache = NativeTurnCache(bytes_max=4000)
    cache.put("ann", turn("1"))
    before = cache.size
    cache.put("ann", turn("1"))
    assert cache.size == before
    cache.put("ann", turn("2", size=4000))
    assert kept(cache, "1", "2") == {"1"}


def test_turns_of_no_size_are_bounded_in_number() -> None:
    cache = NativeTurnCache(bytes_max=100_000)
    for number in range(1000):
        cache.put(f"p{number % 7}", turn(str(number), size=2))
    assert cache.size <= 100_000
    assert sum(bool(kept(cache, str(number), principal=f"p{number % 7}")) for number in range(1000)) < 100

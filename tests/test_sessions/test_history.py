from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archer_ws.core.clock import utc_now
from archer_ws.llm_gateway.inline_media import with_file_ids
from archer_ws.llm_gateway.types import ChatMessage, MessageRole
from archer_ws.sessions.history import estimate_tokens
from archer_ws.sessions.history import fit_history as fit
from archer_ws.sessions.storage.conversation import Entry
from tests.fakes.pictures import file, image, photo

SYSTEM, USER, ASSISTANT, TOOL = MessageRole


def said(role: MessageRole, content: str) -> ChatMessage:
    return ChatMessage(role=role, content=content, call_id="call1" if role is TOOL else None)


def fit_history(
    history: list[ChatMessage], turn: list[ChatMessage], budget_tokens: int | None, *, goes_on: bool = False
) -> tuple[list[ChatMessage], int]:
    """What is sent, and how many messages were left out."""
    entries = [Entry.of(message, "str_1", "completed", utc_now()) for message in history]
    system = [entry for entry in entries if entry.chat.role is SYSTEM]
    fitted = fit(entries, system, estimate_tokens(turn), budget_tokens, goes_on=goes_on)
    assert fitted.tokens == estimate_tokens(fitted.messages)
    return [*fitted.messages, *turn], fitted.dropped


messages = st.builds(
    said,
    st.sampled_from([SYSTEM, USER, USER, ASSISTANT, ASSISTANT, TOOL]),
    st.text(st.sampled_from("aé😀"), max_size=40),
)
turns = st.lists(st.builds(said, st.sampled_from([SYSTEM, USER]), st.text("x", max_size=40)), min_size=1, max_size=3)


def expected_fit(
    history: list[ChatMessage], turn: list[ChatMessage], budget_tokens: int
) -> tuple[list[ChatMessage], int]:
    """The rule tried out: drop none, one, two… of the oldest non-system messages until it will do."""
    droppable = [position for position, message in enumerate(history) if message.role is not SYSTEM]
    for count in range(len(droppable) + 1):
        gone = set(droppable[:count])
        kept = [message for position, message in enumerate(history) if position not in gone]
        orphaned = 0 < count < len(droppable) and history[droppable[count]].role is not USER
        if estimate_tokens(kept) + estimate_tokens(turn) <= budget_tokens and not orphaned:
            return [*kept, *turn], count
    return [*(message for message in history if message.role is SYSTEM), *turn], len(droppable)


@settings(deadline=None)
@given(st.lists(messages, max_size=12), turns, st.integers(0, 200))
def test_history_is_cut_as_little_as_the_rule_allows(
    history: list[ChatMessage], turn: list[ChatMessage], budget_tokens: int
) -> None:
    assert fit_history(history, turn, budget_tokens) == expected_fit(history, turn, budget_tokens)


@settings(deadline=None)
@given(st.lists(messages, max_size=12), turns, st.integers(0, 200))
def test_what_is_sent_fits_keeps_the_turn_and_never_begins_with_an_orphaned_answer(
    history: list[ChatMessage], turn: list[ChatMessage], budget_tokens: int
) -> None:
    sent, dropped = fit_history(history, turn, budget_tokens)

    assert sent[-len(turn) :] == turn
    assert len(sent) == len(history) + len(turn) - dropped
    kept = sent[: -len(turn)]
    assert [m for m in kept if m.role is SYSTEM] == [m for m in history if m.role is SYSTEM]
    spoken = [message for message in kept if message.role is not SYSTEM]
    # What stays is the end of the conversation.
    assert spoken == [m for m in history if m.role is not SYSTEM][dropped:]
    if spoken:
        assert estimate_tokens(sent) <= budget_tokens
    if dropped and spoken:
        assert spoken[0].role is USER


@settings(deadline=None)
@given(st.lists(messages, max_size=12), st.integers(0, 200))
def test_the_turn_that_new_results_go_on_with_stays_whole_and_nothing_else_that_does_not_fit(
    history: list[ChatMessage], budget_tokens: int
) -> None:
    results = [said(TOOL, "result")]
    begins = max((place for place, message in enumerate(history) if message.role is USER), default=0)
    cut, dropped = fit_history(history, results, budget_tokens)
    sent, dropped_less = fit_history(history, results, budget_tokens, goes_on=True)
    least = [*(message for message in history[:begins] if message.role is SYSTEM), *history[begins:], *results]
    assert sent == max(cut, least, key=len)
    assert dropped_less <= dropped
    assert len(sent) + dropped_less == len(history) + 1


@given(st.lists(messages, max_size=12), turns)
def test_an_unknown_context_cuts_nothing(history: list[ChatMessage], turn: list[ChatMessage]) -> None:
    assert fit_history(history, turn, None) == ([*history, *turn], 0)


def test_answers_whose_question_has_gone_go_with_it() -> None:
    question, answer, more = said(USER, "q" * 40), said(ASSISTANT, "a"), said(ASSISTANT, "b")
    follow_up, turn = said(USER, "f"), said(USER, "t")
    budget = estimate_tokens([answer, more, follow_up, turn])

    assert fit_history([question, answer, more, follow_up], [turn], budget) == ([follow_up, turn], 3)


def test_an_answer_without_a_question_stays_where_nothing_has_to_go() -> None:
    answer, turn = said(ASSISTANT, "a"), said(USER, "t")

    assert fit_history([answer], [turn], estimate_tokens([answer, turn])) == ([answer, turn], 0)


def test_system_messages_stay_in_their_places_even_where_they_alone_are_too_long() -> None:
    first, question, second, turn = said(SYSTEM, "s" * 400), said(USER, "q"), said(SYSTEM, "t"), said(USER, "u")

    assert fit_history([first, question, second], [turn], 10) == ([first, second, turn], 1)


@pytest.mark.parametrize(("content", "tokens"), [("", 4), ("a", 5), ("abcd", 5), ("abcde", 6), ("é" * 4, 6), ("😀", 5)])
def test_a_message_is_estimated_by_its_utf8_bytes(content: str, tokens: int) -> None:
    assert estimate_tokens([said(USER, content)]) == tokens
    assert estimate_tokens([said(USER, content)] * 3) == 3 * tokens


class Watched(list[Entry]):
    """A history that counts how many of its messages are looked at."""

    looked_at = 0

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        self.looked_at += len(found) if isinstance(place, slice) else 1
        return found


def test_of_a_long_history_only_what_is_sent_is_looked_at() -> None:
    system = Entry.of(said(SYSTEM, "be brief"), "str_1", "completed", utc_now())
    spoken = [Entry.of(said(USER, "x" * 40), "str_1", "completed", utc_now()) for _ in range(5000)]
    history = Watched([system, *spoken])

    fitted = fit(history, [system], turn_tokens=10, budget_tokens=1000)

    assert fitted.messages[0] is system.chat
    assert 60 < len(fitted.messages) < 75
    assert fitted.dropped == 5001 - len(fitted.messages)
    assert history.looked_at < 3 * len(fitted.messages)


def shown(*parts: dict[str, Any]) -> ChatMessage:
    return ChatMessage.model_validate({"role": "user", "content": list(parts)})


def test_a_picture_counts_as_1600_tokens_whatever_its_size_and_is_cut_as_that() -> None:
    # Counted as its base64, one photo would cut the whole history.
    large = shown(image(f"data:image/jpeg;base64,{photo(300_000)}"))
    small, at_url = shown(image()), shown(image("https://example.com/a.png"))
    assert estimate_tokens([large]) == estimate_tokens([small]) == estimate_tokens([at_url]) == 1604
    turn = [said(USER, "And?")]
    history = [large, said(ASSISTANT, "A cat."), small, said(ASSISTANT, "A dog.")]
    needed = estimate_tokens([*history[2:], *turn])
    assert fit_history(history, turn, needed) == ([*history[2:], *turn], 2)
    assert fit_history(history, turn, needed + 1600) == ([*history[2:], *turn], 2)
    assert fit_history(history, turn, estimate_tokens([*history, *turn])) == ([*history, *turn], 0)


def test_a_document_counts_by_its_pages_about_and_a_text_file_by_its_text() -> None:
    def pdf(size: int) -> ChatMessage:
        return shown(file("data:application/pdf;base64," + b64encode(b"%PDF-1.7\n".ljust(size)).decode()))

    one, ten = estimate_tokens([pdf(20_000)]), estimate_tokens([pdf(500_000)])
    assert 1600 < one < 4000
    assert 8 * one < ten < 12 * one
    assert estimate_tokens([pdf(30_000_000)]) < 300_000
    table = "data:text/csv;base64," + b64encode(b"a,b\n" * 1000).decode()
    assert estimate_tokens([shown(file(table))]) == 1004


def test_what_was_inline_counts_the_same_once_a_file_stands_in_its_place() -> None:
    inline = shown(file("data:application/pdf;base64," + b64encode(b"%PDF-1.7\n".ljust(500_000)).decode()))
    (named,) = with_file_ids([inline], {(0, 0): "file_1"})
    assert named.parts is not None
    assert named.parts[0].model_dump(exclude_none=True) == {"type": "file", "file_id": "file_1"}
    assert estimate_tokens([named]) == estimate_tokens([inline])

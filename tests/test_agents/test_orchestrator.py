from collections.abc import AsyncGenerator, Sequence

import pytest

from archer_ws.agents.base import Agent, AgentTurn, DirectAgent
from archer_ws.agents.orchestrator import Orchestrator
from archer_ws.core.exceptions import ProviderUnavailable
from archer_ws.llm_gateway.types import (
    ChatMessage,
    ChatOptions,
    ChatRequest,
    MessageRole,
    ModelLimits,
    Route,
    StreamChunk,
    TakeChunk,
)

ROUTE = Route(provider="ollama", model="llama3.2", temperature=None, max_tokens=100)


class Speaker:
    """Makes generators of one word after another, and remembers them and whether one was closed."""

    def __init__(self, *words: str, failure: Exception | None = None) -> None:
        self.words = words
        self.failure = failure
        self.made: list[AsyncGenerator[StreamChunk, None]] = []
        self.closed = False

    def speak(self) -> AsyncGenerator[StreamChunk, None]:
        self.made.append(self._speak())
        return self.made[-1]

    async def _speak(self) -> AsyncGenerator[StreamChunk, None]:
        try:
            for word in self.words:
                yield StreamChunk(content=word)
            if self.failure is not None:
                raise self.failure
        finally:
            self.closed = True


class RecordingGateway:
    """Hands out its speaker's generators, and remembers what it was asked."""

    def __init__(self, speaker: Speaker | None = None) -> None:
        self.speaker = speaker or Speaker()
        self.asked: list[tuple[ChatRequest, Route | None, Sequence[ChatMessage] | None, ChatOptions | None]] = []

    def resolve(self, request: ChatRequest, *, with_defaults: bool = True) -> Route:
        return ROUTE

    def stream_chat(
        self,
        request: ChatRequest,
        *,
        route: Route | None = None,
        messages: Sequence[ChatMessage] | None = None,
        options: ChatOptions | None = None,
        on_chunk: TakeChunk | None = None,
    ) -> AsyncGenerator[StreamChunk, None]:
        self.asked.append((request, route, messages, options))
        return self.speaker.speak()

    def limits(self, route: Route) -> ModelLimits | None:
        return None

    async def prepare(self, provider: str | None = None) -> None:
        """It is ready."""

    async def context_window(self, route: Route) -> int | None:
        return None


class Parrot(Agent):
    """Answers turns that begin with its name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.speaker = Speaker(name, name)

    def accepts(self, turn: AgentTurn) -> bool:
        return turn.messages[-1].content.startswith(self.name)

    def run(self, turn: AgentTurn) -> AsyncGenerator[StreamChunk, None]:
        return self.speaker.speak()


def turn_of(content: str, *, history: Sequence[str] = ()) -> AgentTurn:
    request = ChatRequest(messages=[ChatMessage(role=MessageRole.USER, content=content)])
    before = [ChatMessage(role=MessageRole.USER, content=text) for text in history]
    return AgentTurn(request, ROUTE, [*before, *request.messages], ChatOptions(seed=7))


async def test_without_agents_the_model_gets_the_turn_as_it_is_and_its_history() -> None:
    gateway = RecordingGateway(Speaker("why", "not"))
    turn = turn_of("hello", history=["earlier"])

    answer = [chunk.content async for chunk in Orchestrator(gateway).pick(turn).run(turn)]

    assert answer == ["why", "not"]
    assert gateway.asked == [(turn.request, ROUTE, turn.messages, turn.options)]


def test_the_models_own_generator_is_handed_on_so_that_a_chunk_costs_nothing_more() -> None:
    gateway = RecordingGateway()

    turn = turn_of("hello")
    answer = Orchestrator(gateway).pick(turn).run(turn)

    assert answer is gateway.speaker.made[0]


async def test_closing_the_answer_closes_what_the_model_opened() -> None:
    gateway = RecordingGateway(Speaker("why", "not"))
    turn = turn_of("hello")
    answer = Orchestrator(gateway).pick(turn).run(turn)
    assert (await anext(answer)).content == "why"
    assert not gateway.speaker.closed

    await answer.aclose()

    assert gateway.speaker.closed


async def test_a_providers_failure_passes_as_it_is() -> None:
    failure = ProviderUnavailable("refused")
    turn = turn_of("hello")
    answer = Orchestrator(RecordingGateway(Speaker(failure=failure))).pick(turn).run(turn)

    with pytest.raises(ProviderUnavailable) as raised:
        await anext(answer)

    assert raised.value is failure


async def test_the_first_agent_that_accepts_a_turn_answers_it_alone() -> None:
    gateway = RecordingGateway()
    agents = [Parrot("other"), Parrot("po"), Parrot("polly")]
    turn = turn_of("polly")
    answer = Orchestrator(gateway, agents).pick(turn).run(turn)

    assert (await anext(answer)).content == "po"
    await answer.aclose()

    assert [agent.speaker.closed for agent in agents] == [False, True, False]
    assert gateway.asked == []


def test_a_turn_that_no_agent_accepts_goes_to_the_model() -> None:
    orchestrator = Orchestrator(RecordingGateway(), [Parrot("polly")])

    assert isinstance(orchestrator.pick(turn_of("hello")), DirectAgent)
    assert orchestrator.pick(turn_of("polly")).name == "polly"


def test_an_agent_accepts_nothing_unless_it_says_so() -> None:
    class Silent(Agent):
        name = "silent"

        def run(self, turn: AgentTurn) -> AsyncGenerator[StreamChunk, None]:
            return Speaker("nothing").speak()

    assert isinstance(Orchestrator(RecordingGateway(), [Silent()]).pick(turn_of("hello")), DirectAgent)

"""Ten questions to the embedded model, in conversations, ten times over: its answers, to be read, and how much of each
is said twice. No test: what a model says differs from run to run. `python -m tests.benchmarks.demo_model --help`.
"""

import argparse
import asyncio
import json
import os
import re
import sys
import tempfile
import textwrap
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from archer_ws.client import Archer, connect
from tests.processes import program

QUESTIONS = (
    "Why is the sky blue?",
    "Tell me about autumn.",
    "How do I make pancakes?",
    "Write a short story about a ship.",
    "What is a black hole?",
    "Explain photosynthesis to a child.",
    "Give me five tips for sleeping well.",
    "Who was Ada Lovelace?",
    "What should I see in Paris?",
    "Thank you! What else can you tell me about all this?",
)
#: Words in a row that count as one turn of phrase.
PHRASE_WORDS = 4
#: An answer goes in circles where this share of its phrases stood in it before, or one phrase comes this often (the
#: name of a story's ship may come eight times).
CIRCLE_SHARE, CIRCLE_TIMES = 0.25, 10


@dataclass(frozen=True)
class Answer:
    """One answer, and what it repeats."""

    question: str
    text: str
    finish_reason: str | None
    tokens: int

    @property
    def repeated(self) -> tuple[float, int, str]:
        """The share of phrases that stood in the answer before; the most frequent one's count, and that one."""
        words = re.findall(r"\w+", self.text.lower())
        phrases = Counter(zip(*(words[start:] for start in range(PHRASE_WORDS)), strict=False))
        if not phrases:
            return 0.0, 0, ""
        phrase, times = phrases.most_common(1)[0]
        return 1 - len(phrases) / phrases.total(), times, " ".join(phrase)

    @property
    def goes_in_circles(self) -> bool:
        share, times, _ = self.repeated
        return share > CIRCLE_SHARE or times >= CIRCLE_TIMES


async def converse(archer: Archer, questions: tuple[str, ...]) -> list[Answer]:
    """The questions, one after the other, in a session of their own."""
    session = await archer.sessions.create()
    answers = []
    for question in questions:
        asked = archer.chat([{"role": "user", "content": question}], session_id=session.session_id)
        async with asked as stream:
            async for _ in stream:
                pass
            ended = stream.ended
            assert ended is not None
            tokens = ended.usage.completion_tokens if ended.usage else 0
            answers.append(Answer(question, stream.text, ended.finish_reason, tokens))
    return answers


async def conversations(tries: int, at_once: int, environment: dict[str, str]) -> list[list[Answer]]:
    """All the conversations, with a server of their own."""
    arguments = ("serve", "--provider", "local", "--host", "127.0.0.1", "--port", "0", "--ready-json")
    slots = asyncio.Semaphore(at_once)
    with tempfile.TemporaryDirectory() as folder:
        async with program(*arguments, cwd=Path(folder), environment=environment) as server:
            url = json.loads(await server.line())["url"]
            async with connect(url) as archer:

                async def one(number: int) -> list[Answer]:
                    async with slots:
                        found = await converse(archer, QUESTIONS)
                    sys.stderr.write(f"conversation {number + 1} of {tries} has ended\n")
                    return found

                return list(await asyncio.gather(*map(one, range(tries))))


def report(found: list[list[Answer]], *, texts: bool) -> str:
    """The answers, and a line of figures for each."""
    lines = []
    for number, answers in enumerate(found, 1):
        lines.append(f"\n=== Conversation {number} ===")
        for answer in answers:
            share, times, phrase = answer.repeated
            often = f"; {times} times: {phrase!r}" if times > 2 else ""
            mark = "  <-- IN CIRCLES" if answer.goes_in_circles else ""
            lines.append(f"\n> {answer.question}")
            if texts:
                lines += [textwrap.fill(line, 100) for line in answer.text.splitlines()]
            lines.append(f"[{answer.tokens} tokens, {answer.finish_reason}; {share:.0%} said before{often}]{mark}")
    every = [answer for answers in found for answer in answers]
    circles = sum(answer.goes_in_circles for answer in every)
    shares = sorted(answer.repeated[0] for answer in every)
    cut = sum(answer.finish_reason == "length" for answer in every)
    lines.append(
        f"\n{len(every)} answers, {circles} in circles; said before: {sum(shares) / len(shares):.1%} on average, "
        f"{shares[-1]:.0%} at most; {cut} cut off by the limit of tokens; "
        f"{sum(answer.tokens for answer in every) / len(every):.0f} tokens on average"
    )
    return "\n".join(lines)


def main() -> int:
    """Ask, and print; 1 where an answer goes in circles."""
    parser = argparse.ArgumentParser(description="Ask the embedded model ten questions, ten times; print its answers.")
    parser.add_argument("--tries", type=int, default=10, metavar="NUMBER", help="how many conversations (10)")
    parser.add_argument("--at-once", type=int, default=4, metavar="NUMBER", help="how many of them at once (4)")
    parser.add_argument("--sampling", metavar="FIELDS", help="as ARCHER_LOCAL_SAMPLING: repeat_penalty=1.1,top_k=40")
    parser.add_argument("--temperature", metavar="NUMBER", help="as LLM_TEMPERATURE")
    parser.add_argument("--max-tokens", metavar="NUMBER", help="as LLM_MAX_TOKENS")
    parser.add_argument("--figures", action="store_true", help="print the figures without the answers")
    options = parser.parse_args()
    given = {
        "ARCHER_LOCAL_SAMPLING": options.sampling,
        "ARCHER_LLM_TEMPERATURE": options.temperature,
        "ARCHER_LLM_MAX_TOKENS": options.max_tokens,
    }
    environment = {name: value for name, value in given.items() if value is not None}
    found = asyncio.run(conversations(options.tries, options.at_once, environment))
    sys.stdout.write(report(found, texts=not options.figures) + os.linesep)
    return 1 if any(answer.goes_in_circles for answers in found for answer in answers) else 0


if __name__ == "__main__":
    sys.exit(main())

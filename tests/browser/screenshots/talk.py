"""What is talked about in the pictures: questions, their answers, and the conversations of the days before."""

import asyncio
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from tests.fakes.ollama_api import ollama_end, ollama_error, ollama_line
from tests.fakes.scripted_server import Exchange, Reply, Step, Wait, forever
from tests.fakes.tool_dialects import MadeCall
from tests.fakes.tools_ollama import answer

MODEL = "llama3.2:latest"
PACE_S, APART_S = 0.012, 0.2

SKY = "Why is the sky blue? With numbers, please."
SKY_ANSWER = """\
Molecules of air are far smaller than a wavelength of light, and such small things scatter short waves much more than \
long ones (**Rayleigh scattering**): the strength grows with the *fourth power* of the frequency.

| Colour | Wavelength | Scattered, red = 1 |
| :--- | ---: | ---: |
| Red | 700 nm | 1.0 |
| Blue | 470 nm | 4.9 |

So blue light reaches you from *everywhere*, red almost only from the sun:

```python
def scattered(nm: float, reference: float = 700) -> float:
    return (reference / nm) ** 4  # of 470: 4.9
```

In the evening the blue is gone on its way to you, and the sun looks red.\
"""
THREE = (
    "Write a poem about the sea, in twelve lines.",
    "Explain how a rainbow comes about.",
    "Write a recipe for vegetable soup, step by step.",
)
POEM = """\
The sea is up before the sun,
and folds its linen, one by one;
it lays them out along the sand
and takes them back with either hand.

A gull complains. A rope replies.
The harbour rubs its painted eyes,
"""
RAINBOW = """\
A rainbow needs two things: **rain in front of you, and the sun behind you**.

1. Light goes into a drop and is bent, each colour by a little more or less.
2. At the back of the drop a part of it is thrown back.
3. On its way out it is bent once more, and the colours leave at angles of
"""
SOUP = """\
### Vegetable soup

For four people, in about 40 minutes:

- 2 carrots, 1 leek, 1 stick of celery
- 3 potatoes
- 1 litre of vegetable stock

**Cut** all of it into pieces of the same size, so that they are done at the
"""
STORY = "Write a story of about 300 words about a lighthouse keeper and a storm."
STORY_ANSWER = """\
Old Maren had counted the steps so often that she no longer counted them: a hundred and forty-one, and at the top the \
lamp, which had to be wound every four hours like a very large clock.

The storm came on a Tuesday. First the gulls went inland, which they never did without a reason. Then the horizon, \
which had been a line, became a wall, and the wall
"""
DICE = "Roll two dice for me, and tell me what they show."
#: Whose answers are still being written.
UNFINISHED = {*THREE, STORY}
LOST_MODEL = "And why is the sea blue?"
EARLIER = (
    (0, "Rename a branch in Git"),
    (0, "Notes for Thursday's talk"),
    (1, "SQL: newest row of each group"),
    (1, "A birthday poem for Ines"),
    (3, "Is a tomato a berry?"),
    (4, "Packing list for four days in Lisbon"),
    (12, "Backoff with jitter, explained"),
    (20, "Translate the menu"),
)


class Talker:
    """A model that answers the questions above; some of them as far as it is written, and then no further."""

    def __call__(self, exchange: Exchange) -> Reply:
        question = exchange.json()["messages"][-1]["content"]
        if question == DICE:
            call = MadeCall("roll_dice", '{"count": 2}')
            return Reply(answer(call, text="I will roll them for you. "), content_type="application/x-ndjson")
        if question == LOST_MODEL:
            return ollama_error(f'model "{MODEL}" not found, try pulling it first', 404)
        texts = {SKY: SKY_ANSWER, STORY: STORY_ANSWER, **dict(zip(THREE, (POEM, RAINBOW, SOUP), strict=True))}
        words = re.findall(r"\s*\S+\s?", texts[question])
        end = forever() if question in UNFINISHED else ollama_end(prompt_tokens=38, completion_tokens=len(words))
        return Reply(paced(words, end), content_type="application/x-ndjson")


def paced(words: list[str], end: Step) -> Iterator[Step]:
    """The words, one by one, as a model has them; the first and the last are never sent together with others."""
    for number, word in enumerate(words):
        yield ollama_line(word)
        passed = asyncio.Event()
        pause_s = APART_S if number in {0, len(words) - 2} else PACE_S
        asyncio.get_running_loop().call_later(pause_s, passed.set)
        yield Wait(passed)
    yield end


def earlier(now: datetime) -> Iterator[str]:
    """The lines of an export with the conversations of the days before."""
    for number, (days, title) in enumerate(EARLIER):
        at = (now - timedelta(days=days, minutes=7 * (number + 1))).astimezone(UTC).isoformat().replace("+00:00", "Z")
        message = {"message_id": f"msg_{number}", "role": "user", "content": title, "status": "completed"}
        yield json.dumps(
            {
                **{"session_id": f"earlier-{number}", "title": title, "created_at": at, "updated_at": at},
                **{"message_count": 1, "version": 1, "messages": [{**message, "created_at": at}]},
            }
        )

"""The SDK's call alone, in a process that does nothing else: what no sidecar that uses the SDK can be faster than.

`python -m tests.benchmarks.speed.sdk_call URL COUNT` makes the raw streaming call with its default client, and
prints how long each took from the call to the first token, as quantiles in µs.
"""

import asyncio
import json
import sys

import httpx2
import openai

from tests.benchmarks.speed.answers import Answer
from tests.benchmarks.speed.measuring import now_us, quantiles
from tests.benchmarks.speed.orders import rest_from_collecting
from tests.benchmarks.speed.processes import run_loop, stop_with_parent
from tests.benchmarks.speed.provider_wire import MODEL

TOKENS, WARM_UPS, PAUSE_S = 8, 5, 0.005
_FIRST = b'"content":"0'


async def main() -> None:
    client = openai.AsyncOpenAI(
        base_url=sys.argv[1], api_key="none", max_retries=0, http_client=openai.DefaultAsyncHttpxClient(trust_env=False)
    )
    took_us = []
    for number in range(int(sys.argv[2]) + WARM_UPS):
        if number == WARM_UPS:
            rest_from_collecting()
        messages = Answer(TOKENS, stamp=True).messages
        asked_us, first_us, body = now_us(), 0, b""
        request = {"model": MODEL, "messages": messages, "stream": True, "stream_options": {"include_usage": True}}
        response: httpx2.Response = await client.post(
            "/chat/completions", cast_to=httpx2.Response, body=request, stream=True
        )
        async for data in response.aiter_bytes():
            body += data
            if not first_us and _FIRST in body:
                first_us = now_us()
        took_us.append(first_us - asked_us)
        await asyncio.sleep(PAUSE_S)
    print(json.dumps(quantiles(took_us[WARM_UPS:])), flush=True)


if __name__ == "__main__":
    stop_with_parent()
    sys.exit(run_loop(main()))

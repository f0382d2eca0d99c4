"""The story's ids, times and texts."""

from pydantic import JsonValue
from pydantic.config import JsonDict

#: The conversation, its first question and its completion; a running stream of it, and one that failed.
SESSION_ID, TITLE = "sky", "Sky questions"
SKY_STREAM_ID, SUNSET_STREAM_ID, FAILED_STREAM_ID = "sky-1", "sky-2", "sky-3"
QUESTION_ID, COMPLETION_ID = "msg_9mK3vQx0bTzLw2RfY7cN", "msg_Zq0wXyNn2m1pS8dQ4hKt"
QUESTION, SUNSET = "Why is the sky blue?", "And at sunset?"
#: What the model wrote; a stream that broke off has only the beginning.
BEGINNING, REST = "Because air", " scatters blue light more than red."
COMPLETION, REASONING = f"{BEGINNING}{REST}", "Rayleigh scattering."
CREATED_AT, ASKED_AT, COMPLETED_AT = "2026-11-22T10:15:00Z", "2026-11-22T10:15:30Z", "2026-11-22T10:15:32Z"
#: ASKED_AT in seconds since 1970, as OpenAI's API has it.
ASKED_AT_S = 1_795_342_530
USAGE: JsonDict = {"prompt_tokens": 14, "completion_tokens": 11, "total_tokens": 25}
FORK_ID = "sky-otherwise"

#: The stream whose model calls tools: its question, its calls, and the call's result.
OSLO_STREAM_ID, UMBRELLA = "oslo-1", "Do I need an umbrella in Oslo?"
CALL_ID, TAXI_CALL_ID = "k3Zq9TxB1", "w8LmQ2rVx"
TOOL, ARGUMENTS, RESULT = "get_weather", '{"city": "Oslo"}', "4 °C, light rain"
NO_SUCH_CITY, DENIAL = "There is no such city.", "I walk."
CALL: JsonDict = {"call_id": CALL_ID, "name": TOOL, "arguments": ARGUMENTS}
WEATHER: JsonDict = {"name": TOOL, "description": "The weather in a city, now."}
WEATHER_PARAMETERS: JsonDict = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
}
STEER_ID, STEERED_TEXT = "steer-1", "In Fahrenheit, please."
UMBRELLA_COMPLETION, UMBRELLA_REASONING = "Yes: it is 39 °F in Oslo, with light rain.", "4 °C are 39 °F."
CLAIM, JOB_CLAIM = "tab-7f3a", "job-1"

#: Streams of other questions: one of another provider, one for an object, one that was refused.
PRIME_STREAM_ID, CITY_STREAM_ID, REFUSED_STREAM_ID = "prime-1", "city-1", "refused-1"
CITY_TEXT = '{"name": "Oslo", "people": "many"}'
FORMAT_ERRORS: list[JsonValue] = [{"path": "people", "message": 'it is not of type "integer"'}]
REFUSAL: JsonDict = {"text": "I can't help with that."}

PROVIDER, MODEL, MODEL_NAME, CONTEXT_WINDOW = "ollama", "llama3.2", "Llama 3.2", 131_072
OTHER_PROVIDER, OTHER_MODEL = "openai", "gpt-5.1"
VERSION = "0.1.0"
FILE_ID, FILE_BYTES = "file_4b1d0c2f9a6e8d7350e1f2a4c6b8d90e1f2a3b4c", 34_567
PICTURE: JsonDict = {"type": "image", "file_id": FILE_ID}
REQUEST_ID, CONNECTION_ID = "req_Hw4rT8yUiO2pAsDfGh6J", "con_Zq0wXyNn2m1pS8dQ4hKt"
TOKEN, TICKET = "the-token-of-AUTH_TOKEN", "kq0X1cV5m0lLzV2kq5sHkqv0mS3yq2nQ0cFh8Wc1x2E"
TICKET_RESULT: JsonDict = {"ticket": TICKET, "expires_in_s": 30}

#: What Ollama's errors say (llm_gateway/ollama/failures.py) when nothing answers.
OLLAMA_IS_AWAY = "nothing answers at http://localhost:11434 (ollama)"
START_OLLAMA = "Start Ollama (ollama serve), or set OLLAMA_HOST, or run: archer-ws serve --provider local"
UNAVAILABLE: JsonDict = {
    "kind": "provider_unavailable",
    "message": OLLAMA_IS_AWAY,
    "hint": START_OLLAMA,
    "retryable": True,
    "request_id": REQUEST_ID,
    "provider": PROVIDER,
}
NO_KEY, SET_KEY = "there is no API key for openai", "Set OPENAI_API_KEY."

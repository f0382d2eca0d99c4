"""The types of the settings: the range of each, and its description in words."""

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from pydantic import Field, SecretStr
from pydantic.fields import FieldInfo

Provider = Literal["ollama", "openai", "anthropic", "local"]


@dataclass(frozen=True)
class Allowed:
    """The values that a setting may have, in words, for the error about another value."""

    text: str


@dataclass(frozen=True)
class PrefixedOnly:
    """Marks a setting that is read only with `ARCHER_` before its name: images and init systems export bare names."""


Port = Annotated[int, Field(ge=0, le=65535), Allowed("a whole number from 0 to 65535")]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False), Allowed("a number of seconds above 0")]
SecondsOrZero = Annotated[float, Field(ge=0, allow_inf_nan=False), Allowed("a number of seconds, 0 or more")]
Count = Annotated[int, Field(ge=1), Allowed("a whole number, 1 or more")]
Flag = Annotated[bool, Allowed("true or false")]
Retries = Annotated[int, Field(ge=0, le=10), Allowed("a whole number from 0 to 10")]
Temperature = Annotated[float, Field(ge=0, le=2), Allowed("a number from 0 to 2")]
Url = Annotated[str, Allowed("a URL like https://host/v1")]
Address = Annotated[str, Allowed("an address like http://localhost:11434, localhost:11434 or localhost")]
Token = Annotated[SecretStr, Allowed("ASCII letters, digits and signs, without spaces")]
Origins = Annotated[list[str], Allowed("origins like https://host:8443, as JSON or separated by commas")]
Hosts = Annotated[list[str], Allowed("host names or addresses without a port, as JSON or separated by commas")]
Tokens = Annotated[dict[str, SecretStr], Allowed('a JSON object {"name": "token"}, or name=token,name2=token2')]
PerProvider = Annotated[dict[str, int], Allowed("one whole number for all, or openai=64,ollama=4, or a JSON object")]
Parameters = Annotated[
    list[Literal["temperature", "top_p", "stop", "seed", "max_tokens", "stream_options"]],
    Allowed("names like temperature,stream_options; max_tokens stands for both names of that limit"),
    PrefixedOnly(),
]
Sampling = Annotated[
    dict[str, float],
    Allowed("fields of llama.cpp's server with numbers, like repeat_penalty=1.1,top_k=40, or a JSON object"),
    PrefixedOnly(),
]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]


def allowed_values(field: FieldInfo) -> str:
    """The values that a setting may have, in words."""
    for kind in (field, *get_args(field.annotation)):  # metadata of `X | None` stays with X
        for entry in getattr(kind, "metadata", getattr(kind, "__metadata__", ())):
            if isinstance(entry, Allowed):
                return entry.text
    choices = [choice for choice in get_args(field.annotation) if isinstance(choice, str)]
    return f"one of {', '.join(choices)}" if choices else "text"

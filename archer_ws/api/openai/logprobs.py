"""The probabilities of an answer's tokens, as OpenAI's API tells them. Pure."""

from pydantic import BaseModel, Field


class LikelyToken(BaseModel):
    """A token that might have been said."""

    token: str
    logprob: float = Field(description="The natural logarithm of its probability.")
    bytes: list[int] | None = Field(description="Its UTF-8, where the provider tells it.")


class SaidToken(LikelyToken):
    """A token that was said."""

    top_logprobs: list[LikelyToken] = Field(description="The likeliest in its place; as many as were asked for.")


class Logprobs(BaseModel):
    """The probabilities of the answer's tokens."""

    content: list[SaidToken]
    refusal: None = None

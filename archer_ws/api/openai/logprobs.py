"""The log probabilities of a completion's tokens, in the form of OpenAI's API. Pure."""

from pydantic import BaseModel, Field


class LikelyToken(BaseModel):
    """A token that the model considered."""

    token: str
    logprob: float = Field(description="The natural logarithm of its probability.")
    bytes: list[int] | None = Field(description="Its bytes of UTF-8, if the provider returns them.")


class SaidToken(LikelyToken):
    """A token of the completion."""

    top_logprobs: list[LikelyToken] = Field(
        description="The most likely tokens at its position, as many as the request asked for."
    )


class Logprobs(BaseModel):
    """The log probabilities of the completion's tokens."""

    content: list[SaidToken]
    refusal: None = None

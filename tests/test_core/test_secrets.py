from base64 import b64encode
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archer_ws.core import secrets
from archer_ws.core.exceptions import ProviderError
from archer_ws.core.secrets import MASK, TextScrubber, remember, remember_userinfo, scrubbed, without_secrets

KEY = 'sk-proj-Ab/12+"xy'
WORD = "lm-studio"


@pytest.fixture(autouse=True, scope="module")
def _known() -> Iterator[None]:
    before, secrets._known = secrets._known, secrets._Known()
    remember(KEY, WORD, "short", None, " padded-key-1234567\n")
    yield
    secrets._known = before


def in_pieces(text: str, cuts: list[int]) -> str:
    scrubber = TextScrubber()
    ends = sorted({cut % (len(text) + 1) for cut in cuts} | {len(text)})
    starts = [0, *ends[:-1]]
    return "".join(scrubber.feed(text[a:b]) for a, b in zip(starts, ends, strict=True)) + scrubber.rest()


def basic(user: str, password: str) -> str:
    return b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize(
    "form",
    [
        KEY,
        quote(KEY, safe=""),
        quote(KEY, safe="").lower().replace("sk-proj-ab", "sk-proj-Ab"),
        KEY.replace('"', '\\"'),
        basic("", KEY),
        basic("a", KEY),
        basic("ab", KEY),
        basic("somebody", KEY).replace("+", "-").replace("/", "_"),
        "padded-key-1234567",
        WORD,
    ],
)
def test_a_known_secret_is_masked_in_every_form_that_a_provider_may_repeat(form: str) -> None:
    said = without_secrets(f"call with {form} failed")
    assert MASK in said
    assert form not in said
    assert said.startswith("call with ")


def test_what_is_shorter_than_eight_characters_is_an_ordinary_word() -> None:
    assert scrubbed("a short answer") == "a short answer"


@pytest.mark.parametrize(
    "said",
    [
        "Incorrect API key provided: sk-live-1234567890abcdef",
        "Incorrect API key provided: sk-pr************wxyz. You can find your key elsewhere.",
        "bad header Authorization: Bearer abc.def-123456789",
        "proxy said Basic Ym9iOmh1bnRlcjI=",
        'sent {"api_key": "0123456789abcdef"}',
        "https://bob:hunter2@proxy.example:3128 refused",
        "token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl expired",
        "AIzaSyA1234567890abcdefghijklmnopqrstuv is not valid",
    ],
)
def test_what_looks_like_a_key_is_masked_whoevers_it_is(said: str) -> None:
    shown = scrubbed(said)
    assert MASK in shown
    for piece in ("1234567890", "wxyz", "abc.def", "Ym9i", "0123456789", "hunter2", "c2ln"):
        assert piece not in shown


@pytest.mark.parametrize(
    "said",
    [
        "the model task-classifier-large is not loaded",
        "max_tokens: must be at most 4096",
        "basic support for tools is missing",
        "a bearer of bad news",
        "send Basic authentication.",
        "Bearer authentication-scheme expected",
        "risk-assessment-model does not exist",
        "see https://example.com/docs@v2",
    ],
)
def test_an_ordinary_sentence_stays_as_it_was_said(said: str) -> None:
    assert scrubbed(said) == said


def test_a_text_in_which_tokens_might_begin_everywhere_is_read_once() -> None:
    # If each beginning were followed to the end of the text, this would take minutes.
    beginnings, token = "-eyJ" * 100_000, "eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0dXJl"

    assert scrubbed(f"{beginnings} {token} {beginnings}") == f"{beginnings} {MASK} {beginnings}"
    assert scrubbed(f"{beginnings}-sk-live-1234567890") == f"{beginnings}-{MASK}"


def test_a_token_is_masked_from_its_first_beginning_that_makes_one() -> None:
    assert scrubbed("eyJhbGciOiJI.short.eyJhbGciOiJI.eyJzdWIiOiIx.end ok") == f"eyJhbGciOiJI.short.{MASK} ok"
    assert scrubbed("eyJshort-eyJhbGciOiJI.eyJzdWIiOiIx.c2ln") == MASK


def test_an_error_never_holds_a_secret_in_message_or_hint() -> None:
    error = ProviderError(f"upstream call with api_key={KEY} failed", hint=f"not {KEY}")
    told = error.info("req_1").model_dump_json()
    assert "sk-proj" not in told
    assert told.count(MASK) == 2


@given(st.lists(st.integers(0, 200), max_size=12))
def test_a_secret_split_over_pieces_is_masked_but_for_its_first_three_letters(cuts: list[int]) -> None:
    text = f"before {KEY} between sk- sk-p{KEY}{KEY} and {basic('somebody', KEY)} behind sk-proj-A"
    shown = in_pieces(text, cuts)
    assert "12+" not in shown
    assert basic("somebody", KEY)[15:30] not in shown
    assert shown.endswith(" behind sk-proj-A")
    assert shown.replace(f"sk-{MASK}", MASK).replace(f"sk{MASK}", MASK).count(MASK) == 4


@given(st.text(alphabet=f"{KEY} lm-studio", max_size=60), st.lists(st.integers(0, 60), max_size=8))
def test_text_without_a_secret_passes_unchanged_however_it_is_cut(text: str, cuts: list[int]) -> None:
    if without_secrets(text.replace(WORD, "")) == text.replace(WORD, ""):
        assert in_pieces(text, cuts) == text


@given(st.integers(0, 2000), st.integers(0, len(KEY)), st.lists(st.integers(0, 3000), max_size=2))
def test_a_secret_in_a_long_text_is_masked_wherever_it_stands_and_is_cut(at: int, within: int, more: list[int]) -> None:
    words = "the sky is blue, sk- and sk-pr are no keys. " * 50
    text = f"{words[:at]}{KEY}{words[at:]}"

    # Its first three characters may have gone out before it was noticed.
    assert in_pieces(text, [at + within, *more]) in {text.replace(KEY, KEY[:out] + MASK) for out in range(4)}


def test_a_text_of_nothing_but_secrets_is_searched_once() -> None:
    # If each form were searched for to the end behind each secret, this would never end.
    assert TextScrubber().feed(KEY * 400_000 + " and more") == MASK * 400_000 + " and more"


def test_a_key_that_is_an_ordinary_word_may_stand_in_an_answer() -> None:
    assert in_pieces(f"I run in {WORD}.", [9, 12]) == f"I run in {WORD}."


def test_ordinary_text_is_held_back_by_no_piece() -> None:
    scrubber = TextScrubber()
    for piece in ("Ask", " sk", "-", "ip", " the", " s"):
        assert scrubber.feed(piece) == piece


def test_the_password_of_an_address_is_a_secret_and_so_are_its_basic_credentials() -> None:
    remember_userinfo("http://clerk:correct-horse%21@127.0.0.1:9/v1")
    remember_userinfo("not an address")
    remember_userinfo(None)
    assert without_secrets("it was correct-horse!") == f"it was {MASK}"
    assert without_secrets(f"Authorization: Basic {basic('clerk', 'correct-horse!')}") == f"Authorization: Basic {MASK}"

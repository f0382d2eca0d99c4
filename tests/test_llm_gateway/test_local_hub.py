"""Models by name from a hub: which file is meant, transfers that break off and go on, what is told when one fails."""

import importlib.util
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import certifi
import pytest

from archer_ws.core.exceptions import ProviderFailure, ProviderNotConfigured, ProviderUnavailable
from archer_ws.llm_gateway.local.hub import HubName, choose, fetch, size_text
from archer_ws.llm_gateway.local.hub_client import RETRIES, HubClient, RemoteFile
from tests.fakes.hub_api import FakeHub, fake_hub

SMALL = b"GGUF" + bytes(range(256)) * 4
LARGE = b"GGUF" + bytes(range(251)) * 4000


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    files = {"m-Q4_K_M.gguf": LARGE, "m-Q8_0.gguf": SMALL, "mmproj-m.gguf": SMALL, "README.md": b"# m"}
    with fake_hub(several=files, one={"one.gguf": SMALL}, none={"model.safetensors": b"x"}) as running:
        yield running


class Person:
    """Who fetches: what was shown, and how long the pauses were."""

    def __init__(self, hub: FakeHub, folder: Path) -> None:
        self.shown: list[tuple[str, int, int]] = []
        self.notes: list[str] = []
        self.pauses: list[float] = []
        self.client = HubClient(hub.url, folder, self.pauses.append)

    def fetch(self, name: str) -> Path:
        return fetch(name, lambda *step: self.shown.append(step), self.notes.append, self.client)

    def refused(self, name: str, kind: type[ProviderFailure] = ProviderNotConfigured) -> str:
        """The message and the hint."""
        with pytest.raises(kind) as caught:
            self.fetch(name)
        return f"{caught.value.message} | {caught.value.hint}"


@pytest.fixture
def person(hub: FakeHub, tmp_path: Path) -> Person:
    return Person(hub, tmp_path)


@pytest.mark.parametrize("wanted", ["m-Q4_K_M.gguf", "M-q4_k_m.GGUF", "Q4_K_M", "q4_k_m"])
def test_a_file_is_named_by_its_path_or_by_a_part_of_it(person: Person, wanted: str) -> None:
    path = person.fetch(f"hf:owner/several:{wanted}")
    assert (path.name, path.read_bytes()) == ("m-Q4_K_M.gguf", LARGE)
    assert person.shown[0] == ("m-Q4_K_M.gguf", 0, len(LARGE))
    assert person.shown[-1] == ("m-Q4_K_M.gguf", len(LARGE), len(LARGE))


def test_the_one_file_of_a_repository_needs_no_name_and_is_not_transferred_twice(hub: FakeHub, person: Person) -> None:
    assert person.fetch("hf:owner/one") == person.fetch("hf://owner/one:one.gguf")
    assert hub.transfers == [None]


def test_several_files_are_listed_and_nothing_is_transferred(hub: FakeHub, person: Person) -> None:
    told = person.refused("hf:owner/several")
    assert "several GGUF files" in told
    assert "like hf:owner/several:m-Q4_K_M.gguf" in told
    assert "m-Q4_K_M.gguf (1 MB), m-Q8_0.gguf (1 kB)" in told
    assert "mmproj" not in told
    assert hub.transfers == []


def test_a_file_that_is_not_there_is_answered_with_those_that_are(person: Person) -> None:
    assert person.refused("hf:owner/several:Q5_K_M").startswith("owner/several has no file Q5_K_M | It has: m-Q4_K_M.g")


def test_a_repository_without_a_gguf_file_and_one_that_is_not_there_are_told_apart(person: Person) -> None:
    assert "owner/none has no GGUF file" in person.refused("hf:owner/none")
    assert "has no repository owner/missing" in person.refused("hf:owner/missing")


@pytest.mark.parametrize("name", ["hf:", "hf:model", "hf:/x", "hf:a/b/c", "hf:a b/c", "hf:owner/one:../../etc/passwd"])
def test_what_is_no_name_of_a_model_is_answered_with_how_to_write_one(person: Person, name: str) -> None:
    assert "Write hf:owner/repo" in person.refused(name)


def test_a_gated_model_is_told_with_where_to_accept_its_terms(hub: FakeHub, person: Person) -> None:
    hub.gated.add("owner/one")
    told = person.refused("hf:owner/one")
    assert f"{hub.url}/owner/one" in told
    assert "HF_TOKEN" in told


def test_a_transfer_that_breaks_off_goes_on_from_the_last_byte(hub: FakeHub, person: Person) -> None:
    hub.cuts.extend([300_000, 400_000])
    assert person.fetch("hf:owner/several:Q4_K_M").read_bytes() == LARGE
    assert hub.transfers == [None, "bytes=300000-", "bytes=700000-"]
    assert [done for _, done, _ in person.shown] == sorted(done for _, done, _ in person.shown)


def test_a_hub_that_stays_away_is_told_with_what_came_and_the_next_run_goes_on_from_there(
    hub: FakeHub, person: Person, tmp_path: Path
) -> None:
    hub.cuts.extend([500_000] + [0] * RETRIES)
    told = person.refused("hf:owner/several:Q4_K_M", ProviderUnavailable)
    assert f"500,000 of {len(LARGE):,} bytes were fetched" in told
    assert "the same command continues from there" in told
    assert person.pauses == [0.5, 1.0, 2.0, 4.0]
    again = Person(hub, tmp_path)
    assert again.fetch("hf:owner/several:Q4_K_M").read_bytes() == LARGE
    assert hub.transfers[-1] == "bytes=500000-"
    assert again.shown[0] == ("m-Q4_K_M.gguf", 500_000, len(LARGE))


def test_a_hub_without_ranges_sends_it_all_again_and_the_file_is_right(hub: FakeHub, person: Person) -> None:
    hub.knows_ranges = False
    hub.cuts.append(300_000)
    assert person.fetch("hf:owner/several:Q4_K_M").read_bytes() == LARGE


def test_a_file_that_came_damaged_is_thrown_away(hub: FakeHub, person: Person, tmp_path: Path) -> None:
    hub.damage = b"GGUF" + bytes(len(SMALL) - 4)
    assert "is damaged" in person.refused("hf:owner/one")
    assert not list(tmp_path.rglob("*.gguf"))
    hub.damage = None
    assert person.fetch("hf:owner/one").read_bytes() == SMALL


def test_a_file_that_is_longer_than_announced_is_thrown_away(hub: FakeHub, person: Person, tmp_path: Path) -> None:
    hub.surplus = bytes(20_000_000)
    assert "longer than the hub announced" in person.refused("hf:owner/one")
    assert len(hub.transfers) == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size]


@pytest.mark.parametrize("path", ["../../outside.gguf", "/outside.gguf", "a/../../outside.gguf"])
def test_a_file_is_never_stored_outside_of_its_folder(tmp_path: Path, path: str) -> None:
    path = f"{tmp_path}{path}" if path.startswith("/") else path
    with fake_hub(odd={path: SMALL}) as hub:
        assert "has no GGUF file" in Person(hub, tmp_path / "kept").refused("hf:owner/odd")
    assert not list(tmp_path.rglob("outside*"))


def test_another_version_of_a_file_does_not_go_on_in_the_old_ones_part(hub: FakeHub, person: Person) -> None:
    hub.cuts.extend([500_000] + [0] * RETRIES)
    person.refused("hf:owner/several:Q4_K_M", ProviderUnavailable)
    hub.repositories["owner/several"]["m-Q4_K_M.gguf"] = newer = LARGE[::-1]
    assert person.fetch("hf:owner/several:Q4_K_M").read_bytes() == newer
    assert hub.transfers[-1] is None


def test_without_the_hub_a_file_fetched_before_is_used_and_that_is_said(hub: FakeHub, tmp_path: Path) -> None:
    path = Person(hub, tmp_path).fetch("hf:owner/one")
    hub.refusals.extend([503] * 9)
    person = Person(hub, tmp_path)
    assert person.fetch("hf:owner/one") == path
    assert len(person.notes) == 1
    assert "responded with 503: using" in person.notes[0]
    assert "responded with 503" in person.refused("hf:owner/several:Q8_0", ProviderUnavailable)


@pytest.mark.parametrize("status", [429, 503])
def test_a_file_fetched_before_is_used_if_the_hub_lists_it_and_then_refuses_it(
    hub: FakeHub, person: Person, status: int
) -> None:
    before = person.fetch("hf:owner/one")
    hub.refusals.extend([0, 0, *[status] * 20])
    assert person.fetch("hf:owner/one") == before
    assert f"responded with {status}" in person.notes[0]
    assert "which was fetched before" in person.notes[0]


def test_a_hub_that_lists_a_new_version_and_refuses_it_is_told(hub: FakeHub, person: Person) -> None:
    person.fetch("hf:owner/one")
    hub.repositories["owner/one"]["one.gguf"] = LARGE
    hub.refusals.extend([0, 0, *[503] * 20])
    assert "responded with 503" in person.refused("hf:owner/one", ProviderUnavailable)


def test_a_hub_that_is_not_there_is_told_with_what_to_check(tmp_path: Path) -> None:
    with fake_hub() as hub:
        pass
    told = Person(hub, tmp_path).refused("hf:owner/one", ProviderUnavailable)
    assert f"{hub.url} can't be reached" in told
    assert "HF_ENDPOINT" in told


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSLKEYLOGFILE"])
def test_a_variable_without_which_the_hub_could_be_reached_is_named(
    person: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    import huggingface_hub

    huggingface_hub.close_session()  # the next one reads the environment again
    monkeypatch.setenv("SSL_CERT_FILE", certifi.where())  # without it, the library writes no log of keys
    monkeypatch.setenv(variable, str(tmp_path / "none" / "file"))
    told = person.refused("hf:owner/one")
    assert f"can't be reached: {variable} names" in told
    assert f"Correct {variable}" in told


def test_a_disk_without_room_is_told_before_anything_is_transferred(
    hub: FakeHub, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    told = person.refused("hf:owner/one")
    assert "the disk has 0.0 GB free" in told
    assert "HF_HOME" in told
    assert hub.transfers == []


def test_a_folder_that_can_t_be_written_is_named(hub: FakeHub, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file where the folder should be")
    assert "can't be written" in Person(hub, tmp_path / "taken").refused("hf:owner/one")


def test_a_split_model_is_all_its_files_the_first_of_them_to_be_loaded(tmp_path: Path) -> None:
    parts = {f"big/m-0000{number}-of-00003.gguf": b"GGUF" + bytes([number]) * 100 for number in (2, 1, 3)}
    with fake_hub(split=parts) as hub:
        path = Person(hub, tmp_path).fetch("hf:owner/split")
        hub.refusals.extend([503] * 9)
        assert Person(hub, tmp_path).fetch("hf:owner/split") == path
    assert path.name == "m-00001-of-00003.gguf"
    assert {file.name: file.read_bytes() for file in path.parent.glob("*.gguf")} == {
        Path(name).name: content for name, content in parts.items()
    }


def test_two_who_fetch_the_same_file_at_once_both_get_it_and_it_is_transferred_once(
    hub: FakeHub, tmp_path: Path
) -> None:
    found: list[Path] = []
    people = [Person(hub, tmp_path) for _ in range(2)]
    threads = [
        threading.Thread(target=lambda person=person: found.append(person.fetch("hf:owner/one"))) for person in people
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found[0] == found[1]
    assert hub.transfers == [None]


def test_without_the_package_the_command_that_installs_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: None)
    with pytest.raises(ProviderNotConfigured) as caught:
        HubClient()
    assert "-m pip install huggingface_hub" in (caught.value.hint or "")


def test_a_part_of_a_name_is_whole_between_dots_and_dashes() -> None:
    files = [RemoteFile(f"m-{kind}.gguf", 1) for kind in ("Q4_0", "IQ4_0", "Q4_K_M", "Q4_K_S")]
    assert choose(files, HubName("o/r", "Q4_0")) == [files[0]]
    with pytest.raises(ProviderNotConfigured) as caught:
        choose(files, HubName("o/r", "Q4_K"))
    assert "Q4_K_M.gguf" in (caught.value.hint or "")
    assert "Q4_0" not in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 bytes"), (999, "999 bytes"), (94_200_000, "94 MB"), (1.3e9, "1.3 GB")]
)
def test_sizes_are_written_as_people_say_them(count: float, text: str) -> None:
    assert size_text(count) == text

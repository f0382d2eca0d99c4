"""What both shelves hold to, and what one on a disk does beyond that."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from archer_ws.files.disk_shelf import DiskShelf
from archer_ws.files.memory_shelf import MemoryShelf
from archer_ws.files.shelf import DirectoryNotLocked, Label, Shelf
from tests.fakes.locks import without_locks

LABEL = Label("0a" * 16, "file_" + "1b" * 20, "text/x-python")


@pytest.fixture(params=["memory", "disk"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shelf]:
    made: Shelf = MemoryShelf() if request.param == "memory" else DiskShelf(tmp_path / "files")
    assert made.begin() == []
    yield made
    made.close()


def put(shelf: Shelf, label: Label = LABEL, *pieces: bytes) -> None:
    draft = shelf.draft()
    for piece in pieces or (b"one ", b"two"):
        draft.write(piece)
    with draft.content() as content:
        assert bytes(content) == b"".join(pieces or (b"one ", b"two"))
    draft.keep(label, 1000.0)
    draft.discard()


def read(shelf: Shelf, label: Label = LABEL) -> bytes:
    reader = shelf.open(label)
    pieces = []
    while piece := reader.read(3):
        pieces.append(piece)
    reader.close()
    return b"".join(pieces)


def test_what_is_kept_can_be_read_and_removed(shelf: Shelf) -> None:
    put(shelf)
    assert read(shelf) == b"one two"
    shelf.remove(LABEL)
    shelf.remove(LABEL)
    with pytest.raises(FileNotFoundError):
        shelf.open(LABEL)


def test_the_same_file_twice_is_one(shelf: Shelf) -> None:
    put(shelf)
    put(shelf)
    assert read(shelf) == b"one two"


def test_a_draft_that_is_discarded_leaves_nothing_whenever_that_comes(shelf: Shelf, tmp_path: Path) -> None:
    for write in (lambda _: None, lambda draft: draft.write(b"x" * 100_000)):
        step: Callable[..., object] = write
        draft = shelf.draft()
        step(draft)
        draft.discard()
        draft.discard()
    assert [each for each in tmp_path.rglob("*") if each.is_file() and each.name != "lock"] == []


def test_who_reads_a_file_reads_it_to_its_end_though_it_is_removed(shelf: Shelf) -> None:
    put(shelf)
    reader = shelf.open(LABEL)
    assert reader.read(3) == b"one"
    shelf.remove(LABEL)
    assert reader.read(10) == b" two"
    reader.close()


def begun(directory: Path) -> DiskShelf:
    shelf = DiskShelf(directory)
    shelf.begin()
    return shelf


def test_files_on_a_disk_are_there_again_after_a_restart_with_when_they_were_used(tmp_path: Path) -> None:
    shelf = begun(tmp_path)
    put(shelf)
    shelf.touch(LABEL, 2000.0)
    shelf.close()
    again = DiskShelf(tmp_path)
    (found,) = again.begin()
    assert (found.label, found.size, found.used_at) == (LABEL, 7, 2000.0)
    assert read(again) == b"one two"
    again.close()


def test_what_a_killed_server_had_not_finished_is_removed_by_the_next(tmp_path: Path) -> None:
    shelf = begun(tmp_path)
    draft = shelf.draft()
    draft.write(b"half")
    assert len(list((tmp_path / "incoming").iterdir())) == 1
    shelf.close()  # As the end of its process would.
    again = DiskShelf(tmp_path)
    assert again.begin() == []
    assert list((tmp_path / "incoming").iterdir()) == []
    again.close()
    draft.discard()


def test_two_processes_do_not_share_a_directory(tmp_path: Path) -> None:
    shelf = begun(tmp_path)
    with pytest.raises(DirectoryNotLocked, match="another process"):
        begun(tmp_path)
    shelf.close()
    begun(tmp_path).close()


def test_a_directory_whose_file_system_has_no_locks_is_refused_for_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_locks(monkeypatch)
    with pytest.raises(DirectoryNotLocked, match="No locks available"):
        begun(tmp_path)


def test_a_directory_that_could_not_be_read_whole_takes_no_file_and_is_there_once_it_can(tmp_path: Path) -> None:
    shelf = begun(tmp_path)
    put(shelf)
    shelf.close()
    damage = tmp_path / "incoming" / "folder.part"
    damage.mkdir()  # Nobody can unlink it.
    shelf = DiskShelf(tmp_path)
    for _ in range(2):
        with pytest.raises(OSError, match=r"folder\.part"):
            shelf.begin()
        with pytest.raises(OSError, match="not open"):
            shelf.draft()
    damage.rmdir()
    assert [found.label for found in shelf.begin()] == [LABEL]
    shelf.close()


def test_strange_files_in_the_directory_are_left_alone(tmp_path: Path) -> None:
    begun(tmp_path).close()
    (tmp_path / "kept" / "notes.txt").write_text("mine")
    (tmp_path / "kept" / "abc").mkdir()
    (tmp_path / "kept" / "abc" / ".DS_Store").write_text("")
    shelf = DiskShelf(tmp_path)
    assert shelf.begin() == []
    assert (tmp_path / "kept" / "abc" / ".DS_Store").exists()
    shelf.close()


def test_nobody_else_of_the_machine_can_read_them(tmp_path: Path) -> None:
    shelf = begun(tmp_path / "files")
    put(shelf)
    modes = {oct(each.stat().st_mode & 0o077) for each in (tmp_path / "files").rglob("*")}
    assert modes == {"0o0"}
    shelf.close()

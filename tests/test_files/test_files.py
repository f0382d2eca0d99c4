"""Who may keep how much, how long a file is kept, and what is left where something goes wrong."""

import asyncio
import errno
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from archer_ws.core.exceptions import (
    ContentTooLarge,
    FileNotFound,
    InvalidParams,
    Overloaded,
    StorageFull,
    StorageUnavailable,
    Unsupported,
)
from archer_ws.core.limits import FILE_OVERHEAD_BYTES
from archer_ws.files.disk_shelf import DiskShelf
from archer_ws.files.files import Files
from archer_ws.files.memory_shelf import MemoryShelf
from archer_ws.files.shelf import Shelf
from archer_ws.files.stored import Kept
from tests.fakes.file_heads import png

MIB = 1024 * 1024


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def files_on(shelf: Shelf, clock: Clock | None = None, **within: Any) -> Files:
    bounds = {"file_bytes_max": MIB, "principal_bytes_max": 4 * MIB, "lifetime_s": 100.0, **within}
    clock = clock or Clock()
    files = Files(shelf, **{"clock": clock, "wall_clock": clock, **bounds})
    files.open_now()
    return files


@pytest.fixture(params=["memory", "disk"])
async def files(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Files]:
    made = files_on(MemoryShelf() if request.param == "memory" else DiskShelf(tmp_path))
    yield made
    await made.aclose()


async def sent(
    files: Files, content: bytes, *, to: str = "ann", declared: str = "", size: int | None = None, passing: bool = False
) -> Kept:
    with files.upload(to, declared, size, is_passing=passing) as upload:
        for place in range(0, len(content), 50_000):
            await upload.write(content[place : place + 50_000])
        return await upload.finish()


async def read(files: Files, kept: Kept) -> bytes:
    return b"".join([piece async for piece in files.pieces(kept.file)])


@pytest.mark.skipif(sys.platform == "win32", reason="its errors are others, and links need a privilege")
async def test_a_folder_that_cannot_be_used_is_logged_once_for_each_reason(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.write_text("no folder")
    with capture_logs() as logs:
        files = files_on(DiskShelf(place / "files"), is_needed=False)
        files.open_now()
        files.open_now()
        assert [(entry["event"], entry["errno"]) for entry in logs] == [("files_failed", errno.ENOTDIR)]
        place.unlink()
        place.symlink_to(place)
        files.open_now()
        files.open_now()
        assert [entry["errno"] for entry in logs] == [errno.ENOTDIR, errno.ELOOP]
    place.unlink()
    files.open_now()
    assert files.is_open
    await files.aclose()


async def test_a_file_comes_back_as_it_was_sent(files: Files) -> None:
    content = png() + b"\0" * 700_000
    kept = await sent(files, content)
    assert (kept.is_new, kept.file.media_type, kept.file.size) == (True, "image/png", len(content))
    assert await read(files, kept) == content


async def test_the_same_file_sent_again_is_the_same_and_takes_no_more_room(files: Files) -> None:
    content = b"a" * 900_000
    for _ in range(10):
        kept = await sent(files, content)
        kept.hold.release()
    assert not kept.is_new
    assert len(files.all()) == 1


async def test_a_file_is_told_by_its_principal_and_its_type_as_well_as_its_bytes(files: Files) -> None:
    first = await sent(files, b"x,y\n", declared="text/csv")
    ids = {
        first.file.file_id,
        (await sent(files, b"x,y\n", declared="text/plain")).file.file_id,
        (await sent(files, b"x,y\n", declared="text/csv", to="bob")).file.file_id,
    }
    assert len(ids) == 3
    with pytest.raises(FileNotFound):
        files.find("bob", first.file.file_id)
    assert files.find("ann", first.file.file_id) is first.file


async def test_twenty_that_send_the_same_at_once_get_one_file(files: Files) -> None:
    kept = await asyncio.gather(*[sent(files, b"same" * 50_000) for _ in range(20)])
    assert sum(each.is_new for each in kept) == 1
    assert await read(files, kept[0]) == b"same" * 50_000


@pytest.mark.parametrize(
    ("content", "declared", "error"),
    [
        (b"", "image/png", InvalidParams),
        (b"GIF89a", "image/png", Unsupported),
        (png(), "text/plain", Unsupported),
        (b"<svg/>", "image/svg+xml", Unsupported),
        (b"text \xff\xfe" + b"a" * 2000, "text/plain", Unsupported),
        (b"a" * 5000 + b"\xff", "text/plain", Unsupported),
        (b"a" * 5000 + b"\0", "text/plain", Unsupported),
        (b"a" * 5000 + "é".encode()[:1], "text/plain", Unsupported),
        (b"text", "text/plain; charset=utf-16", Unsupported),
        (b"text", "text/../../etc", Unsupported),
        (b"text", f"text/{'x' * 300}", Unsupported),
        (b"text", "multipart/form-data; boundary=x", Unsupported),
        (b"\x01\x02\x03", "", Unsupported),
        (png(65_000, 65_000), "image/png", InvalidParams),
        (b"x" * (MIB + 1), "text/plain", ContentTooLarge),
    ],
)
async def test_what_is_not_taken_is_told_why_and_leaves_nothing(
    tmp_path: Path, content: bytes, declared: str, error: type[Exception]
) -> None:
    files = files_on(DiskShelf(tmp_path))
    with pytest.raises(error) as refused:
        await sent(files, content, declared=declared)
    assert refused.value.hint  # type: ignore[attr-defined]
    await files.aclose()
    assert [each.name for each in tmp_path.rglob("*") if each.is_file()] == ["lock"]
    assert files._taken == {}


async def test_a_principals_files_have_a_bound_of_their_own() -> None:
    files = files_on(MemoryShelf(), principal_bytes_max=MIB)
    await sent(files, b"a" * 600_000)
    with pytest.raises(StorageFull, match="your files"):
        await sent(files, b"b" * 600_000)
    with pytest.raises(StorageFull):
        files.upload("ann", "text/plain", 600_000)
    await sent(files, b"b" * 600_000, to="bob")
    await files.aclose()


async def test_a_small_file_costs_something_too() -> None:
    files = files_on(MemoryShelf(), principal_bytes_max=10 * FILE_OVERHEAD_BYTES + 100)
    for number in range(10):
        await sent(files, b"%d" % number)
    with pytest.raises(StorageFull):
        await sent(files, b"one more")
    await files.aclose()


async def test_who_sends_pictures_in_requests_is_told_to_come_again_where_others_are_on_their_way() -> None:
    files = files_on(MemoryShelf(), bytes_max=MIB)
    held = await sent(files, b"a" * 600_000, passing=True)
    with pytest.raises(Overloaded) as refused:
        await sent(files, b"b" * 600_000, to="bob", passing=True)
    assert refused.value.retry_after_ms
    held.hold.release()
    await files.aclose()


async def test_a_file_is_kept_for_its_time_after_its_last_use() -> None:
    clock = Clock()
    files = files_on(MemoryShelf(), clock)
    kept, other = await sent(files, b"one"), await sent(files, b"two")
    clock.now += 99
    assert files.expired() == []
    files.hold([kept.file]).release()
    clock.now += 2
    assert files.expired() == []  # Their senders hold them.
    kept.hold.release()
    other.hold.release()
    assert files.expired() == [other.file]
    await files.remove(other.file)
    assert files.all() == [kept.file]
    await files.aclose()


async def test_a_restart_knows_when_a_file_was_used(tmp_path: Path) -> None:
    clock = Clock()
    files = files_on(DiskShelf(tmp_path), clock)
    used, unused = await sent(files, b"used"), await sent(files, b"unused")
    clock.now += 60
    files.hold([used.file])
    await files.aclose()
    clock.now += 60
    again = files_on(DiskShelf(tmp_path), clock)
    assert [file.file_id for file in again.expired()] == [unused.file.file_id]
    assert again.find("ann", used.file.file_id).size == 4
    await again.aclose()


@pytest.mark.parametrize("jump_s", [200.0, -1e6], ids=["forward", "to 1970"])
async def test_a_wall_clock_that_jumps_ends_no_file_s_time_and_keeps_none_longer(tmp_path: Path, jump_s: float) -> None:
    clock, wall_clock = Clock(), Clock()
    files = files_on(DiskShelf(tmp_path), clock, wall_clock=wall_clock)
    (await sent(files, b"before")).hold.release()
    wall_clock.now += jump_s
    (await sent(files, b"after")).hold.release()
    assert files.expired() == []
    clock.now += 101
    assert files.expired() == files.all()
    await files.aclose()


async def test_a_file_from_the_future_is_kept_for_its_time_from_the_start_on_and_holds_up_no_other(
    tmp_path: Path,
) -> None:
    clock, wall_clock = Clock(), Clock()
    files = files_on(DiskShelf(tmp_path), wall_clock=wall_clock)
    present = await sent(files, b"present")
    wall_clock.now += 1e6
    future = await sent(files, b"future")
    await files.aclose()
    wall_clock.now += 60 - 1e6
    again = files_on(DiskShelf(tmp_path), clock, wall_clock=wall_clock)
    clock.now += 41
    assert [file.file_id for file in again.expired()] == [present.file.file_id]
    clock.now += 60
    assert [file.file_id for file in again.expired()] == [present.file.file_id, future.file.file_id]
    await again.aclose()


async def test_what_came_in_a_request_goes_with_what_holds_it(files: Files) -> None:
    kept = await sent(files, b"a photo", passing=True)
    stream = files.hold([kept.file])
    kept.hold.release()
    assert files.find("ann", kept.file.file_id)
    stream.release()
    stream.release()
    await asyncio.gather(*files._tasks)
    assert files.all() == []


async def test_what_came_in_a_request_stays_if_it_is_uploaded_meanwhile(files: Files) -> None:
    kept = await sent(files, b"a photo", passing=True)
    (await sent(files, b"a photo")).hold.release()
    kept.hold.release()
    await asyncio.gather(*files._tasks)
    assert files.find("ann", kept.file.file_id)


async def test_an_upload_that_is_cut_at_any_step_leaves_nothing(tmp_path: Path) -> None:
    files = files_on(DiskShelf(tmp_path))
    for turns in range(40):
        task = asyncio.create_task(sent(files, b"%02d" % turns + b"a" * 400_000))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await asyncio.gather(*files._tasks)
    taken = sum(file.size + FILE_OVERHEAD_BYTES for file in files.all())
    assert files._taken.total() == taken
    assert not files._holds
    await files.aclose()
    assert list((tmp_path / "incoming").iterdir()) == []


class FullShelf(MemoryShelf):
    """One whose disk is full."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number

    def draft(self) -> Any:
        draft = super().draft()

        def write(data: bytes) -> None:
            raise OSError(self._number, "no")

        draft.write = write  # type: ignore[method-assign]
        return draft


@pytest.mark.parametrize(("number", "error"), [(errno.ENOSPC, StorageFull), (errno.EIO, StorageUnavailable)])
async def test_a_disk_that_fails_is_told_as_what_it_is(number: int, error: type[Exception]) -> None:
    files = files_on(FullShelf(number))
    with pytest.raises(error):
        await sent(files, b"a" * 300_000)
    assert files._taken == {}
    await files.aclose()


async def test_a_file_that_somebody_took_from_the_disk_is_not_found_any_more(tmp_path: Path) -> None:
    files = files_on(DiskShelf(tmp_path))
    kept = await sent(files, b"here")
    for each in (tmp_path / "kept").rglob("file_*"):
        each.unlink()
    with pytest.raises(FileNotFound):
        await read(files, kept)
    with pytest.raises(FileNotFound):
        files.find("ann", kept.file.file_id)
    await files.aclose()


async def test_a_file_that_somebody_took_from_the_disk_is_there_again_once_it_is_sent_again(tmp_path: Path) -> None:
    files = files_on(DiskShelf(tmp_path))
    (await sent(files, png())).hold.release()
    shutil.rmtree(tmp_path / "kept")
    kept = await sent(files, png())
    assert not kept.is_new
    assert await read(files, kept) == png()
    kept.hold.release()
    await files.remove(kept.file)
    assert files.all() == []
    files.reserve(kept.file.label.owner, 4 * MIB)  # All of the room is free again.
    await files.aclose()


async def test_folders_that_somebody_removed_are_made_again(tmp_path: Path) -> None:
    files = files_on(DiskShelf(tmp_path))
    for name in ("incoming", "kept"):
        (tmp_path / name).rmdir()
        kept = await sent(files, name.encode())
        assert await read(files, kept) == name.encode()
        kept.hold.release()
        await files.remove(kept.file)
    shutil.rmtree(tmp_path)
    with pytest.raises(StorageUnavailable):
        await sent(files, b"nowhere")
    assert files._taken == {}
    await files.aclose()

"""The heap in huge pages: which memory they are made of, and that nothing in it changes."""

import subprocess
import sys
from pathlib import Path

import pytest

from archer_ws.core import huge_pages
from archer_ws.core.huge_pages import gather_heap, huge_ranges

MIB = 1024 * 1024
#: A program with 64 MiB in use and 64 MiB of which few pages are. It prints how much was gathered, the sizes of the
#: process and of its huge pages before and after, and whether what is in use is as it was.
GATHERING = f"""
import mmap
from archer_ws.core.huge_pages import gather_heap

def told():
    kib = {{words[0]: words[1] for words in map(str.split, open("/proc/self/smaps_rollup"))}}
    return [int(kib[name]) * 1024 for name in ("Rss:", "AnonHugePages:")]

used, unused = (mmap.mmap(-1, 64 * {MIB}, flags=mmap.MAP_PRIVATE) for _ in range(2))
for at in range(0, len(used), mmap.PAGESIZE):
    used[at : at + 8] = at.to_bytes(8, "big")
for at in range(0, len(unused), 1 << 20):
    unused[at] = 1
before = told()
gathered = gather_heap()
after = told()
is_same = all(used[at : at + 8] == at.to_bytes(8, "big") for at in range(0, len(used), mmap.PAGESIZE))
print(gathered, *before, *after, int(is_same))
"""


def test_huge_pages_are_made_of_whole_ranges_of_private_memory_without_a_file() -> None:
    mappings = [
        b"00400000-00a00000 r-xp 00000000 fe:00 1311 /usr/bin/python3.11",
        b"00a00000-00e00000 rw-p 00600000 fe:00 1311 /usr/bin/python3.11",
        b"01100000-01800000 rw-p 00000000 00:00 0 [heap]",
        b"7f0000000000-7f0000200000 rw-p 00000000 00:00 0 ",
        b"7f0000300000-7f00004fffff rw-p 00000000 00:00 0 ",
        b"7f0000600000-7f0000a00000 ---p 00000000 00:00 0 ",
        b"7f0000c00000-7f0001000000 rw-s 00000000 00:01 9 /dev/zero (deleted)",
        b"7f0001200000-7f0001400000 rw-p 00000000 00:00 0 [anon:a name]",
        b"7ffc00000000-7ffc00400000 rw-p 00000000 00:00 0 [stack]",
    ]
    assert [hex(start) for start in huge_ranges(mappings, 2 * MIB)] == [
        "0x1200000", "0x1400000", "0x1600000", "0x7f0000000000", "0x7f0001200000",
    ]  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has huge pages of this kind")
def test_gathering_changes_nothing_but_the_pages_and_the_process_does_not_grow_by_what_is_not_used() -> None:
    done = subprocess.run([sys.executable, "-c", GATHERING], check=True, capture_output=True, text=True, timeout=60)
    gathered, size_before, huge_before, size_after, huge_after, is_same = map(int, done.stdout.split())
    assert is_same
    # None at all where the kernel is too old, or has them switched off.
    assert huge_after - huge_before == gathered
    assert gathered == 0 or gathered > 60 * MIB
    assert size_after - size_before < 16 * MIB


def test_nothing_is_gathered_where_the_administrator_wants_no_huge_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decided = tmp_path / "enabled"
    decided.write_text("always madvise [never]\n", encoding="ascii")
    monkeypatch.setattr(huge_pages, "_DECIDED", decided)
    assert gather_heap() == 0

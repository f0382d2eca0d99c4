"""Ids of the server: their form, and that none is generated twice, in whichever process or thread."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from archer_ws.core.ids import is_valid_id, new_id

_FORK = """
import os
from archer_ws.core.ids import new_id

new_id("first")  # now there are random bytes for more
reading, writing = os.pipe()
if os.fork() == 0:
    os.write(writing, " ".join(new_id("x") for _ in range(5)).encode())
    os._exit(0)
os.wait()
print(os.read(reading, 1000).decode(), *[new_id("x") for _ in range(5)])
"""


def test_an_id_has_its_prefix_and_120_random_bits() -> None:
    prefix, _, random = new_id("str").partition("_")
    assert (prefix, len(random)) == ("str", 20)
    assert is_valid_id(f"{prefix}_{random}")


def test_no_two_threads_get_the_same_id() -> None:
    with ThreadPoolExecutor(8) as threads:
        ids = [each for some in threads.map(lambda _: [new_id("x") for _ in range(500)], range(16)) for each in some]
    assert len(set(ids)) == len(ids) == 8000


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
def test_a_forked_process_generates_other_ids_than_the_one_it_came_from() -> None:
    told = subprocess.run([sys.executable, "-c", _FORK], capture_output=True, text=True, check=True, timeout=30)
    assert len(set(told.stdout.split())) == 10

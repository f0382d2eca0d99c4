"""Words of commands that a person copies."""

import shlex
import sys

import pytest

from archer_ws.core.shell_words import shell_word


@pytest.mark.skipif(sys.platform == "win32", reason="its shells split words in another way")
@pytest.mark.parametrize("path", ["/usr/bin/python3", "/home/a b/Größe/python3", "it's", "$HOME/x"])
def test_a_path_is_one_word_and_a_plain_one_stays_as_it_is(path: str) -> None:
    assert shlex.split(f"run {shell_word(path)} -m pip") == ["run", path, "-m", "pip"]
    assert shell_word("/usr/bin/python3") == "/usr/bin/python3"

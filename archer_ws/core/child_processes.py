"""What our child processes have in common: what they may see of our environment, and standing apart from a terminal."""

import re
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from archer_ws.core.secrets import scrubbed

#: Words in the names of variables that hold credentials; a proxy's address holds its password. MYSQL_PWD, PGPASSWORD,
#: SSHPASS.
_CREDENTIAL_NAME = re.compile(
    r"(^|_)(api)?(keys?|tokens?|secrets?|credentials?|pat|proxy)(_|$)|_pwd$|passw(or)?d|passphrase|pass(_|$)",
    re.IGNORECASE,
)


def child_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What a child may see of our environment: no credentials, neither by their names nor by what they hold.

    It runs native code on text from anywhere, and needs none of them.
    """
    return {
        name: value
        for name, value in environment.items()
        if not _CREDENTIAL_NAME.search(name) and scrubbed(value) == value
    }


def apart() -> dict[str, Any]:
    """Popen's arguments for a process group of its own: a terminal's Ctrl-C is ours to handle."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    else:  # noqa: RET505 - so that type checkers know it for one of two platforms
        return {"start_new_session": True}

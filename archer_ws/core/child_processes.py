"""What all our child processes share: the environment they get, and a process group of their own."""

import re
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from archer_ws.core.secrets import scrubbed

#: Words in the names of variables that contain credentials. PROXY: a proxy's address contains its password. PWD and
#: PASS: MYSQL_PWD, PGPASSWORD, SSHPASS.
_CREDENTIAL_NAME = re.compile(
    r"(^|_)(api)?(keys?|tokens?|secrets?|credentials?|pat|proxy)(_|$)|_pwd$|passw(or)?d|passphrase|pass(_|$)",
    re.IGNORECASE,
)


def child_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a child process: ours without credentials, recognised by a variable's name or by its value.

    The child runs native code on text from anywhere, and needs no credential.
    """
    return {
        name: value
        for name, value in environment.items()
        if not _CREDENTIAL_NAME.search(name) and scrubbed(value) == value
    }


def apart() -> dict[str, Any]:
    """Popen's arguments for a process group of its own, so that a terminal's Ctrl-C reaches us alone."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    else:  # noqa: RET505 - so that type checkers know it for one of two platforms
        return {"start_new_session": True}

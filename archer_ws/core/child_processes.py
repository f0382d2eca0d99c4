"""What all our child processes share: how they are started, the environment they get, and a process group of their own.

A frozen program (PyInstaller, cx_Freeze) has no interpreter beside itself that could run a file of ours: it starts
itself, with an argument by which `run_as_child` knows what it is to be.
"""

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

from archer_ws.core.secrets import scrubbed

#: Words in the names of variables that contain credentials. PROXY: a proxy's address contains its password. PWD and
#: PASS: MYSQL_PWD, PGPASSWORD, SSHPASS.
_CREDENTIAL_NAME = re.compile(
    r"(^|_)(api)?(keys?|tokens?|secrets?|credentials?|pat|proxy)(_|$)|_pwd$|passw(or)?d|passphrase|pass(_|$)",
    re.IGNORECASE,
)

#: A frozen program's first argument where it is its own child process; the next one names the module.
_AS_CHILD = "--as-child-process"


def is_frozen() -> bool:
    """Whether this program is an executable with Python inside (PyInstaller's manual, "Run-time Information")."""
    return bool(getattr(sys, "frozen", False))


def child_command(program: ModuleType) -> tuple[str, ...]:
    """The command line of a child process that runs a module of ours, by its function `main`. It may import no other
    module of ours, since it is run as a file where that is possible."""
    if is_frozen():
        return (sys.executable, _AS_CHILD, program.__name__)
    # `-P`: the module's folder must not be searched for modules.
    return (sys.executable, "-P", str(program.__file__))


def run_as_child(arguments: Sequence[str]) -> bool:
    """Run the module that a command line of `child_command` names, if it is one; returns whether it was one.

    Args:
        arguments: `sys.argv`.
    """
    match arguments:
        case [_, option, module, *_] if option == _AS_CHILD and is_frozen():
            import_module(module).main()
            return True
    return False


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

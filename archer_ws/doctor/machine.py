"""Checks the machine: Python, packages, the model's file and memory, disk, open files."""

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from archer_ws.core.child_processes import is_frozen
from archer_ws.core.exceptions import ProviderFailure
from archer_ws.core.shell_words import shell_word
from archer_ws.doctor.finding import Finding
from archer_ws.doctor.setup import Setup
from archer_ws.llm_gateway.local.child import LOAD_ONLY
from archer_ws.llm_gateway.local.hub import HubName, size_text
from archer_ws.llm_gateway.local.hub_client import INSTALL_HINT
from archer_ws.llm_gateway.local.library import library_trouble
from archer_ws.llm_gateway.local.model import CHILD_COMMAND, find_model
from archer_ws.model_option import foreign_local_model

PYTHON_MIN = (3, 11)
#: Less free space than this on a disk is reported, in bytes.
DISK_LOW_BYTES = 1_000_000_000
#: The file descriptors of a stream (its client's and its provider's connection), and those of everything else.
FILES_PER_STREAM, FILES_BESIDE = 2, 100
#: How long loading llama.cpp may take, in seconds: less than the whole check, whose rest follows.
_LOADING_S = 8.0
#: A model needs memory of its file's size, and about this share more for computing.
_MEMORY_SHARE = 1.2
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?([^;]*)(?:; *(.*))?")
#: The conditions of those requirements that the server has.
_CONDITIONS = (None, 'extra == "server"', "extra == 'server'")
#: What a requirement says after its name, of what this project's say.
_BOUND = re.compile(r"(>=|<)\s*([0-9.]+)")


def check_python(setup: Setup) -> list[Finding]:
    """Check the interpreter and the packages that this package needs."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < PYTHON_MIN:
        needed = ".".join(map(str, PYTHON_MIN))
        return [Finding("python", "problem", f"this is Python {version}", f"Install Python {needed} or newer.")]
    if is_frozen():
        return [Finding("python", "ok", f"Python {version} and all packages are inside {sys.executable}")]
    lacking = _lacking_packages()
    if lacking:
        advice = f"Run: {shell_word(sys.executable)} -m pip install --no-deps -r requirements.txt   (from a clone)"
        return [Finding("python", "problem", f"packages are missing, too old or too new: {', '.join(lacking)}", advice)]
    return [Finding("python", "ok", f"Python {version} at {sys.executable}, with all packages")]


def check_model_file(setup: Setup) -> list[Finding]:
    """Check the local model: its package, whether that can be loaded, its file, and the memory for it."""
    if any(finding.check == "model file" for finding in setup.findings):
        return []  # --model was refused already, and would override the setting
    is_chosen = setup.settings.llm_provider == "local"
    if setup.hub_model is not None:
        return _check_hub(setup.hub_model)
    try:
        file = find_model(setup.settings.local_model_path)
    except ProviderFailure as failure:
        if is_chosen or setup.settings.local_model_path is not None:
            state = "problem" if is_chosen else "warning"
            return [Finding("model file", state, failure.message, failure.hint)]  # type: ignore[arg-type]  # two of the states
        return [Finding("model file", "ok", "no local model is installed, and none is needed")]
    return [(_of_library() if is_chosen else None) or _of_name(setup) or _of_memory(file, is_chosen=is_chosen)]


def _of_library() -> Finding | None:
    command = (*CHILD_COMMAND, LOAD_ONLY)
    try:
        loading = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_LOADING_S, check=False
        )
    except subprocess.TimeoutExpired:
        return None  # A slow disk: the server will wait for longer.
    if loading.returncode == 0:
        return None
    said = loading.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
    return Finding("model file", "problem", *library_trouble(said.removeprefix("ImportError: ")))


def _of_name(setup: Setup) -> Finding | None:
    foreign = foreign_local_model(setup.settings.configured_model_for("local"), setup.settings.local_model_path)
    if foreign is None:
        return None
    message, _, advice = foreign.partition(". ")
    return Finding("model file", "problem", f"requests that name no model will fail: {message}", advice)


def _of_memory(file: Path, *, is_chosen: bool) -> Finding:
    size, free = file.stat().st_size, _free_memory()
    needed = size * _MEMORY_SHARE
    if is_chosen and free is not None and needed > free:
        message = f"{file.name} needs about {size_text(needed)} of memory, and {size_text(free)} are free"
        return Finding("model file", "warning", message, "Stop other programs, or use a smaller model or quantisation.")
    return Finding("model file", "ok", f"{file} ({size_text(size)})")


def check_disk(setup: Setup) -> list[Finding]:
    """Check the free space in the working directory, and where models are stored."""
    try:
        folders = [Path.cwd()]
    except FileNotFoundError:
        message = "the current folder no longer exists, which all paths that are not whole begin with"
        return [Finding("disk", "warning", message, "Change to another folder.")]
    if setup.hub_model is not None and importlib.util.find_spec("huggingface_hub") is not None:
        from archer_ws.llm_gateway.local.hub_client import HubClient

        folders.append(HubClient().folder)
    found = []
    for folder in folders:
        existing = next(each for each in (folder, *folder.parents) if each.exists())
        free = shutil.disk_usage(existing).free
        if free < DISK_LOW_BYTES:
            message = f"{size_text(free)} are free at {existing}"
            found.append(Finding("disk", "warning", message, "Free some space: a model takes from 100 MB to many GB."))
        else:
            found.append(Finding("disk", "ok", f"{size_text(free)} are free at {existing}"))
    return found


def check_open_files(setup: Setup) -> list[Finding]:
    """Check whether the system allows enough connections for the streams that the settings allow."""
    if sys.platform == "win32":
        return []
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    streams = setup.settings.max_streams
    needed = streams * FILES_PER_STREAM + FILES_BESIDE
    if hard not in {resource.RLIM_INFINITY, -1} and hard < needed:
        return [
            Finding(
                "open files",
                "warning",
                f"this user may open {hard} files and connections; {streams} streams (MAX_STREAMS) take {needed}",
                f"Raise the limit (ulimit -n {needed}, LimitNOFILE in a systemd unit, ulimits in Docker), or lower "
                "MAX_STREAMS.",
            )
        ]
    shown = "as many as it likes" if hard in {resource.RLIM_INFINITY, -1} else f"{hard:,}"
    return [Finding("open files", "ok", f"this user may open {shown}, which is enough for {streams:,} streams")]


def _check_hub(name: str) -> list[Finding]:
    try:
        HubName.parse(name)
    except ProviderFailure as failure:
        return [Finding("model file", "problem", failure.message, failure.hint)]
    if importlib.util.find_spec("huggingface_hub") is None:
        message = "the Python package huggingface_hub, which fetches models from a hub, is not installed"
        return [Finding("model file", "problem", message, INSTALL_HINT)]
    at = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    return [Finding("model file", "ok", f"serve will look for {name} at {at}, and fetch it if it is not here")]


def _lacking_packages() -> list[str]:
    try:
        asked = importlib.metadata.requires("archer-ws") or []
    except importlib.metadata.PackageNotFoundError:
        return []  # run from its folder, not installed: imports will show what is missing
    lacking = []
    for entry in asked:
        found = _REQUIREMENT.fullmatch(entry)
        if found is None or found[3] not in _CONDITIONS:  # for another extra, or for another system
            continue
        name, bounds = found[1], _BOUND.findall(found[2])
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            lacking.append(name)
            continue
        if not all((_numbers(version) >= _numbers(other)) == (sign == ">=") for sign, other in bounds):
            lacking.append(
                f"{name} {version} (needs {' and '.join(sign + other for sign, other in sorted(bounds, reverse=True))})"
            )
    return lacking


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def _free_memory() -> int | None:
    """The memory that the kernel could allocate, in bytes; None if it does not say."""
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text("ascii"), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None

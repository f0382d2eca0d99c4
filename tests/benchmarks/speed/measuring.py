"""What the system tells of processes and of itself, and the arithmetic of samples. What it does not tell is None."""

import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("openai", "anthropic", "httpx", "httpx2", "fastapi", "uvicorn", "uvloop", "httptools", "websockets")
KIB, MB = 1024, 1_000_000
#: Generators that are busier than this, of the cores they share, measure themselves.
SATURATED = 0.9


def now_us() -> int:
    """CLOCK_MONOTONIC in µs: the same clock in all processes of a machine."""
    return time.monotonic_ns() // 1000


def cpu_ns(pid: int) -> int | None:
    """CPU that the process's living threads have used, in ns."""
    try:
        return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir())
    except (OSError, ValueError, IndexError):
        return None


def memory_bytes(pid: int) -> dict[str, int] | None:
    """`pss` (shared pages divided among those who share them) and `rss`, in bytes."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return None
    fields = {name: rest.split()[0] for name, _, rest in (line.partition(":") for line in lines[1:]) if rest}
    return {"pss": int(fields["Pss"]) * KIB, "rss": int(fields["Rss"]) * KIB}


def cpu_of(pids: Mapping[str, int]) -> dict[str, int | None]:
    """CPU used by each of the named processes, in ns."""
    return {name: cpu_ns(pid) for name, pid in pids.items()}


def cpu_between(before: Mapping[str, int | None], after: Mapping[str, int | None]) -> dict[str, int | None]:
    """What each named process used from the one reading to the other, in ns."""
    used: dict[str, int | None] = {}
    for name, at_first in before.items():
        at_last = after[name]
        used[name] = None if at_first is None or at_last is None else at_last - at_first
    return used


def is_saturated(busy: Mapping[str, float | None], cores: int) -> bool:
    """Whether those who make the load were at their limit.

    Args:
        busy: fractions of a core; `server` is left out.
        cores: those that all but the server share.
    """
    shares = [share for name, share in busy.items() if name != "server" and share is not None]
    return bool(shares) and (max(shares) > SATURATED or sum(shares) > SATURATED * cores)


def quantiles(samples: Sequence[float]) -> dict[str, float] | None:
    """`p50`, `p99` and `max` of the samples."""
    if not samples:
        return None
    ordered = sorted(samples)
    return {
        "p50": ordered[len(ordered) // 2],
        "p99": ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))],
        "max": ordered[-1],
    }


def split_cores() -> tuple[set[int], set[int]]:
    """One core for the server, and those for all else; both empty where there is one only, or no way to choose."""
    if sys.platform != "linux":
        return set(), set()
    cores = sorted(os.sched_getaffinity(0))
    return ({cores[-1]}, set(cores[:-1])) if len(cores) > 1 else (set(), set())


def file_limit() -> int | None:
    """How many descriptors a process may have here."""
    if sys.platform == "win32":
        return None
    import resource

    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def machine() -> dict[str, Any]:
    """What figures depend on."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "file_limit": file_limit(),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
    }


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None

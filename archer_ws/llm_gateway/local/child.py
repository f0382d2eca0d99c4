"""The program of the local model's process: llama.cpp as an HTTP server on loopback, only for its parent.

It runs as a file and imports no other module of ours, so that it starts fast and needs no path to us. Owns: the native
server and its parameters, and ending with its parent. The parent decides which model runs, the API key, and when to
end.

Input: one line of JSON on stdin, the fields of `Configuration`; then stdin stays open until the parent wants the
process to end. Output: one line of JSON on stdout: `address`, `context_window` (tokens of one request), `knows_tools`
and `knows_thinking` (whether the model's chat template supports tools, and can turn thinking on and off) and `sees`
(whether it accepts pictures); or `error`, with `is_of_library` if llama.cpp itself can't be loaded.

With the argument `--load-only` it does nothing but load llama.cpp, for the doctor: an ImportError on stderr says why
that is not possible.
"""

import faulthandler
import json
import os
import signal
import sys
import threading
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, TypedDict

LOAD_ONLY = "--load-only"


class Configuration(TypedDict):
    """The parent's configuration. `context_window` is the limit of one request, in tokens."""

    path: str
    #: The file of its projector, which converts pictures for the model; empty for none.
    projector: str
    model: str
    parallel: int
    http_threads: int
    context_window: int
    api_key: str


def main() -> None:
    """Serve until stdin ends."""
    if sys.argv[-1] == LOAD_ONLY:
        import xllamacpp  # noqa: F401 - see above

        return
    _depend_on_parent()
    _end_first_without_memory()
    faulthandler.enable()
    # Otherwise a crash starts a debugger, if one is installed, and lasts as long as that runs.
    os.environ["GGML_NO_BACKTRACE"] = "1"
    # Native code may print: from here on its stdout is our stderr, and the line for the parent has its own descriptor.
    control = os.dup(1)
    os.dup2(2, 1)
    line = sys.stdin.buffer.readline()
    if not line:
        os._exit(0)
    configuration: Configuration = json.loads(line)
    watch = threading.Thread(target=_end_with_parent, daemon=True)
    watch.start()
    is_serving = False
    try:
        server = _serve(configuration)
        is_serving = True
        # Again: llama.cpp's own program handles signals, and so did this package's server in some versions.
        _ignore_signals()
        report = _announcement(server, configuration)
    except ImportError as error:
        report = {"error": str(error), "is_of_library": True}
    except Exception as error:  # noqa: BLE001 - the parent must get any error, instead of guessing
        report = {"error": f"{type(error).__name__}: {error}"}
    os.write(control, json.dumps(report).encode() + b"\n")
    os.close(control)
    if "error" in report:
        if is_serving:
            # The threads of a server that runs can keep a regular exit waiting for ever.
            os._exit(1)
        # Not os._exit: a native thread writes the log, and only at a regular exit its last lines.
        sys.exit(1)
    # `server` lives as long as this frame.
    watch.join()


def _depend_on_parent() -> None:
    """Let only the parent end this process, and let the parent's end always end it."""
    _ignore_signals()
    if sys.platform == "linux":
        # The native constructor holds the GIL while it loads, so the thread that watches stdin can't run: during that
        # time the kernel must end us with our parent. (To be exact: with the thread that spawned us, which waits for
        # our end.) On other systems we continue until the model is loaded.
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _end_first_without_memory() -> None:
    """Let the system, when memory runs out, kill this process: not its parent, which serves others too."""
    with suppress(OSError):  # other systems have no such file
        Path("/proc/self/oom_score_adj").write_text("1000", "ascii")


def _ignore_signals() -> None:
    """Ctrl-C and a service manager's SIGTERM may reach this process, too, while the parent wants to drain."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def _end_with_parent() -> None:
    """Block until stdin ends: the parent has closed it, or has ended for any reason."""
    # Not sys.stdin: the interpreter can't exit while a thread reads that.
    while os.read(0, 1):
        pass
    # Not sys.exit: a computing native thread must not delay the exit.
    os._exit(0)


def _serve(configuration: Configuration) -> Any:
    """The running server.

    Raises:
        RuntimeError: llama.cpp can't load the model; the reason is on stderr.
    """
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = configuration["path"]
    params.mmproj.path = configuration["projector"]
    # Without an alias the model's name in every response would be the file's path.
    params.model_alias = {configuration["model"]}
    params.api_keys = [configuration["api_key"]]
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.cors_origins = ""
    params.ui = False
    params.n_parallel = configuration["parallel"]
    # Each slot has its own part of the cache. A shared cache (kv_unified) would end other streams when it is full.
    params.kv_unified = False
    params.n_ctx = configuration["context_window"] * configuration["parallel"]
    # A waiting connection takes a thread; with the default of a few, a cancelled one in the queue is noticed late.
    params.n_threads_http = configuration["http_threads"]
    params.cpuparams.n_threads = threads()
    # The number of a prompt's tokens in one batch: only between two batches do other streams get a token, and is a
    # cancel noticed. On processors 128 is as fast as the default of 2048, which takes 15 s with the embedded model. For
    # models that read a whole picture at once, it must fit into one batch (Gemma 3: 256 tokens): with less, llama.cpp
    # ends the process (ggml-org/llama.cpp, src/llama-context.cpp).
    params.n_batch = params.n_ubatch = 2048 if configuration["projector"] else 128
    # The share of a prompt that a slot must have for its cache to be continued; else the prompt takes the slot that was
    # unused for longest. With the default of a tenth, conversations with the same instructions all take one slot, each
    # in place of the one before, while the others stay empty.
    params.slot_prompt_similarity = 0.5
    # The default is up to 8 GiB of old prompts.
    params.cache_ram_mib = 0
    params.cache_idle_slots = False
    # Only warnings and errors: a request writes no line.
    params.verbosity = 2
    return xllamacpp.Server(params)


def threads(root: Path = Path("/")) -> int:
    """The number of computing threads: all available processors but one, and only half of many (SMT does not help
    llama.cpp).

    The threads busy-wait for each other at every layer: with one too many, any other work (the parent, the clients)
    slows them to a tenth. Likewise with more than a quota pays for: they wait at its expense, and then all stand still.
    """
    usable = os.cpu_count() or 1
    if sys.platform == "linux":
        usable = min([len(os.sched_getaffinity(0)), *map(int, _quotas(root))])
    return max(1, min(usable - 1, max(4, usable // 2)))


def _quotas(root: Path) -> list[float]:
    """How many processors each control group that this process is in, and each one above, has the time of: Docker's
    `--cpus`, Kubernetes' limits, systemd's CPUQuota. (https://docs.kernel.org/admin-guide/cgroup-v2.html for version 2,
    https://docs.kernel.org/scheduler/sched-bwc.html for version 1.)"""
    found = []
    with suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text("utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "cpu" not in controllers.split(","):
                continue
            top = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
            group = top / path.lstrip("/")
            for folder in (group, *group.parents):
                found += _quota(folder)
                if folder == top:
                    break
    return found


def _quota(group: Path) -> list[float]:
    for files in (["cpu.max"], ["cpu.cfs_quota_us", "cpu.cfs_period_us"]):
        with suppress(OSError):
            quota, period = " ".join((group / file).read_text("ascii") for file in files).split()
            return [] if quota in {"max", "-1"} else [int(quota) / int(period)]
    return []


def _announcement(server: Any, configuration: Configuration) -> dict[str, object]:
    """The announcement for the parent. The context is read from the server, since a model trained on less has less.

    llama.cpp finds out what a template supports by rendering it with tools and without (ggml-org/llama.cpp,
    common/chat).
    """
    address: str = server.listening_address
    connection = HTTPConnection(address.removeprefix("http://"), timeout=10)
    headers = {"Authorization": f"Bearer {configuration['api_key']}"}
    told = {}
    for path in ("/slots", "/props"):
        connection.request("GET", path, headers=headers)
        told[path] = json.loads(connection.getresponse().read())
    connection.close()
    return {
        "address": address,
        "context_window": min(slot["n_ctx"] for slot in told["/slots"]),
        "knows_tools": told["/props"].get("chat_template_caps", {}).get("supports_tools", False),
        "sees": told["/props"].get("modalities", {}).get("vision", False),
        "knows_thinking": "enable_thinking" in told["/props"].get("chat_template", ""),
    }


if __name__ == "__main__":
    main()

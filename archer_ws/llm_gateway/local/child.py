"""The program of the local model's process: llama.cpp as an HTTP server on loopback, for its parent alone.

Run as a file; imports nothing of ours, so that it starts fast and needs no path to us. Owns: the native server and its
parameters, and dying with its parent. Leaves to the parent: which model, the API key, when to end.

In: one line of JSON on stdin, the fields of `Configuration`; then stdin stays open for as long as the parent wants us.
Out: one line of JSON on stdout: `address`, `context_window` (tokens of one request), `knows_tools` and `knows_thinking`
(whether the model's chat template has a place for tools, and can be told to think or not) and `sees` (whether it takes
pictures), or `error`.
"""

import faulthandler
import json
import os
import signal
import sys
import threading
from http.client import HTTPConnection
from typing import Any, TypedDict


class Configuration(TypedDict):
    """What the parent tells us. `context_window` is the most one request may have, in tokens."""

    path: str
    #: The file of its projector, which makes pictures into what the model reads; empty for none.
    projector: str
    model: str
    parallel: int
    http_threads: int
    context_window: int
    api_key: str


def main() -> None:
    """Serve until stdin ends."""
    _depend_on_parent()
    faulthandler.enable()
    # Else a crash starts a debugger, where one is installed, and lasts for as long as that.
    os.environ["GGML_NO_BACKTRACE"] = "1"
    # Native code may print: from here on its stdout is our stderr, and the parent's line has a descriptor of its own.
    control = os.dup(1)
    os.dup2(2, 1)
    line = sys.stdin.buffer.readline()
    if not line:
        os._exit(0)
    configuration: Configuration = json.loads(line)
    watch = threading.Thread(target=_end_with_parent)
    watch.start()
    try:
        server = _serve(configuration)
        # Again: llama.cpp's own program handles signals, and so did this package's server in other versions.
        _ignore_signals()
        answer = _announcement(server, configuration)
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent shall read of it instead of guessing
        answer = {"error": f"{type(error).__name__}: {error}"}
    os.write(control, json.dumps(answer).encode() + b"\n")
    os.close(control)
    if "error" in answer:
        os._exit(1)
    # `server` lives while this frame does.
    watch.join()


def _depend_on_parent() -> None:
    """Let nothing but the parent end us, and its end always."""
    _ignore_signals()
    if sys.platform == "linux":
        # The native constructor holds the GIL while it loads, so the thread that watches stdin can't run then: for
        # that time the kernel must end us with our parent. (To be exact: with the thread that spawned us, which waits
        # for our end.) On other systems we live on until the model is loaded.
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _ignore_signals() -> None:
    """Ctrl-C and a service manager's SIGTERM may reach us too, while the parent wants to drain."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def _end_with_parent() -> None:
    """Block until stdin ends: the parent closed it, or is gone, however it ended."""
    while sys.stdin.buffer.read(1):
        pass
    # Not sys.exit: a native thread in mid-computation must not hold us.
    os._exit(0)


def _serve(configuration: Configuration) -> Any:
    """The running server.

    Raises:
        RuntimeError: llama.cpp can't load the model; why is on stderr.
    """
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = configuration["path"]
    params.mmproj.path = configuration["projector"]
    # Without an alias the file's path is the model's name in every answer.
    params.model_alias = {configuration["model"]}
    params.api_keys = [configuration["api_key"]]
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.cors_origins = ""
    params.ui = False
    params.n_parallel = configuration["parallel"]
    # Each slot has its own part of the cache. Shared by all (kv_unified) it would end other streams when it is full.
    params.kv_unified = False
    params.n_ctx = configuration["context_window"] * configuration["parallel"]
    # A waiting connection takes a thread; with the default of a few, a cancelled one behind them is noticed late.
    params.n_threads_http = configuration["http_threads"]
    params.cpuparams.n_threads = _threads()
    # Tokens of a prompt that are computed in one go: only between two goes do other streams get a token, and is a
    # cancel noticed. On processors 128 is as fast as the default of 2048, which takes 15 s with the embedded model.
    # A picture must fit into one go with models that look at all of it at once (Gemma 3: 256 tokens): with less,
    # llama.cpp ends the process (ggml-org/llama.cpp, src/llama-context.cpp).
    params.n_batch = params.n_ubatch = 2048 if configuration["projector"] else 128
    # Up to 8 GiB of old prompts by default.
    params.cache_ram_mib = 0
    params.cache_idle_slots = False
    # Warnings and errors: a request leaves no line.
    params.verbosity = 2
    return xllamacpp.Server(params)


def _threads() -> int:
    """Threads that compute: all processors we may use but one, and of many only half (SMT gains llama.cpp nothing).

    They wait for each other busily at every layer: with one too many, whatever else runs (the parent, the clients)
    slows them to a tenth.
    """
    usable = os.cpu_count() or 1
    if sys.platform == "linux":
        usable = len(os.sched_getaffinity(0))
    return max(1, min(usable - 1, max(4, usable // 2)))


def _announcement(server: Any, configuration: Configuration) -> dict[str, object]:
    """What the parent waits for. The context is asked for, since a model trained on less has less.

    What a template knows is found by llama.cpp, which renders it with tools and without (ggml-org/llama.cpp,
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

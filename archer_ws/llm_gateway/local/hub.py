"""A model's file from a hub, by name: `hf:owner/repo[:file]`.

Owns: parsing the name, choosing among a repository's files, where files are stored and found again. hub_client.py talks
to the hub and transfers files; the caller shows progress. Blocks: for a command line, not for an event loop.
"""

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from archer_ws.core.exceptions import ProviderFailure, ProviderNotConfigured, ProviderUnavailable
from archer_ws.llm_gateway.local.hub_client import HubClient, RemoteFile

PREFIX = "hf:"
#: Reports the progress of a transfer: the file's name, bytes so far, bytes in total.
Progress = Callable[[str, int, int], None]

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
#: llama.cpp's names for a model split over several files: it opens the first and finds the others beside it.
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$", re.IGNORECASE)
#: Files that belong to a model but are not the model: image encoders, importance matrices.
_NOT_MODELS = ("mmproj", "imatrix")
#: The limit of files that an error lists.
_LISTED_MAX = 40


@dataclass(frozen=True)
class HubName:
    """A parsed `hf:owner/repo[:file]`. `wanted` is a file, or a part of its name such as `Q4_K_M`."""

    repository: str
    wanted: str | None = None

    @classmethod
    def parse(cls, text: str) -> "HubName":
        """Parse the name, with `hf:` before it.

        Raises:
            ProviderNotConfigured: it has another form.
        """
        repository, _, wanted = text.removeprefix(PREFIX).removeprefix("//").partition(":")
        if not _REPOSITORY.fullmatch(repository) or ".." in PurePosixPath(wanted).parts:
            raise _refused(
                f"{text} is not the name of a model on a hub",
                "Write hf:owner/repo or hf:owner/repo:file.gguf, like hf:Qwen/Qwen2.5-0.5B-Instruct-GGUF:q4_k_m.",
            )
        return cls(repository, wanted.strip("/") or None)


def fetch(text: str, progress: Progress, note: Callable[[str], None], client: HubClient | None = None) -> Path:
    """The model's file on this machine, fetched if it is not there yet; of a split model, the first file.

    An interrupted transfer is continued. If the hub can't be reached, a file that was fetched before is used; also if
    the hub lists files of the same sizes, and then refuses them. A path that leads out of the repository names no file.

    Args:
        text: `hf:owner/repo[:file]`.
        progress: called as bytes come.
        note: called with lines for the user.
        client: talks to the hub; the environment's hub if None.

    Raises:
        ProviderNotConfigured: the name, the repository, the file, the package or the disk is wrong.
        ProviderUnavailable: the hub can't be reached, or the transfer failed too often.
    """
    name = HubName.parse(text)
    client = client or HubClient()
    folder = client.folder / name.repository.replace("/", "--")
    try:
        commit, files = client.files(name.repository)
    except ProviderUnavailable as failure:
        kept = _kept(folder, name)
        if kept is None:
            raise
        note(f"{failure.message}: using {kept}, which was fetched before")
        return kept
    chosen = choose((file for file in files if _is_below(folder, file.path)), name)
    try:
        paths = [client.fetch(name.repository, commit, file, folder / file.path, progress) for file in chosen]
    except ProviderUnavailable as failure:
        if any(_size(folder / file.path) != file.size for file in chosen):
            raise
        note(f"{failure.message}: using {folder / chosen[0].path}, which was fetched before")
        return folder / chosen[0].path
    except OSError as error:
        raise _refused(f"{error.filename or folder} can't be written: {error.strerror}", client.folder_hint) from error
    return paths[0]


def choose(files: Iterable[RemoteFile], name: HubName) -> list[RemoteFile]:
    """The files of the named model, the one to load first.

    Raises:
        ProviderNotConfigured: no model matches, or several do; the hint lists the files.
    """
    models = _models(files)
    if not models:
        raise _refused(
            f"{name.repository} has no GGUF file",
            "Find a repository whose name ends in GGUF: it has the same model in llama.cpp's format.",
        )
    wanted = name.wanted
    exact = [model for model in models if wanted and model[0].path.casefold() == wanted.casefold()]
    fitting = exact or [model for model in models if _fits(model[0], wanted)]
    if len(fitting) == 1:
        return fitting[0]
    if wanted and not fitting:
        raise _refused(f"{name.repository} has no file {wanted}", f"It has: {_listing(models)}")
    message = f"{name.repository} has several GGUF files" + (f" that fit {wanted}" if wanted else "")
    first = fitting[0][0].path
    raise _refused(message, f"Name one of them, like {PREFIX}{name.repository}:{first}. There are: {_listing(fitting)}")


def _models(files: Iterable[RemoteFile]) -> list[list[RemoteFile]]:
    """The models among a repository's files: each as its files in order."""
    groups: dict[str, list[RemoteFile]] = {}
    for file in sorted(files, key=lambda file: file.path):
        name = PurePosixPath(file.path).name.casefold()
        if name.endswith(".gguf") and not any(part in name for part in _NOT_MODELS):
            groups.setdefault(_SHARD.sub("", file.path), []).append(file)
    return list(groups.values())


def _fits(file: RemoteFile, wanted: str | None) -> bool:
    """Whether the user's text is a whole part of the file's name, between dots or dashes."""
    if wanted is None:
        return True
    return bool(re.search(rf"(?<![^\W_]){re.escape(wanted)}(?![^\W_])", file.path, re.IGNORECASE))


def _listing(models: Sequence[Sequence[RemoteFile]]) -> str:
    shown = [f"{model[0].path} ({size_text(sum(file.size for file in model))})" for model in models[:_LISTED_MAX]]
    more = [f"and {len(models) - _LISTED_MAX} more"] if len(models) > _LISTED_MAX else []
    return ", ".join([*shown, *more])


def _kept(folder: Path, name: HubName) -> Path | None:
    """The only file on this machine that matches, complete if it is split; None if there is none, or several."""
    local = [
        RemoteFile(path.relative_to(folder).as_posix(), path.stat().st_size)
        for path in folder.rglob("*.[gG][gG][uU][fF]")
    ]
    try:
        chosen = choose(local, name)
    except ProviderFailure:
        return None
    first = _SHARD.search(chosen[0].path)
    return folder / chosen[0].path if first is None or int(first[2]) == len(chosen) else None


def _is_below(folder: Path, path: str) -> bool:
    return Path(os.path.normpath(folder / path)).is_relative_to(os.path.normpath(folder))


def _size(file: Path) -> int | None:
    return file.stat().st_size if file.is_file() else None


def size_text(count: float) -> str:
    """A number of bytes for people: `94 MB`, `1.3 GB`."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def _refused(message: str, hint: str) -> ProviderNotConfigured:
    return ProviderNotConfigured(message, hint=hint, provider="local")

"""Wraps the hub's client library; no other module knows huggingface_hub, which is an optional dependency.

Owns: listing a repository, transferring a file, and the errors of both. The library itself begins a file again in each
process; this module continues an interrupted transfer, and checks the file's hash at the end.
"""

import errno
import hashlib
import importlib.util
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from archer_ws.core.exceptions import ProviderFailure, ProviderNotConfigured, ProviderUnavailable
from archer_ws.core.home import with_home
from archer_ws.core.shell_words import shell_word
from archer_ws.llm_gateway.transport.environment import fault_on_the_way

INSTALL_HINT = (
    f"Run: {shell_word(sys.executable)} -m pip install huggingface_hub   (or, from a clone: pip install --no-deps -r "
    "requirements-extras.txt). A file that you downloaded yourself needs no such package: --model PATH."
)
#: The time limits for connecting, and for silence in a transfer, in seconds.
CONNECT_S, SILENCE_S = 10.0, 30.0
#: The number of retries without a new byte, and the first pause between them (it doubles), in seconds.
RETRIES, FIRST_PAUSE_S = 4, 0.5
#: The free space that must remain on the disk after the transfer, in bytes.
SPARE_BYTES = 50_000_000


@dataclass(frozen=True)
class RemoteFile:
    """One file of a repository: its path there, and its size in bytes."""

    path: str
    size: int


class HubClient:
    """Requests to one hub, with the token in HF_TOKEN if it is set.

    Args:
        endpoint: `https://host`; None: the value of HF_ENDPOINT, or huggingface.co.
        folder: where files are stored; None: below HF_HOME.
        pause: waits so many seconds before a retry.

    Raises:
        ProviderNotConfigured: the library is not installed.
    """

    def __init__(
        self, endpoint: str | None = None, folder: Path | None = None, pause: Callable[[float], None] = time.sleep
    ) -> None:
        if importlib.util.find_spec("huggingface_hub") is None:
            raise _refused("the Python package huggingface_hub, which talks to the hub, is not installed", INSTALL_HINT)
        from huggingface_hub import constants

        self._pause = pause
        self._endpoint = endpoint or constants.ENDPOINT
        self.folder = folder or with_home(constants.HF_HOME) / "archer-ws"
        self.folder_hint = f"Files go below {self.folder}; set HF_HOME to another folder with more room."

    def files(self, repository: str) -> tuple[str, list[RemoteFile]]:
        """The newest commit of a repository, and its files.

        Raises:
            ProviderNotConfigured: the repository does not exist, or is not public.
            ProviderUnavailable: the hub can't be reached.
        """
        from huggingface_hub import HfApi
        from huggingface_hub.hf_api import RepoFile

        with self._mapping(repository):
            api = HfApi(endpoint=self._endpoint)
            commit = api.model_info(repository, timeout=SILENCE_S).sha or "main"
            tree = api.list_repo_tree(repository, recursive=True, revision=commit)
            return commit, [RemoteFile(entry.path, entry.size) for entry in tree if isinstance(entry, RepoFile)]

    def fetch(
        self, repository: str, commit: str, file: RemoteFile, target: Path, progress: Callable[[str, int, int], None]
    ) -> Path:
        """Fetch the file to `target` if it is not there yet, continuing an interrupted transfer.

        Raises:
            ProviderNotConfigured: the file is gone, the disk is full, or the content is not what the hub announced.
            ProviderUnavailable: the hub can't be reached, or the transfer failed too often; the bytes that came are
                kept.
            OSError: the folder can't be written to.
        """
        from huggingface_hub import get_hf_file_metadata, hf_hub_url
        from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]  # made public when it is asked for

        url = hf_hub_url(repository, file.path, revision=commit, endpoint=self._endpoint)
        with self._mapping(repository):
            facts = get_hf_file_metadata(url, timeout=CONNECT_S, endpoint=self._endpoint)
        size, tag = facts.size or file.size, facts.etag or commit
        target.parent.mkdir(parents=True, exist_ok=True)
        #: The name contains the content's tag, so that another version of the file never continues this one.
        partial = target.with_name(f"{target.name}.{re.sub(r'[^A-Za-z0-9]', '', tag)[:64]}.incomplete")
        noted = target.with_name(f"{target.name}.etag")
        with WeakFileLock(target.with_name(f"{target.name}.lock")):
            if target.exists() and target.stat().st_size == size and _read(noted) == tag:
                return target
            self._check_room(target.parent, size - _size(partial))
            self._transfer(url, partial, size, lambda done: progress(file.path, done, size), repository)
            _check_hash(partial, tag, file.path)
            partial.replace(target)
            noted.write_text(tag, "utf-8")
        return target

    def _transfer(self, url: str, partial: Path, size: int, tell: Callable[[int], None], repository: str) -> None:
        """Append to the partial file until it is whole."""
        failures = 0
        tell(_size(partial))
        while (before := _size(partial)) != size:
            try:
                with self._mapping(repository):
                    _append(url, partial, size, tell)
                if _size(partial) > size:
                    partial.unlink()
                    raise _refused(f"{url} is longer than the hub announced", "Run the command again.")
                if _size(partial) < size:
                    raise ProviderUnavailable(f"{self._endpoint} broke off the transfer", provider="local")
            except ProviderUnavailable as failure:
                failures = failures + 1 if _size(partial) <= before else 1
                if failures > RETRIES:
                    raise ProviderUnavailable(
                        f"{failure.message}, {_size(partial):,} of {size:,} bytes were fetched",
                        hint=f"They are kept: the same command continues from there. {failure.hint or ''}".strip(),
                        provider="local",
                    ) from failure
                self._pause(FIRST_PAUSE_S * 2.0 ** (failures - 1))

    def _check_room(self, folder: Path, needed: int) -> None:
        free = shutil.disk_usage(folder).free
        if free < needed + SPARE_BYTES:
            raise _refused(
                f"the disk has {free / 1e9:.1f} GB free, and the file needs {needed / 1e9:.1f} GB", self.folder_hint
            )

    @contextmanager
    def _mapping(self, repository: str) -> Iterator[None]:
        """Translate errors of the library, the connection and the disk into ours."""
        import httpx2
        from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

        try:
            yield
        except OfflineModeIsEnabled as error:
            raise ProviderUnavailable(
                "HF_HUB_OFFLINE forbids requests to the hub", hint="Unset HF_HUB_OFFLINE.", provider="local"
            ) from error
        except HfHubHTTPError as error:
            raise self._answered(error, repository) from error
        except httpx2.HTTPError as error:
            raise self._unreachable(error) from error
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise _refused("the disk is full", f"The bytes that came are kept. {self.folder_hint}") from error
            # The library reads the certificates even if nothing is encrypted.
            fault = fault_on_the_way(f"https://{urlsplit(self._endpoint).netloc}")
            if fault is not None:
                hint = f"Correct {fault.variable} in the environment, or unset it."
                raise _refused(f"{self._endpoint} can't be reached: {fault}", hint) from error
            raise

    def _answered(self, error: Any, repository: str) -> ProviderFailure:
        """Our error for an error response of the hub."""
        from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, RepositoryNotFoundError

        status = error.response.status_code
        match error:
            case GatedRepoError():
                return _refused(
                    f"{repository} requires accepting its terms",
                    f"Accept them at {self._endpoint}/{repository}, and set HF_TOKEN to a token of yours.",
                )
            case RepositoryNotFoundError():
                return _refused(
                    f"{self._endpoint} has no repository {repository}, or you may not see it",
                    "Check its spelling (owner/repo). For a private one, set HF_TOKEN to a token of yours.",
                )
            case EntryNotFoundError():
                return _refused(
                    f"{repository} no longer has the file", "Run the command again: it reads the list of files again."
                )
        if status in {401, 403}:
            return _refused(f"{self._endpoint} responded with {status}", "Check HF_TOKEN, or unset it.")
        return ProviderUnavailable(
            f"{self._endpoint} responded with {status}", hint="Try again in a moment.", provider="local"
        )

    def _unreachable(self, error: Exception) -> ProviderUnavailable:
        import httpx2

        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            reason, hint = "has a certificate that is not trusted here", "Set SSL_CERT_FILE to your authority's file."
        else:
            what = "can't be reached" if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout) else "broke off"
            reason = f"{what} ({error})" if str(error) else what
            hint = "Check the network, HTTPS_PROXY if you have a proxy, and HF_ENDPOINT if you have a mirror."
        return ProviderUnavailable(f"{self._endpoint} {reason}", hint=hint, provider="local")


def _append(url: str, partial: Path, size: int, tell: Callable[[int], None]) -> None:
    """One request for the missing bytes, written as they come; a file that is longer than announced is left there.

    Raises:
        Exception: one that `_mapping` translates.
    """
    import httpx2
    from huggingface_hub import get_session, hf_raise_for_status
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # made public when it is asked for

    done = _size(partial)
    if done > size:
        partial.unlink()
        done = 0
    # Uncompressed bytes: Range, size and hash refer to them.
    headers = {**build_hf_headers(), "Accept-Encoding": "identity", **({"Range": f"bytes={done}-"} if done else {})}
    timeout = httpx2.Timeout(SILENCE_S, connect=CONNECT_S)
    with get_session().stream("GET", url, headers=headers, timeout=timeout, follow_redirects=True) as response:
        hf_raise_for_status(response)
        # A server without support for this range sends the file from its start.
        goes_on = response.status_code == 206 and response.headers.get("content-range", "").startswith(f"bytes {done}-")
        if done and not goes_on:
            if response.status_code == 206:
                raise httpx2.RemoteProtocolError("the server sent another part of the file than was requested")
            done = 0
        with partial.open("ab" if done else "wb") as opened:
            # Written as it comes, without fixed blocks: unwritten bytes would be lost with the connection.
            for block in response.iter_raw():
                opened.write(block)
                done += len(block)
                tell(done)
                if done > size:
                    return


def _check_hash(partial: Path, tag: str, name: str) -> None:
    """The tag of a large file is the SHA-256 of its content: delete a file that does not match."""
    if not re.fullmatch(r"[0-9a-f]{64}", tag):
        return
    with partial.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if found != tag:
        partial.unlink()
        raise _refused(f"{name} is damaged: its hash is not the one that the hub announced", "Run the command again.")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError:
        return ""


def _refused(message: str, hint: str) -> ProviderNotConfigured:
    return ProviderNotConfigured(message, hint=hint, provider="local")

"""`archer-ws schema`: writes the generated files, or reports how they differ.

In a checkout the types are also written where clients have them: the TypeScript beside the JavaScript client, the Rust
in its crate. Other files in the directory are left alone; a schema that this program wrote, by its `$id`, and no longer
generates is removed.
"""

import json
import sys
from collections.abc import Iterator
from difflib import unified_diff
from pathlib import Path

from archer_ws.schema.documents import ID_PREFIX, RUST, TYPESCRIPT, documents

#: How many lines of differences are printed: the command that fixes them is the same.
DIFF_LINES_MAX = 100
#: Where clients have their types, and which document each is.
_CLIENTS = {
    Path("archer_ws", "console", "archer.d.ts"): TYPESCRIPT,
    Path("archer_ws", "client", "rust", "src", "types.rs"): RUST,
}


def write(directory: Path) -> int:
    """Write the directory's files; returns the exit status."""
    changed = 0
    for path, text in _wanted(directory).items():
        if _read(path) == text and b"\r" not in path.read_bytes():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8", newline="\n")
        changed += 1
    for path in _stale(directory):
        path.unlink()
        changed += 1
    sys.stdout.write(f"{directory}: {changed} changed\n" if changed else f"{directory}: nothing to change\n")
    return 0


def check(directory: Path) -> int:
    """Report differences without writing; the exit status is 1 if there are any."""
    lines = [line for difference in _differences(directory) for line in difference]
    if not lines:
        sys.stdout.write(f"{directory}: up to date\n")
        return 0
    sys.stdout.writelines(lines[:DIFF_LINES_MAX])
    if len(lines) > DIFF_LINES_MAX:
        sys.stdout.write(f"… and {len(lines) - DIFF_LINES_MAX} more lines\n")
    sys.stdout.flush()
    sys.stderr.write(
        f"archer-ws: {directory} is not what the code says. If the change is meant, run: {mending_command(directory)}\n"
    )
    return 1


def mending_command(directory: Path) -> str:
    """The command to run when the check fails."""
    return "archer-ws schema" + ("" if directory == Path("schemas") else f" {directory}")


def _wanted(directory: Path) -> dict[Path, str]:
    texts = documents()
    wanted = {directory / path: text for path, text in texts.items()}
    for place, document in _CLIENTS.items():
        path = directory.parent / place
        if path.parent.is_dir():
            wanted[path] = texts[document]
    return wanted


def _differences(directory: Path) -> Iterator[list[str]]:
    for path, text in _wanted(directory).items():
        found = _read(path)
        if found != text:
            yield _difference(path, found, text)
    for path in _stale(directory):
        yield _difference(path, _read(path), "")


def _difference(path: Path, found: str | None, wanted: str) -> list[str]:
    if found is None:
        return [f"{path.as_posix()} is missing\n"]
    if not wanted:
        return [f"{path.as_posix()} describes nothing any more\n"]
    before, after = found.splitlines(keepends=True), wanted.splitlines(keepends=True)
    name = path.as_posix()
    return [
        line if line.endswith("\n") else f"{line}\n"
        for line in unified_diff(before, after, f"{name} as it is", f"{name} as it should be", n=2)
    ]


def _stale(directory: Path) -> list[Path]:
    """Schemas that this program wrote once and no longer generates."""
    wanted = {directory / path for path in documents()}
    candidates = [path for folder in ("messages", "rest") for path in sorted((directory / folder).glob("*.json"))]
    return [path for path in candidates if path not in wanted and _is_ours(path)]


def _is_ours(path: Path) -> bool:
    try:
        schema = json.loads(path.read_text("utf-8"))
    except ValueError:
        return False
    return isinstance(schema, dict) and str(schema.get("$id", "")).startswith(ID_PREFIX)


def _read(path: Path) -> str | None:
    """The file's text with our line ends; None if it does not exist."""
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        return ""

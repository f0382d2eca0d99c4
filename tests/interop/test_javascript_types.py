"""The JavaScript client's types: they fit its code, a program can be written with them, and mistakes are found."""

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from archer_ws.api.routes.console import DIRECTORY
from tests.documents import shown
from tests.interop.javascript import NODE_PROJECT

pytestmark = [pytest.mark.interop, pytest.mark.timeout(180)]

OPTIONS = {
    "strict": True,
    "noEmit": True,
    "target": "es2022",
    "module": "esnext",
    "moduleResolution": "bundler",
    "lib": ["es2022", "dom", "dom.iterable"],
    "jsx": "react-jsx",
    "types": [],
    "paths": {"archer-ws": ["./archer-client.d.ts"], "archer-ws/react": ["./archer-react.d.ts"]},
}


def compiled(directory: Path, *files: str, **options: object) -> str:
    """What the compiler says of the files, beside the client as a program would have it."""
    for path in [*DIRECTORY.glob("archer*"), *(NODE_PROJECT / "client").glob("*.ts*")]:
        shutil.copy(path, directory)
    (directory / "node_modules").symlink_to(NODE_PROJECT / "node_modules")
    return checked(directory, files, **{**OPTIONS, **options})


def checked(directory: Path, files: Sequence[str], **options: object) -> str:
    settings = {"compilerOptions": options, "files": files}
    (directory / "tsconfig.json").write_text(json.dumps(settings), "utf-8")
    tsc = NODE_PROJECT / "node_modules/typescript/bin/tsc"
    done = subprocess.run(
        ["node", tsc, "-p", directory], capture_output=True, encoding="utf-8", timeout=120, check=False
    )
    assert (done.returncode in {0, 1, 2}, done.stderr) == (True, "")
    return done.stdout


def test_the_code_does_what_its_types_say(tmp_path: Path) -> None:
    modules = sorted(path.name for path in DIRECTORY.glob("archer-*.js"))
    assert "archer-client.js" in modules
    assert compiled(tmp_path, *modules, allowJs=True, checkJs=True) == ""


def test_the_consoles_code_is_of_the_types_that_it_says(tmp_path: Path) -> None:
    shutil.copytree(DIRECTORY, tmp_path / "console")
    (tmp_path / "node_modules").symlink_to(NODE_PROJECT / "node_modules")
    options = {**OPTIONS, "target": "es2023", "lib": ["es2023", "dom", "dom.iterable"], "skipLibCheck": True}
    files = [path.as_posix() for path in (tmp_path / "console" / "app").rglob("*.js") if "vendor" not in path.parts]
    assert any(file.endswith("main.js") for file in files)
    assert checked(tmp_path, files, **options, allowJs=True, checkJs=True) == ""


def test_a_program_can_be_written_with_them_and_mistakes_are_found(tmp_path: Path) -> None:
    assert compiled(tmp_path, "usage.ts") == ""


@pytest.mark.parametrize("name", ["archer-client", "archer-react"])
def test_everything_that_is_exported_is_typed_and_the_other_way_round(tmp_path: Path, name: str) -> None:
    types = (DIRECTORY / f"{name}.d.ts").read_text("utf-8")
    for path in [*DIRECTORY.glob("archer*.js"), DIRECTORY / "package.json"]:
        shutil.copy(path, tmp_path)
    (tmp_path / "node_modules").symlink_to(NODE_PROJECT / "node_modules")
    module = (tmp_path / f"{name}.js").as_uri()
    code = f"console.log(JSON.stringify(Object.keys(await import({json.dumps(module)}))))"
    done = subprocess.run(["node", "--input-type=module", "-e", code], capture_output=True, timeout=60, check=True)
    assert sorted(json.loads(done.stdout)) == sorted(
        re.findall(r"^export (?:class|function) (\w+)", types, re.MULTILINE)
    )


def test_the_client_needs_nothing_but_its_own_files() -> None:
    for path in DIRECTORY.glob("archer-*.js"):
        imported = re.findall(r"""(?:from|import)\s*\(?["']([^"']+)["']""", path.read_text("utf-8"))
        code = [name for name in imported if not name.endswith((".d.ts", "/archer.js", "archer-client.js"))]
        if path.name == "archer-react.js":
            code.remove("react")
        assert all((DIRECTORY / name.removeprefix("./")).is_file() for name in code), path.name


def test_no_bundler_looks_for_a_file_at_an_address_that_the_client_makes() -> None:
    for path in DIRECTORY.glob("archer-*.js"):
        assert not re.search(r"new URL\([^()]*import\.meta\.url", path.read_text("utf-8")), path.name


def test_the_pages_that_use_it_fit_react(tmp_path: Path) -> None:
    pages = [path.name for path in (NODE_PROJECT / "client").glob("*.tsx")]
    assert compiled(tmp_path, *pages) == ""


def test_what_the_page_of_the_package_shows_is_what_is_tested() -> None:
    assert shown("storageKey:", "archer_ws/console/README.md") == (NODE_PROJECT / "client/conversation.tsx").read_text(
        "utf-8"
    )

"""The pages for those who change the project: what they name exists, and what exists is named."""

import re
from pathlib import Path

from tests.benchmarks.speed.report import SECTIONS

ROOT = Path(__file__).parent.parent
DECISIONS = (ROOT / "archer_ws" / "DECISIONS.md").read_text("utf-8")


def test_every_test_that_a_decision_names_exists() -> None:
    tests = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        if not {".venv", "node_modules"} & set(path.parts)
        for name in re.findall(r"^ *(?:async )?def (test_\w+)", path.read_text("utf-8"), re.MULTILINE)
    }
    named = set(re.findall(r"`(test_\w+)`", DECISIONS))
    assert len(named) > 40
    assert named <= tests, f"archer_ws/DECISIONS.md names tests that are not there: {sorted(named - tests)}"


def test_every_row_of_the_benchmark_that_a_decision_names_exists() -> None:
    groups = re.findall(r"rows?\s+((?:`\w+`[\s,and]*)+)", DECISIONS)
    named = {row for group in groups for row in re.findall(r"`(\w+)`", group)}
    assert {"multiplex", "openai", "ttft"} <= named
    assert named <= SECTIONS.keys(), f"archer_ws/DECISIONS.md names rows that are not there: {named - SECTIONS.keys()}"


def test_every_decision_says_what_it_cost_and_what_shows_it() -> None:
    decisions = re.split(r"^### ", DECISIONS, flags=re.MULTILINE)[1:]
    assert decisions
    for number, decision in enumerate(decisions, start=1):
        assert decision.startswith(f"{number}. "), decision.partition("\n")[0]
        assert "\n- Cost: " in decision, decision.partition("\n")[0]
        assert "\n- Shown by: " in decision, decision.partition("\n")[0]


def test_every_room_of_the_package_is_described() -> None:
    package = ROOT / "archer_ws"
    page = (package / "README.md").read_text("utf-8")
    for folder in {path.parent.relative_to(package).as_posix() for path in package.rglob("*.py")} - {"."}:
        assert re.search(rf"(?<![\w/]){folder}/|`{folder.rpartition('/')[2]}/`", page), (
            f"archer_ws/README.md: {folder}/"
        )


def test_every_fake_is_described() -> None:
    page = (ROOT / "tests" / "README.md").read_text("utf-8")
    for path in (ROOT / "tests" / "fakes").glob("*.py"):
        assert path.name == "__init__.py" or f"`fakes/{path.name}`" in page, f"tests/README.md: fakes/{path.name}"


def test_every_path_that_the_package_s_page_names_exists() -> None:
    package = ROOT / "archer_ws"
    page = (package / "README.md").read_text("utf-8")
    # In capitals stands what a reader puts in its place.
    named = {name for name in re.findall(r"`(\w[\w./]*)`", page) if "/" in name or name.endswith(".py")}
    folders = [package, ROOT, *(path for path in package.rglob("*") if path.is_dir())]
    for name in named - {name for name in named if re.search(r"\b[A-Z]+\b|X_|\bX\b", name)}:
        assert any((folder / name).exists() for folder in folders), f"archer_ws/README.md: {name}"

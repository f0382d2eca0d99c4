"""Where cargo builds the crates of tests."""

import os
import shutil
from pathlib import Path


def cargo() -> str:
    """The machine's cargo."""
    found = shutil.which("cargo")
    assert found is not None, "these tests need Rust: https://rustup.rs"
    return found


def built(crate: Path) -> Path:
    """The program of a crate that has been built; it has the name of the crate's folder."""
    name = f"{crate.name}.exe" if os.name == "nt" else crate.name
    return target_of(crate / "target") / "debug" / name


def target_of(usual: Path) -> Path:
    """The folder that cargo builds in: one for all crates where the environment names one, so that what they share is
    built once."""
    return Path(os.environ.get("CARGO_TARGET_DIR", usual))

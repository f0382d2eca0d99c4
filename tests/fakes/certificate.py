"""A certificate for this machine's own names, made by openssl where it is there."""

import shutil
import subprocess
from pathlib import Path

import pytest


def make_certificate(folder: Path) -> Path:
    """A file with a certificate for localhost and 127.0.0.1, and its key; the test is skipped without openssl."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    made = (
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=sidecar -addext subjectAltName=DNS:localhost,IP:127.0.0.1"
    )
    file = folder / "certificate.pem"
    certificate = subprocess.run(["openssl", *made.split(), "-keyout", file], check=True, capture_output=True).stdout
    with file.open("ab") as both:
        both.write(certificate)
    return file

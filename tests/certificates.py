"""Certificates of this machine for itself, made by openssl."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

NAMES = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]


def make_certificate(cert: Path, *protection: str) -> Path:
    """Write a certificate, and its key beside it as .key, without a passphrase unless one is given."""
    files = ["-keyout", str(cert.with_suffix(".key")), "-out", str(cert)]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", *files, *(protection or ("-nodes",)), *NAMES]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("needs openssl: apt-get install openssl")
    return cert

"""Trails to look at and to damage: written by the real sink, signed by a development authority."""

from __future__ import annotations

import errno
import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from spiffe_client.audit import JsonlSink
from spiffe_client.audit._file import TrailFile
from spiffe_client.bundle import BundleSet
from spiffe_client.dev import CertificateAuthority
from tests.support.audit_scene import CLOSER, call, denied

__all__ = ["BUNDLES", "CA", "SVID", "Disk", "chained", "reasons_in", "records_of", "until", "write_trail"]

CA = CertificateAuthority("prod.example")
SVID = CA.issue_x509_svid(CLOSER)
BUNDLES = BundleSet([CA.x509_bundle])


def write_trail(path: Path, events: int = 6, **options: Any) -> list[bytes]:
    """Write a trail of that many calls, of which every third is a denial; return its lines."""
    options = {"on_trouble": "block", "signer": lambda: SVID, "checkpoint_every": 4, **options}
    with JsonlSink(path, **options) as sink:
        for number in range(events):
            sink(denied() if number % 3 == 2 else call(resource=f"tenants/acme/invoices/{number}"))
            sink.flush()  # one by one, so that checkpoints come where they are expected
    return path.read_bytes().splitlines(keepends=True)


def chained(lines: list[bytes]) -> list[bytes]:
    """Make all hashes anew, as somebody can who changes a trail and has no key."""
    prev, made = b"0" * 64, []
    for text in lines:
        text = re.sub(rb'"prev":"[0-9a-f]{64}","hash":"[0-9a-f]{64}"}\n$', b'"prev":"%b"' % prev, text)
        prev = hashlib.sha256(text).hexdigest().encode()
        made.append(b'%b,"hash":"%b"}\n' % (text, prev))
    return made


def records_of(path: Path) -> list[str]:
    """The names of the records in a file."""
    return [m.decode() for m in re.findall(rb'^\{"seq":\d+,"at":"[^"]*","event":"([^"]*)"', path.read_bytes(), re.M)]


def reasons_in(path: Path) -> list[str]:
    """Why calls were denied, as a file has it."""
    records = [json.loads(line) for line in path.read_bytes().splitlines()]
    return [record["facts"]["reason"] for record in records if record["event"] == "call.denied"]


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Return once something is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never was"
        time.sleep(0.002)


class Disk:
    """A disk under a trail that fails, hangs, or takes but a part.

    Attributes:
        error: Raised by each write, until it is None.
        most: The most bytes that one write takes.
        hangs: While it is clear, writes wait.
        reached: Set once a write waits or fails.
    """

    def __init__(self) -> None:
        self.error: OSError | None = None
        self.most = 1 << 30
        self.hangs = threading.Event()
        self.hangs.set()
        self.reached = threading.Event()

    def fill(self) -> None:
        """No space is left."""
        self.error = OSError(errno.ENOSPC, "No space left on device")

    @contextmanager
    def under(self, patch: pytest.MonkeyPatch) -> Iterator[None]:
        """Put it under all trails."""
        real = TrailFile.write

        def write(file: TrailFile, data: bytes) -> int:
            if not self.hangs.is_set():
                self.reached.set()
                self.hangs.wait(30)
            if self.error is not None:
                self.reached.set()
                raise self.error
            return real(file, data[: self.most])

        with patch.context() as inside:
            inside.setattr(TrailFile, "write", write)
            yield
            self.error = None
            self.hangs.set()

"""Two real SPIRE trust domains, started once for the session."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.spire import Spire, SpireBinaries


@pytest.fixture(scope="session")
def binaries() -> SpireBinaries:
    found = SpireBinaries.find()
    if found is None:
        pytest.skip("no SPIRE here: `nox -s spire` builds it with Go, or set SPIRE_BIN to a folder that has it")
    return found


@pytest.fixture(scope="session")
def domains(binaries: SpireBinaries) -> Iterator[tuple[Spire, Spire]]:
    # Short paths: a unix socket's address has about a hundred bytes.
    with tempfile.TemporaryDirectory(prefix="spire-") as folder:
        here, there = Path(folder, "a"), Path(folder, "b")
        with Spire(binaries, "here.test", here) as one, Spire(binaries, "there.test", there) as two:
            one.federate_with(two)
            two.federate_with(one)
            yield one, two


@pytest.fixture
def spire(domains: tuple[Spire, Spire]) -> Spire:
    return domains[0]


@pytest.fixture
def other(domains: tuple[Spire, Spire]) -> Spire:
    return domains[1]

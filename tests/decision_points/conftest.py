"""A real decision point, started once for a module."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.support.cerbos import serve_cerbos
from tests.support.peers import logs_of_running_peers


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """A failure shows what the peer wrote."""
    report = yield
    if report.failed:
        report.sections += [(f"log of {name}", text) for name, text in logs_of_running_peers()]
    return report


@pytest.fixture(scope="module")
def cerbos() -> Iterator[str]:
    """Where Cerbos is."""
    if "CERBOS_BIN" not in os.environ:
        pytest.skip("CERBOS_BIN is not set: `nox -s peers` installs Cerbos with npm and sets it")
    with serve_cerbos() as url:
        yield url

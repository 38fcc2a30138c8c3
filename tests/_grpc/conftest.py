"""Peers behind real sockets."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.grpc_scripts import Listening, listening_on


@pytest.fixture(params=["unix", "tcp"])
def listening(request: pytest.FixtureRequest, tmp_path: Path) -> Listening:
    """Runs a peer behind a unix socket, and behind TCP on 127.0.0.1."""
    return listening_on(request.param, tmp_path)

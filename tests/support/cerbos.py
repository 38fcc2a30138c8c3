"""Cerbos as a decision point on loopback, in a process of its own.

Where it is is said by the environment (`nox -s peers` sets it): `CERBOS_BIN` is the program.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.peers import _answers, _Process, free_port

__all__ = ["serve_cerbos"]

POLICIES = Path(__file__).parents[1] / "peers" / "cerbos" / "policies"

CONFIGURATION = """\
server:
  httpListenAddr: "127.0.0.1:{port}"
  grpcListenAddr: "unix:{folder}/grpc.sock"
storage:
  driver: disk
  disk:
    directory: "{policies}"
    watchForChanges: false
telemetry:
  disabled: true
"""


@contextmanager
def serve_cerbos(port: int | None = None) -> Iterator[str]:
    """Run Cerbos with the policies of tests/peers/cerbos, and say where it is."""
    port = port or free_port()
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory(prefix="cerbos-") as name:
        configuration = Path(name, "cerbos.yaml")
        configuration.write_text(CONFIGURATION.format(port=port, folder=name, policies=POLICIES))
        process = _Process(
            "cerbos", [os.environ["CERBOS_BIN"], "server", "--config", str(configuration)], Path(name),
            {"CERBOS_NO_TELEMETRY": "1", "DO_NOT_TRACK": "1", "HOME": name},
        )  # fmt: skip
        try:
            process.wait_until(lambda: _answers(f"{url}/_cerbos/health"))
            yield url
        finally:
            process.stop()

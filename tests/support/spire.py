"""A real SPIRE: one server and one agent of a trust domain, on loopback and a unix socket.

Only what SPIRE itself offers is used: join-token attestation of the agent, the unix attestor for
workloads, `spire-server` commands for registration and bundles. Nothing of it is faked.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Spire", "SpireBinaries"]

_SERVER_CONF = """
server {{
  bind_address = "127.0.0.1"
  bind_port = "{port}"
  socket_path = "{dir}/server.sock"
  trust_domain = "{domain}"
  data_dir = "{dir}/server"
  log_level = "DEBUG"
  ca_ttl = "24h"
  ca_key_type = "ec-p256"
  default_x509_svid_ttl = "1h"
  default_jwt_svid_ttl = "1m"
  experimental {{ cache_reload_interval = "1s" }}
}}
plugins {{
  DataStore "sql" {{
    plugin_data {{
      database_type = "sqlite3"
      connection_string = "{dir}/server/datastore.sqlite3"
    }}
  }}
  KeyManager "disk" {{ plugin_data {{ keys_path = "{dir}/server/keys.json" }} }}
  NodeAttestor "join_token" {{ plugin_data {{}} }}
}}
"""

_AGENT_CONF = """
agent {{
  data_dir = "{dir}/agent"
  log_level = "DEBUG"
  server_address = "127.0.0.1"
  server_port = "{port}"
  socket_path = "{dir}/agent.sock"
  trust_bundle_path = "{dir}/bundle.pem"
  trust_domain = "{domain}"
  experimental {{ sync_interval = "1s" }}
}}
plugins {{
  NodeAttestor "join_token" {{ plugin_data {{}} }}
  KeyManager "disk" {{ plugin_data {{ directory = "{dir}/agent" }} }}
  WorkloadAttestor "unix" {{ plugin_data {{}} }}
}}
"""


@dataclass(frozen=True)
class SpireBinaries:
    """Where `spire-server` and `spire-agent` are: a folder, from the environment's SPIRE_BIN."""

    folder: Path

    @classmethod
    def find(cls) -> SpireBinaries | None:
        """The folder named by SPIRE_BIN, or the one on PATH, or None."""
        if named := os.environ.get("SPIRE_BIN"):
            return cls(Path(named))
        found = shutil.which("spire-agent")
        return cls(Path(found).parent) if found else None

    @property
    def server(self) -> str:
        return str(self.folder / "spire-server")

    @property
    def agent(self) -> str:
        return str(self.folder / "spire-agent")


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def _until(condition: Callable[[], bool], what: str, alive: subprocess.Popen[bytes], log: Path) -> None:
    # A real process says when it is ready only by answering: poll it, under a deadline.
    deadline = time.monotonic() + 60
    while not condition():
        if alive.poll() is not None or time.monotonic() > deadline:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-30:])
            raise RuntimeError(f"{what}: exit code {alive.poll()}\n{tail}")
        time.sleep(0.05)


@dataclass
class Spire:
    """One trust domain: start, register workloads, break things, stop."""

    binaries: SpireBinaries
    domain: str
    folder: Path
    port: int = field(default_factory=_free_port)
    _server: subprocess.Popen[bytes] | None = None
    _agent: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        """The Workload API of the agent."""
        return f"unix://{self.folder}/agent.sock"

    @property
    def agent_id(self) -> str:
        """The parent of all registered entries."""
        return f"spiffe://{self.domain}/agent"

    def __enter__(self) -> Spire:
        for name in ("server", "agent"):
            (self.folder / name).mkdir(parents=True)
        fields = {"dir": self.folder, "port": self.port, "domain": self.domain}
        (self.folder / "server.conf").write_text(_SERVER_CONF.format(**fields))
        (self.folder / "agent.conf").write_text(_AGENT_CONF.format(**fields))
        try:
            self._start_server()
            self._start_agent_first_time()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_agent()
        self._server = self._stop(self._server)

    def _spawn(self, name: str, *argv: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    @staticmethod
    def _stop(process: subprocess.Popen[bytes] | None, *, kill: bool = False) -> None:
        if process is None:
            return
        process.kill() if kill else process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def command(self, *argv: str, stdin: bytes | None = None) -> str:
        """Run one `spire-server` command against this server and return what it printed."""
        done = subprocess.run(
            [self.binaries.server, *argv, "-socketPath", f"{self.folder}/server.sock"],
            input=stdin, capture_output=True, timeout=30, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"spire-server {' '.join(argv)}: {done.stdout.decode()}{done.stderr.decode()}")
        return done.stdout.decode()

    def _healthy(self) -> bool:
        argv = [self.binaries.server, "healthcheck", "-socketPath", f"{self.folder}/server.sock"]
        return subprocess.run(argv, capture_output=True, check=False).returncode == 0

    def _start_server(self) -> None:
        self._server = self._spawn(
            "server", self.binaries.server, "run", "-config", f"{self.folder}/server.conf"
        )
        _until(self._healthy, "spire-server did not start", self._server, self.folder / "server.log")

    def _start_agent_first_time(self) -> None:
        (self.folder / "bundle.pem").write_text(self.command("bundle", "show", "-format", "pem"))
        token = json.loads(
            self.command("token", "generate", "-spiffeID", self.agent_id, "-output", "json")
        )["value"]
        self.start_agent("-joinToken", token)

    def start_agent(self, *extra: str) -> None:
        """Start the agent; after the first time it re-attests with what it kept."""
        self._agent = self._spawn(
            "agent", self.binaries.agent, "run", "-config", f"{self.folder}/agent.conf", *extra
        )
        sock = self.folder / "agent.sock"
        _until(sock.exists, "spire-agent did not start", self._agent, self.folder / "agent.log")

    def stop_agent(self, *, kill: bool = False) -> None:
        """Stop the agent politely, or with SIGKILL."""
        self._agent = self._stop(self._agent, kill=kill)

    def register(
        self, path: str, *, ttl: int = 3600, hint: str = "", federates_with: str | None = None
    ) -> str:
        """Register a workload of this user and return the entry's id. `ttl` in seconds."""
        argv = [
            "entry", "create", "-parentID", self.agent_id, "-spiffeID", f"spiffe://{self.domain}{path}",
            "-selector", f"unix:uid:{os.getuid()}", "-x509SVIDTTL", str(ttl), "-jwtSVIDTTL", "60",
            "-output", "json",
        ]  # fmt: skip
        if hint:
            argv += ["-hint", hint]
        if federates_with:
            argv += ["-federatesWith", f"spiffe://{federates_with}"]
        return str(json.loads(self.command(*argv))["results"][0]["entry"]["id"])

    def deregister(self, entry: str) -> None:
        """Delete an entry: the identity is withdrawn."""
        self.command("entry", "delete", "-entryID", entry)

    def federate_with(self, other: Spire) -> None:
        """Give this server the bundle of another trust domain."""
        bundle = other.command("bundle", "show", "-format", "spiffe").encode()
        self.command("bundle", "set", "-format", "spiffe", "-id", f"spiffe://{other.domain}", stdin=bundle)

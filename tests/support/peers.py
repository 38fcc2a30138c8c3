"""Real token brokers on loopback, each in a process of its own: oidc-provider and authgent-server.

Where they are is said by the environment (`nox -s peers` sets it): `OIDC_PROVIDER_DIR` is a folder
with tests/peers/oidc-provider and its `node_modules`, `AUTHGENT_BIN` the command `authgent-server`.
Keys, databases and logs live in a temporary directory each.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from spiffe_client._portal import Portal
from spiffe_client.dev import CertificateAuthority, DevTrustDomain
from tests.support.pki import new_authority
from tests.support.tokens import public_jwk

__all__ = [
    "Authgent",
    "Domain",
    "OidcProvider",
    "free_port",
    "logs_of_running_peers",
    "serve_authgent",
    "serve_oidc_provider",
]

#: Seconds a peer may take until it answers.
DEADLINE = 30.0
_running: list[_Process] = []


class _Process:
    """A server that writes into a log file; stopped by its process id."""

    def __init__(self, name: str, argv: list[str], folder: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.log = folder / "peer.log"
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("AUTHGENT_", "COVERAGE"))}
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                argv, cwd=folder, env={**inherited, **environment},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        _running.append(self)

    @property
    def written(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_until(self, ready: Callable[[], bool]) -> None:
        """Poll a real process, which says only by answering that it is ready, under a deadline."""
        deadline = time.monotonic() + DEADLINE
        while not ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(
                    f"{self.name} did not start (exit code {self._process.poll()}):\n{self.written}"
                )
            time.sleep(0.02)

    def stop(self) -> None:
        _running.remove(self)
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def logs_of_running_peers() -> list[tuple[str, str]]:
    """Name and log of each peer that runs now, for a test that failed."""
    return [(process.name, process.written[-8000:]) for process in _running]


class Domain:
    """A development trust domain on a loop of its own, so that a module shares it on both backends."""

    def __init__(self, name: str = "example.org") -> None:
        self._portal = Portal()
        self._portal.start()
        self.dev = DevTrustDomain(name, svid_ttl=3600, jwt_ttl=300)
        self._portal.call(self.dev.__aenter__)

    @property
    def ca(self) -> CertificateAuthority:
        return self.dev.ca

    def endpoint_for(self, spiffe_id: str) -> str:
        return self._portal.call(self.dev.endpoint_for, spiffe_id)

    def rotate(self) -> None:
        """Every workload gets a new X509-SVID."""
        self._portal.call(self.dev.rotate)

    def change_authority(self) -> None:
        """JWT-SVIDs are signed by a new key, and the old one is trusted no more."""
        self._portal.call(self.dev.rotate_authority)
        self._portal.call(self.dev.retire_old_authorities)

    def close(self) -> None:
        self._portal.call(self.dev.__aexit__, None, None, None)
        self._portal.close()


@dataclass(frozen=True)
class OidcProvider:
    """oidc-provider as it runs.

    Attributes:
        issuer: Its identifier.
        roots: PEM of whom to trust for its certificate; empty without TLS, or with an X509-SVID.
        signer: The key of the client `signer` (private_key_jwt), as PEM.
        folder: Where its files are.
    """

    issuer: str
    roots: str
    signer: str = field(repr=False)
    folder: Path

    @property
    def _control(self) -> httpx.Client:
        # With an X509-SVID there is no name to look for; the tests proper verify it, this only steers.
        verify = ssl.create_default_context(cadata=self.roots) if self.roots else False
        return httpx.Client(verify=verify, trust_env=False)

    def fault(self, **what: object) -> None:
        """Have the next `n` requests whose path ends with `path` go wrong; faults.mjs says how."""
        with self._control as http:
            http.post(f"{self.issuer}/__fault", json={"n": 1, **what}).raise_for_status()

    def forget_faults(self) -> None:
        with self._control as http:
            http.delete(f"{self.issuer}/__fault").raise_for_status()

    def trust(self, ca: CertificateAuthority) -> None:
        """Have it trust what an authority publishes now."""
        (self.folder / "bundle.json").write_bytes(ca.spiffe_bundle.to_json())
        (self.folder / "wit-bundle.json").write_bytes(ca.wit_bundle.to_jwks())

    def requests(self, method: str, path: str) -> int:
        """How many it has seen since it started."""
        with self._control as http:
            return int(http.get(f"{self.issuer}/__requests").json().get(f"{method} {path}", 0))


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write_keys(folder: Path, ca: CertificateAuthority, *, spiffe_server: bool) -> OidcProvider:
    signer = ec.generate_private_key(ec.SECP256R1())
    jwk = public_jwk(signer, "signer", alg="ES256", use="sig")
    (folder / "private-key-jwt.json").write_text(json.dumps({"keys": [jwk]}))
    (folder / "authorities.pem").write_bytes(ca.x509_bundle.to_pem())
    roots = ""
    if spiffe_server:
        svid = ca.issue_x509_svid(f"spiffe://{ca.trust_domain.name}/token-broker")
        chain, key = svid.chain_pem(), svid.key_pem().reveal()
    else:
        web = new_authority("web", uri=None)
        server = web.leaf(dns=["localhost"], ips=["127.0.0.1"])
        chain, key = server.chain_pem, server.key_pem
        roots = web.certificate.public_bytes(Encoding.PEM).decode()
    (folder / "server.pem").write_bytes(chain)
    (folder / "server.key").write_bytes(key)
    written = OidcProvider("", roots, _private_pem(signer).decode(), folder)
    written.trust(ca)
    return written


@contextmanager
def serve_oidc_provider(
    domain: Domain, *, spiffe_server: bool = False, **environment: str
) -> Iterator[OidcProvider]:
    """Run oidc-provider with the trust of a domain; `environment` is what its README lists."""
    server = Path(os.environ["OIDC_PROVIDER_DIR"], "server.mjs")
    with tempfile.TemporaryDirectory(prefix="oidc-provider-") as name:
        folder = Path(name)
        written = _write_keys(folder, domain.ca, spiffe_server=spiffe_server)
        process = _Process(
            "oidc-provider", ["node", str(server)], folder,
            {"KEYS": name, "PORT": "0", "TRUST_DOMAIN": domain.ca.trust_domain.name, **environment},
        )  # fmt: skip
        try:
            process.wait_until(lambda: '{"ready":true' in process.written)
            line = next(line for line in process.written.splitlines() if line.startswith('{"ready"'))
            facts = json.loads(line)
            yield replace(written, issuer=facts["issuer"], roots=written.roots if "TLS" in environment else "")
        finally:
            process.stop()


@dataclass(frozen=True)
class Authgent:
    """authgent-server as it runs."""

    issuer: str

    def register(self, *, scope: str, **more: object) -> tuple[str, str]:
        """Register a client (RFC 7591) and return its identifier and its secret."""
        grants = [
            "client_credentials",
            "urn:ietf:params:oauth:grant-type:token-exchange",
            "urn:ietf:params:oauth:grant-type:jwt-bearer",
        ]
        body = {"client_name": "test", "scope": scope, "grant_types": grants, **more}
        reply = httpx.post(f"{self.issuer}/register", json=body, trust_env=False).raise_for_status().json()
        return reply["client_id"], reply["client_secret"]


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False, timeout=1).status_code == 200
    except httpx.TransportError:
        return False


@contextmanager
def serve_authgent(port: int | None = None, **settings: object) -> Iterator[Authgent]:
    """Run authgent-server; `settings` are its own, in lower case, lists and numbers as such."""
    port = port or free_port()
    issuer = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory(prefix="authgent-") as name:
        whole = {
            "server_url": issuer,
            "database_url": f"sqlite+aiosqlite:///{name}/authgent.db",
            "secret_key": secrets.token_hex(32),
            "token_rate_limit": 1_000_000,
            "scopes_supported": [],
            "telemetry": 0,
            **settings,
        }
        environment = {
            f"AUTHGENT_{key.upper()}": value if isinstance(value, str) else json.dumps(value)
            for key, value in whole.items()
        }
        # Both flags, always: without them it listens on all interfaces, whatever HOST says.
        process = _Process(
            "authgent-server",
            [os.environ["AUTHGENT_BIN"], "run", "--host", "127.0.0.1", "--port", str(port)],
            Path(name), {**environment, "DO_NOT_TRACK": "1", "HOME": name, "NO_COLOR": "1"},
        )  # fmt: skip
        try:
            process.wait_until(lambda: _answers(f"{issuer}/ready"))
            yield Authgent(issuer)
        finally:
            process.stop()

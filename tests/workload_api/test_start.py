"""What a start costs is measured; here is what it must not wait for."""

from __future__ import annotations

import subprocess
import sys
from tempfile import TemporaryDirectory

import pytest

from spiffe_client.workload_api._messages import X509SvidEntry, X509SvidResponse
from tests.support.pki import RSA_KEY, days, new_authority

_ASKED_FIRST = """
import os, socket, sys
import anyio
from spiffe_client import WorkloadApiClient, X509Source

agent = socket.socket(socket.AF_UNIX)
agent.bind(sys.argv[1])
agent.listen()
agent.settimeout(0)

class Look:
    def find_spec(self, name, path=None, target=None):
        if name == "cryptography":
            print("asked" if agent.accept()[0].recv(3) == b"PRI" else "not asked", flush=True)
            os._exit(0)

sys.meta_path.insert(0, Look())

async def watch(stream):
    async with stream:
        await anext(stream)

async def open(source):
    await source.open()

client = WorkloadApiClient(f"unix:{sys.argv[1]}")
anyio.run(%s)
"""


@pytest.mark.parametrize(
    "call",
    [
        "watch, client.watch_x509_contexts(refused=print)",
        "watch, client.watch_x509_bundles(refused=print)",
        "watch, client.watch_jwt_bundles(refused=print)",
        "open, X509Source(client)",
    ],
)
def test_the_agent_is_asked_before_certificates_are_loaded(call: str) -> None:
    """The certificate library is the largest part of a start: it is loaded while the agent signs."""
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-c", _ASKED_FIRST % call, f"{folder}/agent.sock"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert "asked\n" == done.stdout, done.stderr


_LIGHT = """
import sys
before = set(sys.modules)
import ssl
from datetime import datetime
from spiffe_client import custom
from spiffe_client.tls import SpiffeTls, peer_of
from spiffe_client.workload_api._x509 import read_x509_context

at = datetime.fromisoformat(sys.argv[1])
context = read_x509_context(sys.stdin.buffer.read(), at=at, refused=print)
primitives = "cryptography.hazmat.primitives."
heavy = [primitives + name for name in ("serialization", "ciphers", "asymmetric.rsa")]
heavy += ["cryptography.x509", "urllib.parse", "msgspec", "jwt", "httpx"]
print([name for name in heavy if name in sys.modules.keys() - before])

tls = SpiffeTls(context, custom("anybody", lambda _: True))
here, there = ssl.MemoryBIO(), ssl.MemoryBIO()
ends = [tls.client_context().wrap_bio(here, there), tls.server_context().wrap_bio(there, here, server_side=True)]
while not all(getattr(end, "spiffe_peer", None) for end in ends):
    for end in ends:
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            pass
print(peer_of(ends[1]).id, "cryptography.x509" in sys.modules)
"""


@pytest.mark.parametrize("key", ["EC", "RSA"])
def test_the_certificate_library_is_not_loaded(key: str) -> None:
    """An SVID is read, verified and used for mutual TLS without `cryptography.x509`, a fifth of a start."""
    root = new_authority("a.test", key=RSA_KEY() if key == "RSA" else None)
    leaf = root.intermediate().leaf("spiffe://a.test/me")
    svid = X509SvidEntry("spiffe://a.test/me", b"".join(leaf.ders), leaf.key_der, root.bundle().to_der(), "")
    done = subprocess.run(
        [sys.executable, "-c", _LIGHT, str(days(0))],
        input=X509SvidResponse(svids=(svid,)).encode(),
        capture_output=True,
        check=False,
        timeout=30,
    )
    primitives = "cryptography.hazmat.primitives."
    loaded = [primitives + name for name in ("serialization", "ciphers", "asymmetric.rsa")]
    heavy = loaded if key == "RSA" else []
    assert f"{heavy}\nspiffe://a.test/me False\n" == done.stdout.decode(), done.stderr.decode()

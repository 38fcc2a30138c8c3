"""What a process pays: importing, starting, memory, disk. Ours and the peer's, interleaved."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from statistics import median

from tests.bench._domain import DomainProcess
from tests.bench._figure import Figure, at_most

__all__ = ["first_svid", "import_cpu", "install_size", "memory"]

OWN, PEER = os.environ.get("BENCH_OWN_PYTHON", ""), os.environ.get("BENCH_PEER_PYTHON", "")
NAMED_PEER = "spiffe (PyPI)"

_OWN_FIRST = """
import anyio
from spiffe_client import WorkloadApiClient, X509Source
async def main():
    async with X509Source(WorkloadApiClient()) as source:
        print(source.svid.id, flush=True)
anyio.run(main)
"""
_PEER_FIRST = """
from spiffe import X509Source
with X509Source() as source:
    print(source.svid.spiffe_id, flush=True)
"""
_OWN_LIVE = """
import anyio, sys
from spiffe_client import JwtSource, WorkloadApiClient, X509Source
async def main():
    client = WorkloadApiClient()
    async with X509Source(client) as x509, JwtSource(client) as jwt:
        svid = await jwt.fetch_jwt_svid("bench")
        assert x509.svid.id == svid.id
        assert jwt.jwt_bundles[x509.svid.id.trust_domain]
        print("live", flush=True)
        await anyio.sleep_forever()
anyio.run(main)
"""
_PEER_LIVE = """
import time
from spiffe import JwtSource, X509Source
with X509Source() as x509, JwtSource() as jwt:
    svid = jwt.fetch_svid(audience={"bench"})
    assert x509.svid.spiffe_id == svid.spiffe_id
    assert jwt.get_bundle_for_trust_domain(x509.svid.spiffe_id.trust_domain)
    print("live", flush=True)
    time.sleep(3600)
"""


# `-P` in what follows: what is measured is what is installed, not the checkout, which Python puts
# first on the path of a process with `-c`.
def _cpu(argv: list[str]) -> float:
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{argv} failed")
    return usage.ru_utime + usage.ru_stime


def import_cpu(runs: int = 21) -> list[Figure]:
    """CPU of a whole process that only imports."""
    own, peer = [], []
    for _ in range(runs):
        own.append(_cpu([OWN, "-P", "-c", "import spiffe_client"]))
        peer.append(_cpu([PEER, "-P", "-c", "import spiffe"]))
    a, b = median(own), median(peer)
    detail = f"{a * 1000:.0f} ms against {b * 1000:.0f} ms"
    return [at_most("import_cpu_ratio", a / b, 0.60, unit="ratio", peer=NAMED_PEER, runs=runs, detail=detail)]


def _site_bytes(python: str) -> int:
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip())
    ignored = ("pip", "setuptools", "wheel", "pkg_resources", "_distutils_hack", "distutils-precedence")
    files = (f for f in site.rglob("*") if f.is_file() and "__pycache__" not in f.parts)
    return sum(f.stat().st_size for f in files if not f.relative_to(site).parts[0].startswith(ignored))


def install_size() -> list[Figure]:
    """Bytes in site-packages with all dependencies, without pip, setuptools and bytecode."""
    a, b = _site_bytes(OWN), _site_bytes(PEER)
    detail = f"{a / 1e6:.1f} MB against {b / 1e6:.1f} MB"
    return [at_most("install_size_ratio", a / b, 0.55, unit="ratio", peer=NAMED_PEER, runs=1, detail=detail)]


def _first(python: str, code: str, endpoint: str) -> float:
    env = {**os.environ, "SPIFFE_ENDPOINT_SOCKET": endpoint}
    start = time.monotonic()
    process = subprocess.Popen([python, "-P", "-c", code], stdout=subprocess.PIPE, env=env)
    assert process.stdout
    line = process.stdout.readline()
    took = time.monotonic() - start
    process.communicate()
    if not line.startswith(b"spiffe://"):
        raise RuntimeError(f"no SVID: {line!r}")
    return took


def first_svid(runs: int = 15) -> list[Figure]:
    """From starting the process until an X509-SVID can be used."""
    own, peer = [], []
    with DomainProcess() as domain:
        for _ in range(runs):
            own.append(_first(OWN, _OWN_FIRST, domain.endpoint))
            peer.append(_first(PEER, _PEER_FIRST, domain.endpoint))
    a, b = median(own), median(peer)
    detail = f"{a * 1000:.0f} ms against {b * 1000:.0f} ms"
    return [at_most("first_svid_ratio", a / b, 0.70, unit="ratio", peer=NAMED_PEER, runs=runs, detail=detail)]


def _live(python: str, code: str, endpoint: str) -> tuple[int, int]:
    env = {**os.environ, "SPIFFE_ENDPOINT_SOCKET": endpoint}
    process = subprocess.Popen([python, "-P", "-c", code], stdout=subprocess.PIPE, env=env)
    assert process.stdout
    try:
        if process.stdout.readline() != b"live\n":
            raise RuntimeError("sources did not come up")
        status = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        fields = dict(line.split(":", 1) for line in status)
        return int(fields["VmRSS"].split()[0]), int(fields["Threads"])
    finally:
        process.terminate()
        process.communicate()


def memory(runs: int = 7) -> list[Figure]:
    """Resident memory and OS threads with an X.509 and a JWT source live."""
    own, peer = [], []
    with DomainProcess() as domain:
        for _ in range(runs):
            own.append(_live(OWN, _OWN_LIVE, domain.endpoint))
            peer.append(_live(PEER, _PEER_LIVE, domain.endpoint))
    a, b = median(r for r, _ in own), median(r for r, _ in peer)
    threads, theirs = max(t for _, t in own), max(t for _, t in peer)
    return [
        at_most("rss_ratio", a / b, 0.65, unit="ratio", peer=NAMED_PEER, runs=runs,
                detail=f"{a / 1024:.1f} MiB against {b / 1024:.1f} MiB"),
        at_most("os_threads", threads, 1, unit="threads", peer=NAMED_PEER, runs=runs, detail=f"the peer: {theirs}"),
    ]  # fmt: skip

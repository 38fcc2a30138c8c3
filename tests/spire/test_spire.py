"""The real thing: SVIDs, mutual TLS, rotation, outage, withdrawal and federation on SPIRE."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import httpx
import pytest

from spiffe_client import PeerError, StaleError, TrustDomain, Workload, WorkloadApiClient, member_of
from spiffe_client.errors import find
from tests.support.spire import Spire

pytestmark = [pytest.mark.anyio, pytest.mark.spire, pytest.mark.timeout(120)]

#: SPIRE renews at half of a lifetime that it back-dates by ten seconds.
SHORT = 12
_NUMBERS = itertools.count()


@pytest.fixture
def tag() -> str:
    """Sets a test's workloads apart: an agent may know those of an earlier one for some seconds."""
    return f"t{next(_NUMBERS)}"


@contextmanager
def service(spire: Spire, hint: str, callers: str) -> Iterator[str]:
    """A process that serves over mutual TLS with the identity of this hint; yields its URL."""
    script = str(Path(__file__).with_name("service.py"))
    process = subprocess.Popen(
        [sys.executable, script, spire.endpoint, hint, callers], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    try:
        port = process.stdout.readline().strip()
        assert port, "the service did not start"
        yield f"https://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.communicate(timeout=20)


@contextmanager
def registered(spire: Spire, *paths: str, ttl: int = 3600, federates_with: str | None = None) -> Iterator[list[str]]:
    """Entries for this user, each with its last path segment as the hint."""
    entries = [
        spire.register(p, ttl=ttl, hint=p.rsplit("/", 1)[-1], federates_with=federates_with) for p in paths
    ]
    try:
        yield entries
    finally:
        for entry in entries:
            try:
                spire.deregister(entry)
            except RuntimeError:
                pass  # the test has deleted it


async def until(condition: Callable[[], bool], what: str, seconds: float = 40) -> None:
    """Poll a real agent, which pushes when it pleases, under a deadline."""
    with anyio.move_on_after(seconds):
        while not condition():
            await anyio.sleep(0.05)
        return
    pytest.fail(f"not within {seconds} s: {what}")


async def test_first_svid_and_waiting_for_it(tag: str, spire: Spire) -> None:
    """Opening waits while no identity is registered, and goes on by itself when one is."""
    entered = anyio.Event()

    async def work() -> None:
        async with Workload(spire.endpoint, timeout=40, hint=f"{tag}-late") as me:
            assert f"spiffe://here.test/{tag}-late" == str(me.id)
            assert TrustDomain("here.test") in me.x509_context.bundles
            entered.set()

    async with anyio.create_task_group() as group:
        group.start_soon(work)
        await anyio.sleep(0.3)
        assert not entered.is_set()
        with registered(spire, f"/{tag}-late"):
            with anyio.fail_after(40):
                await entered.wait()


async def test_jwt_svid_fetched_and_validated_twice(tag: str, spire: Spire) -> None:
    """SPIRE's own validation and the offline one give the same identity and audience."""
    with registered(spire, f"/{tag}-jwt"):
        async with Workload(spire.endpoint, timeout=40, hint=f"{tag}-jwt") as me:
            svid = await me.jwt_svid("https://reports.test", hint=f"{tag}-jwt")
            assert me.id == svid.id
            offline = await me.verify_jwt_svid(svid.token.reveal(), audience="https://reports.test")
            online = await WorkloadApiClient(spire.endpoint).validate_jwt_svid(
                svid.token.reveal(), audience="https://reports.test"
            )
            assert svid.id == offline.id == online.id
            assert ["https://reports.test"] == list(online.claims["aud"])


async def test_rotations_under_load_between_two_processes(tag: str, spire: Spire) -> None:
    """At least three live rotations on both ends, and not one failed request."""
    with registered(spire, f"/{tag}-caller", f"/{tag}-callee", ttl=SHORT):
        async with Workload(spire.endpoint, timeout=40, hint=f"{tag}-caller") as me:
            with service(spire, f"{tag}-callee", "here.test") as url:
                mine, theirs, calls = set(), set(), 0
                async with me.http(peer=f"spiffe://here.test/{tag}-callee", drain=1.0) as http:
                    with anyio.fail_after(90):
                        while len(mine) < 4 or len(theirs) < 4:
                            response = await http.get(url)
                            assert 200 == response.status_code
                            mine.add(me.x509_svid.serial_number)
                            theirs.add(response.text)
                            calls += 1
                print(f"{calls} calls, {len(mine) - 1} + {len(theirs) - 1} rotations, 0 failures")
                assert 100 < calls


async def test_agent_killed_and_restarted(tag: str, spire: Spire) -> None:
    """A dead agent costs nothing that is held; a new one is noticed without help."""
    with registered(spire, f"/{tag}-survivor", ttl=3600):
        async with Workload(spire.endpoint, timeout=40, hint=f"{tag}-survivor") as me:
            with service(spire, f"{tag}-survivor", "here.test") as url:
                async with me.http(peer=f"spiffe://here.test/{tag}-survivor") as http:
                    before = me.health.last_update
                    await anyio.to_thread.run_sync(lambda: spire.stop_agent(kill=True))
                    await until(lambda: me.health.state == "degraded", "the outage shows in health")
                    assert 200 == (await http.get(url)).status_code
                    await anyio.to_thread.run_sync(spire.start_agent)
                    await until(lambda: me.health.state == "fresh", "the new agent is used")
                    assert before is not None
                    assert 200 == (await http.get(url)).status_code


async def test_entry_deleted_fails_closed(tag: str, spire: Spire) -> None:
    """An identity that is withdrawn stops working here, and peers hear nothing from it."""
    with registered(spire, f"/{tag}-doomed", f"/{tag}-judge") as (doomed, _):
        with service(spire, f"{tag}-judge", "here.test") as url:
            async with Workload(spire.endpoint, timeout=40, hint=f"{tag}-doomed", grace=0.5) as me:
                async with me.http(peer=f"spiffe://here.test/{tag}-judge") as http:
                    assert 200 == (await http.get(url)).status_code
                    await anyio.to_thread.run_sync(spire.deregister, doomed)
                    await until(lambda: me.health.state == "withdrawn", "the identity is withdrawn")
                    with pytest.raises(StaleError) as e:
                        _ = me.x509_svid
                    assert "withdrawn" == e.value.reason
                    with pytest.raises(httpx.HTTPError):
                        await http.get(url)


async def test_two_trust_domains_federated(tag: str, spire: Spire, other: Spire) -> None:
    """Each side verifies the other against the other's own bundle; the right ID is still asked for."""
    with registered(spire, f"/{tag}-west", federates_with="there.test"), registered(
        other, f"/{tag}-east", federates_with="here.test"
    ):
        async with Workload(spire.endpoint, timeout=40, hint=f"{tag}-west") as me:
            await until(lambda: TrustDomain("there.test") in me.x509_context.bundles, "the federated bundle")
            with service(other, f"{tag}-east", "here.test") as url:
                async with me.http(peer=f"spiffe://there.test/{tag}-east") as http:
                    assert 200 == (await http.get(url)).status_code
                async with me.http(peer=member_of("here.test")) as http:
                    with pytest.raises(httpx.ConnectError) as e:
                        await http.get(url)
                    assert find(e.value, PeerError)

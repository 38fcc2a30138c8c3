"""The front door opens every room, on a real socket, and adds nothing of its own."""

from __future__ import annotations

import gc
import logging
import os
import ssl
import sys

import anyio
import httpx
import pytest

from spiffe_client import (
    EndpointError,
    FirstUpdateTimeoutError,
    InvalidIdError,
    PeerError,
    SourceClosedError,
    StaleError,
    UnavailableError,
    Workload,
    X509Source,
    allow,
    member_of,
)
from spiffe_client._retry import Backoff
from spiffe_client.errors import find
from spiffe_client.workload_api import RotatingX509Source, X509ContextSource
from tests.support.manual_clock import ManualClock

pytestmark = pytest.mark.anyio

BILLING = "spiffe://prod.example/billing"


class TestOpening:
    async def test_three_lines(self, dev, monkeypatch) -> None:
        """With the address in the environment nothing has to be said."""
        monkeypatch.setenv("SPIFFE_ENDPOINT_SOCKET", dev.endpoint)
        async with Workload() as me:
            assert BILLING == str(me.id)
            assert me.id == me.x509_svid.id
            assert me.x509_bundles is me.x509_context.bundles
            assert "fresh" == me.health.state

    async def test_open_and_aclose(self, dev) -> None:
        """Where `async with` does not fit; closing twice is closing once."""
        me = Workload(dev.endpoint)
        assert me is await me.open()
        await me.aclose()
        await me.aclose()
        with pytest.raises(SourceClosedError, match="^this Workload was closed"):
            _ = me.x509_context
        with pytest.raises(SourceClosedError, match="^this Workload was closed; make a new one"):
            await me.open()

    async def test_not_open(self, dev) -> None:
        """The error speaks of what the user holds."""
        with pytest.raises(SourceClosedError, match="^this Workload was not opened yet: use `async with W"):
            _ = Workload(dev.endpoint).id

    @pytest.mark.parametrize("endpoint", ["", "/run/agent.sock", "https://agent", "tcp://agent.example:80"])
    async def test_a_malformed_address(self, endpoint) -> None:
        """Workload Endpoint §4: it fails at once, where it is written."""
        with pytest.raises(EndpointError):
            Workload(endpoint)

    async def test_no_address(self, monkeypatch) -> None:
        """Workload Endpoint §4: no argument and no variable is an error that names the variable."""
        monkeypatch.delenv("SPIFFE_ENDPOINT_SOCKET", raising=False)
        with pytest.raises(EndpointError, match="SPIFFE_ENDPOINT_SOCKET"):
            Workload()

    async def test_no_agent(self, tmp_path) -> None:
        """The deadline's error says that the socket is missing, and has that as its cause."""
        path, clock, heard = tmp_path / "agent.sock", ManualClock(), anyio.Event()
        me = Workload(f"unix://{path}", timeout=60, clock=clock, on_event=lambda _: heard.set())

        async def pass_the_time() -> None:
            await heard.wait()
            await clock.advance(60)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pass_the_time)
            with pytest.raises(FirstUpdateTimeoutError, match=str(path)) as e:
                await me.open()
        assert isinstance(e.value.__cause__, UnavailableError)
        assert "missing" == e.value.__cause__.cause_kind

    async def test_errors_of_the_body_arrive_bare(self, dev) -> None:
        """A KeyError inside `async with` is a KeyError, not an ExceptionGroup."""
        with pytest.raises(KeyError, match="mine"):
            async with Workload(dev.endpoint) as me:
                await me.jwt_svid("reports")
                raise KeyError("mine")

    async def test_the_settings_reach_the_sources(self, dev) -> None:
        """Hint, picker and events are those of the sources."""
        dev.register("spiffe://prod.example/other", any=True, hint="other")
        events = []
        async with Workload(dev.endpoint, hint="other", on_event=events.append) as me:
            assert "spiffe://prod.example/other" == str(me.id)
        async with Workload(dev.endpoint, picker=lambda svids: svids[-1]) as me:
            assert "spiffe://prod.example/other" == str(me.id)
        assert "svid.updated" == events[0].name


class TestFreshness:
    async def test_updates(self, dev) -> None:
        """What the agent pushes is read at once, awaited, and iterated."""
        async with Workload(dev.endpoint) as me:
            before, changes = me.x509_context, me.changes()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(me.wait_updated)
                await dev.rotate()
            assert before is not me.x509_context
            assert me.x509_context is await anext(changes)

    async def test_it_is_a_source_itself(self, dev) -> None:
        """Whoever takes a rotating source takes a workload."""

        class Listener:
            def __init__(self) -> None:
                self.heard = []

            def before(self, context) -> None:
                self.heard.append(context)

            def after(self) -> None:
                self.heard.append(me.x509_context)

        listener = Listener()
        async with Workload(dev.endpoint) as me:
            source: X509ContextSource = me
            assert isinstance(source, RotatingX509Source)
            me.before_publish(listener.before)
            me.after_publish(listener.after)
            changes = me.changes()
            await dev.rotate()
            current = await anext(changes)
            assert [current, current] == listener.heard

    async def test_an_agent_that_restarts(self, dev) -> None:
        """Issue: an agent that comes back is used within a second; nothing is lost meanwhile."""
        events = []
        gone, back = anyio.Event(), anyio.Event()
        told = {"source.unavailable": gone, "source.recovered": back}

        def hear(event) -> None:
            events.append(event)
            if event.name in told:
                told[event.name].set()

        async with Workload(dev.endpoint, on_event=hear) as me:
            held = me.x509_svid
            with anyio.fail_after(20):
                await dev.stop_serving()
                await gone.wait()
                assert held is me.x509_svid
                assert "degraded" == me.health.state
                await dev.resume()
                await back.wait()
            assert "fresh" == me.health.state
        # How often it was tried meanwhile is a matter of the machine; each trouble is told aloud once.
        aloud = [event.message for event in events if event.level >= logging.WARNING]
        assert len(aloud) == len(set(aloud)) > 0
        names = [event.name for event in events]
        assert 1 == names.count("source.recovered")
        assert names.index("source.unavailable") < names.index("source.recovered")

    async def test_a_withdrawn_identity(self, dev) -> None:
        """Workload API §4.4, on a real socket: withdrawn, nothing is served; issued again, it is."""
        withdrawn = anyio.Event()

        def hear(event) -> None:
            if event.name == "svid.withdrawn":
                withdrawn.set()

        async with Workload(dev.endpoint, grace=0, on_event=hear) as me:
            with anyio.fail_after(20):
                dev.deregister(BILLING)
                await withdrawn.wait()
                with pytest.raises(StaleError):
                    _ = me.id
                dev.register(BILLING, any=True)
                await me.wait_updated()
            assert BILLING == str(me.id)


class TestTokens:
    async def test_jwt_svid(self, dev) -> None:
        """Fetched at first use, then from memory; verified offline on the other side."""
        async with Workload(dev.endpoint) as me:
            svid = await me.jwt_svid("reports", "ledger")
            assert svid is await me.jwt_svid(["ledger", "reports"])
            assert svid is not await me.jwt_svid("reports", "ledger", subject=BILLING)
            caller = await me.verify_jwt_svid(svid.token.reveal(), audience="reports")
            assert me.id == caller.id

    async def test_verifying_first(self, dev) -> None:
        """A workload that only verifies waits for the bundles at its first token."""
        token = dev.ca.issue_jwt_svid("spiffe://prod.example/orders", "billing")
        async with Workload(dev.endpoint) as me:
            assert "spiffe://prod.example/orders" == str((await me.verify_jwt_svid(token, "billing")).id)

    async def test_a_cancelled_first_user_harms_nobody(self, dev) -> None:
        """Who gives up during the very first use does not close the tokens for all."""
        async with Workload(dev.endpoint) as me:
            with anyio.CancelScope() as scope:
                scope.cancel()
                await me.jwt_svid("reports")
            assert me.id == (await me.jwt_svid("reports")).id

    async def test_closed(self, dev) -> None:
        """No tokens before opening and after closing."""
        me = Workload(dev.endpoint)
        for _ in range(2):
            with pytest.raises(SourceClosedError):
                await me.jwt_svid("reports")
            with pytest.raises(SourceClosedError):
                await me.verify_jwt_svid("token", "reports")
            if me.health.last_update is None:
                async with me:
                    await me.jwt_svid("reports")


class TestChannels:
    async def test_mtls_both_ends(self, dev, who_calls) -> None:
        """A server and a client of one workload prove who they are to each other, across rotations."""
        async with Workload(dev.endpoint) as me, who_calls(me, allow(BILLING)) as url:
            async with me.http(peer=BILLING, timeout=20) as http:
                assert BILLING == (await http.get(url)).text
                changes = me.changes()
                await dev.rotate()
                await anext(changes)
                assert BILLING == (await http.get(url)).text
            async with httpx.AsyncClient(verify=me.tls(peer=member_of("prod.example"))) as http:
                assert BILLING == (await http.get(url)).text

    async def test_a_stranger_is_refused(self, dev, who_calls) -> None:
        """Who is not the peer that was named gets no request."""
        async with Workload(dev.endpoint) as me, who_calls(me, member_of("prod.example")) as url:
            async with me.http(peer="spiffe://prod.example/orders") as http:
                with pytest.raises(httpx.ConnectError) as e:
                    await http.get(url)
        assert "spiffe://prod.example/billing" == str(find(e.value, PeerError).peer)

    async def test_blocking_client(self, dev, who_calls) -> None:
        """`http_sync` serves code that blocks in a thread."""
        async with Workload(dev.endpoint) as me, who_calls(me, allow(BILLING)) as url:

            def call() -> str:
                with me.http_sync(peer=BILLING, timeout=20) as http:
                    return http.get(url).text

            assert BILLING == await anyio.to_thread.run_sync(call)

    async def test_tls_options(self, dev) -> None:
        """Options of `SpiffeTls` are passed on; the contexts are plain ones."""
        async with Workload(dev.endpoint) as me:
            for make in (me.tls, me.server_tls):
                context = make(peer=BILLING, minimum_version=ssl.TLSVersion.TLSv1_2, alpn=["h2"])
                assert ssl.SSLContext is type(context)
                assert ssl.TLSVersion.TLSv1_2 == context.minimum_version

    @pytest.mark.parametrize("make", ["tls", "server_tls", "http", "http_sync"])
    async def test_a_peer_is_needed(self, dev, make) -> None:
        """Design, decision 11: there is no default peer, and a whole trust domain is not one by accident."""
        async with Workload(dev.endpoint) as me:
            with pytest.raises(TypeError):
                getattr(me, make)()
            with pytest.raises(TypeError, match="peer="):
                getattr(me, make)(peer=None)
            with pytest.raises(InvalidIdError, match="member_of"):
                getattr(me, make)(peer="spiffe://prod.example")

    async def test_contexts_are_prepared_and_not_kept(self, dev) -> None:
        """Trap: subscriber leaks. A context's next generation is built ahead while it lives, and no longer."""
        async with Workload(dev.endpoint) as me:
            contexts = [me.tls(peer=BILLING), me.server_tls(peer=BILLING)]
            gc.collect()
            assert 2 == len(me._x509._feed.before) == len(me._tls)
            contexts.clear()
            gc.collect()
            assert 0 == len(me._x509._feed.before) == len(me._tls)


async def test_no_threads(dev) -> None:
    """Figure `os_threads`: live identities and tokens need no thread beside the main one."""
    code = f"""
import os, anyio
from spiffe_client import Workload
async def main():
    async with Workload({dev.endpoint!r}) as me:
        await me.verify_jwt_svid((await me.jwt_svid("a")).token.reveal(), "a")
        print(len(os.listdir("/proc/self/task")))
anyio.run(main)
"""
    run = await anyio.run_process([sys.executable, "-W", "error", "-c", code])
    assert b"1\n" == run.stdout


async def test_the_rooms_alone(dev) -> None:
    """What the front door does can be done without it."""
    from spiffe_client import WorkloadApiClient

    async with X509Source(WorkloadApiClient(dev.endpoint), backoff=Backoff(first=0.01)) as source:
        assert BILLING == str(source.svid.id)
        assert os.getpid() == source._lifetime._pid

"""Bundles of other trust domains, kept fresh: polling, keeping the last good one, following rotation."""

from __future__ import annotations

import gc
import os

import anyio
import pytest

from spiffe_client.errors import (
    BundleEndpointError,
    BundleError,
    FederationError,
    PeerUnverifiedError,
    SourceClosedError,
    TlsConfigurationError,
)
from spiffe_client.http.federation import FederatedBundleSource, SpiffeEndpoint, WebEndpoint
from spiffe_client.http.federation import _poll
from spiffe_client.ids import SpiffeId, TrustDomain

pytestmark = pytest.mark.anyio

B, OTHER = TrustDomain("b.test"), TrustDomain("other.test")
SERVER = SpiffeId.parse("spiffe://b.test/bundle-server")


@pytest.fixture
def make(clock, ear):
    """Makes sources that live by the test's clock."""

    def make(*endpoints, **options) -> FederatedBundleSource:
        return FederatedBundleSource(endpoints, clock=clock, on_event=ear, timeout=5, **options)

    return make


class TestReading:
    async def test_both_kinds_apart(self, world, make, ear) -> None:
        """FD §4.2: X.509 and JWT authorities, under the name of their trust domain."""
        with world.serving():
            async with make(world.spiffe()) as source:
                assert world.ca.x509_bundle == source.x509_bundles[B]
                assert world.ca.jwt_bundle == source.jwt_bundles[B]
                assert "fresh" == source.health[B].state
        assert ["bundle.updated"] == ear.names

    async def test_web_endpoint(self, world, make) -> None:
        """FD §5.2.1: with a private web PKI said explicitly."""
        with world.serving():
            async with make(world.web(), ssl_context=world.web_pki) as source:
                assert world.ca.x509_bundle == source.x509_bundles[B]

    async def test_web_endpoint_of_the_public(self, world, make) -> None:
        """FD §5.2.1.4: without one, public authorities count, and none of them knows this server."""
        with world.serving():
            async with make(world.web()) as source:
                assert isinstance(source.health[B].last_error, FederationError)

    async def test_domains_are_never_merged(self, world, make) -> None:
        """FD §4.2: each trust domain has its own bundle, also from one server."""
        with world.serving() as server:
            other = SpiffeEndpoint(OTHER, server.url("/other"), SERVER, world.ca.spiffe_bundle)
            async with make(world.spiffe(), other) as source:
                assert {B, OTHER} == set(source.x509_bundles)
                assert OTHER == source.x509_bundles[OTHER].trust_domain

    async def test_configured_bundle_vouches_for_nobody(self, world, make) -> None:
        """FD §5.2.2.2: the first bundle verifies the endpoint's server; what is trusted must be fetched."""
        endpoint = SpiffeEndpoint(B, "https://127.0.0.1:9/", SERVER, world.ca.spiffe_bundle)
        async with make(endpoint) as source:
            assert B not in source.x509_bundles
            assert "waiting" == source.health[B].state


class TestPolling:
    async def test_by_the_refresh_hint(self, world, make, clock) -> None:
        """FD §4.1: at the frequency of `spiffe_refresh_hint`, a little early so that all do not come at once."""
        with world.serving() as server:
            async with make(world.spiffe()):
                await clock.wait_naps(1)
                assert 54 <= clock.naps.value <= 60
                await clock.pass_interval(60)
                assert 2 == len(server.paths)

    @pytest.mark.parametrize(
        ("hint", "least", "most"), [(None, 270, 300), (0, 270, 300), (1, 9, 10), (2**64 - 1, 77760, 86400)]
    )
    async def test_odd_hints(self, world, make, clock, document, hint, least, most) -> None:
        """FD §4.1: five minutes by default; never a tight loop, never so rare that nothing is revoked."""
        with world.serving() as server:
            server.document = document(world.ca, spiffe_refresh_hint=hint)
            async with make(world.spiffe()):
                await clock.wait_naps(1)
                assert least <= clock.naps.value <= most

    async def test_change_is_published(self, world, make, clock, ear) -> None:
        """FD §4.1: who waits for news gets them; a look that brings none wakes nobody."""
        with world.serving():
            async with make(world.spiffe()) as source, anyio.create_task_group() as tasks:
                await clock.wait_naps(1)
                news = anyio.Event()

                async def wait() -> None:
                    await source.wait_updated()
                    news.set()

                tasks.start_soon(wait)
                await clock.pass_interval()
                assert not news.is_set()
                world.ca.rotate_x509_authority()
                await clock.pass_interval()
                await news.wait()
                assert world.ca.x509_bundle == source.x509_bundles[B]
        assert ["bundle.updated", "bundle.updated"] == ear.names

    async def test_failure_keeps_the_last_good_bundle(self, world, make, clock, ear) -> None:
        """FD §4.1: what failed is tried at the next interval, and nothing that is held is lost."""
        with world.serving() as server:
            async with make(world.spiffe()) as source:
                await clock.wait_naps(1)
                server.status = 500
                await clock.pass_interval()
                assert world.ca.x509_bundle == source.x509_bundles[B]
                assert "degraded" == source.health[B].state
                assert 1 == source.health[B].attempts
                assert 54 <= clock.naps.value <= 60
                server.status = 200
                await clock.pass_interval()
                assert "fresh" == source.health[B].state
        assert ["bundle.updated", "source.unavailable", "source.recovered"] == ear.names

    async def test_first_failure_keeps_nobody_from_starting(self, world, make, clock, ear) -> None:
        """FD §4.1: one endpoint that is away costs only its own trust domain, until it is back."""
        with world.serving() as server:
            server.redirects = {"/other": "/other"}
            other = SpiffeEndpoint(OTHER, server.url("/other"), SERVER, world.ca.spiffe_bundle)
            async with make(world.spiffe(), other) as source:
                await clock.wait_naps(2)
                assert {B} == set(source.x509_bundles)
                assert isinstance(source.health[OTHER].last_error, FederationError)
                server.redirects = {}
                await clock.advance(300)  # the other endpoint is looked at meanwhile, once or more
                with anyio.fail_after(20):
                    while OTHER not in source.x509_bundles:
                        await source.wait_updated()
                assert {B, OTHER} == set(source.x509_bundles)
        assert any("there is none yet" in e.message for e in ear.events)

    async def test_lower_sequence(self, world, make, clock, ear) -> None:
        """FD §4.2: an older document is refused and reported, the newer one stays."""
        first = world.ca.spiffe_bundle.to_json()
        world.ca.prepare_x509_authority()
        with world.serving() as server:
            async with make(world.spiffe()) as source:
                await clock.wait_naps(1)
                server.document = first
                await clock.pass_interval()
                assert world.ca.x509_bundle == source.x509_bundles[B]
                assert isinstance(source.health[B].last_error, BundleError)
        assert ["bundle.updated", "bundle.refused"] == ear.names
        assert "went back from sequence 2 to 1" in ear.events[1].message

    async def test_redirect_is_not_remembered(self, world, make, clock) -> None:
        """FD §5.2.1.4, §7: each look begins at the configured URL."""
        with world.serving() as server:
            server.redirects = {"/bundle": "/cdn"}
            async with make(world.spiffe()):
                await clock.wait_naps(1)
                await clock.pass_interval()
        assert ["/bundle", "/cdn"] * 2 == server.paths


class TestTheServersOwnAuthority:
    async def test_rotation_is_followed(self, world, make, clock) -> None:
        """FD §5.2.2.4: each bundle verifies the next connection, so the endpoint's keys can change."""
        configured = world.spiffe
        with world.serving() as server:
            async with make(configured()) as source:
                await clock.wait_naps(1)
                for _ in range(2):
                    world.ca.prepare_x509_authority()
                    await clock.pass_interval()
                    world.ca.rotate_x509_authority()
                    world.ca.retire_old_authorities()
                    world.serve_as(world.ca.issue_x509_svid(SERVER))
                    await clock.pass_interval()
                    assert world.ca.x509_bundle == source.x509_bundles[B]
                    assert "fresh" == source.health[B].state
        assert 5 == len(server.paths)

    async def test_retired_authority_is_refused(self, world, make, clock, ear) -> None:
        """FD §5.2.2.4: the configured bundle does not count any more once a newer one is held."""
        before = world.ca.issue_x509_svid(SERVER)
        with world.serving():
            async with make(world.spiffe()) as source:
                await clock.wait_naps(1)
                world.ca.prepare_x509_authority()
                await clock.pass_interval()
                world.ca.rotate_x509_authority()
                world.ca.retire_old_authorities()
                world.serve_as(world.ca.issue_x509_svid(SERVER))
                await clock.pass_interval()
                world.serve_as(before)
                await clock.pass_interval()
                assert isinstance(source.health[B].last_error, PeerUnverifiedError)
                assert world.ca.x509_bundle == source.x509_bundles[B]
        assert "peer.refused" == ear.names[-1]

    async def test_of_another_endpoint(self, world, make, clock) -> None:
        """FD §5.2.2.4: the server's trust domain is followed by an endpoint of its own, and that one counts."""
        with world.serving() as server:
            other = SpiffeEndpoint(OTHER, server.url("/other"), SERVER, world.ca.spiffe_bundle)
            async with make(other, world.spiffe()) as source:
                await clock.wait_naps(2)
                world.ca.prepare_x509_authority()
                await clock.pass_interval()
                world.ca.rotate_x509_authority()
                world.ca.retire_old_authorities()
                world.serve_as(world.ca.issue_x509_svid(SERVER))
                await clock.pass_interval()
                assert {"fresh"} == {health.state for health in source.health.values()}

    async def test_everything_revoked(self, world, make, clock, document) -> None:
        """TB §4.1.3: no keys means trust nobody, and that includes the endpoint's own server."""
        with world.serving() as server:
            async with make(world.spiffe()) as source:
                await clock.wait_naps(1)
                server.document = document(world.ca, keys=[], spiffe_sequence=9)
                await clock.pass_interval()
                assert () == source.x509_bundles[B].authorities
                assert () == source.jwt_bundles[B].authorities
                server.document = document(world.ca, spiffe_sequence=10)
                await clock.pass_interval()
                assert () == source.x509_bundles[B].authorities
                assert isinstance(source.health[B].last_error, PeerUnverifiedError)


class TestParameters:
    def test_none(self, make) -> None:
        """No endpoint is a mistake."""
        with pytest.raises(BundleEndpointError, match="at least one"):
            make()

    def test_two_for_one_domain(self, make) -> None:
        """FD §4.2: a trust domain has one bundle."""
        endpoints = [WebEndpoint(B, f"https://{host}.b.test/") for host in "xy"]
        with pytest.raises(BundleEndpointError, match=r"two bundle endpoints for trust domain b\.test"):
            make(*endpoints)

    def test_context_without_use(self, world, make) -> None:
        """FD §5.2.2: web PKI has no say about https_spiffe."""
        with pytest.raises(TlsConfigurationError, match="for web endpoints"):
            make(world.spiffe(), ssl_context=world.web_pki)

    def test_lax_context(self, world, make) -> None:
        """FD §5.2.1.4: host names are verified."""
        context = world.web_pki
        context.check_hostname = False
        with pytest.raises(TlsConfigurationError, match="must verify"):
            make(WebEndpoint(B, "https://b.test/"), ssl_context=context)


class TestLifetime:
    async def test_before_and_after(self, world, make) -> None:
        """Reads raise before opening and after closing, and say which."""
        with world.serving():
            source = make(world.spiffe())
            with pytest.raises(SourceClosedError, match="not opened"):
                _ = source.x509_bundles
            assert source is await source.open()
            await source.aclose()
            await source.aclose()
            for read in (lambda: source.x509_bundles, lambda: source.jwt_bundles):
                with pytest.raises(SourceClosedError, match="was closed"):
                    read()
            with pytest.raises(SourceClosedError):
                await source.wait_updated()
            assert "closed" == source.health[B].state

    async def test_closed_while_somebody_waits(self, world, make) -> None:
        """Nobody waits for a closed source for ever."""
        with world.serving():
            source = await make(world.spiffe()).open()
            async with anyio.create_task_group() as tasks:

                async def wait() -> None:
                    with pytest.raises(SourceClosedError):
                        await source.wait_updated()

                tasks.start_soon(wait)
                await anyio.wait_all_tasks_blocked()
                await source.aclose()

    async def test_closed_while_opening(self, world, make) -> None:
        """Opening ends with a typed error."""
        with world.serving() as server:
            server.silent_at = {"/bundle"}
            source = make(world.spiffe())
            async with anyio.create_task_group() as tasks:

                async def open_it() -> None:
                    with pytest.raises(SourceClosedError):
                        await source.open()

                tasks.start_soon(open_it)
                await anyio.wait_all_tasks_blocked()
                await source.aclose()

    async def test_crash_fails_closed(self, world, make, monkeypatch, ear) -> None:
        """A bug ends the source, aloud, and serves nothing on."""

        async def broken(*_: object, **__: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(_poll, "fetch_bundle", broken)
        source = make(SpiffeEndpoint(B, "https://b.test/", SERVER, world.ca.spiffe_bundle))
        with pytest.raises(SourceClosedError, match="crashed: ZeroDivisionError"):
            await source.open()
        assert "source.crashed" in ear.names

    async def test_forgotten(self, world, make) -> None:
        """A source that is dropped without closing warns."""
        endpoint = SpiffeEndpoint(B, "https://127.0.0.1:9/", SERVER, world.ca.spiffe_bundle)
        source = await make(endpoint).open()
        lifetime = source._lifetime
        with pytest.warns(ResourceWarning, match="was not closed"):
            del source
            gc.collect()
        await lifetime.aclose()

    async def test_forked_child(self, world, make, monkeypatch) -> None:
        """A forked child must not serve a dead watcher's snapshot."""
        with world.serving():
            async with make(world.spiffe()) as source:
                with monkeypatch.context() as patch:
                    patch.setattr(os, "getpid", lambda: -1)
                    with pytest.raises(SourceClosedError, match="fork"):
                        _ = source.x509_bundles
                    assert "closed" == source.health[B].state

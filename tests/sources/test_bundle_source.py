"""A BundleSource knows whom to trust, X.509 and JWT apart, without an identity of its own."""

from __future__ import annotations

import anyio
import pytest

from spiffe_client import (
    BundleError,
    BundleSet,
    FirstUpdateTimeoutError,
    NoIdentityIssuedError,
    ProtocolError,
    SourceClosedError,
    StaleError,
    UnimplementedError,
)
from spiffe_client.dev import CertificateAuthority
from spiffe_client.sources import BundleSource
from spiffe_client.sources._bundles import Bundles
from tests.support.fake_workload_api import Refused
from tests.support.manual_clock import settle

pytestmark = pytest.mark.anyio


@pytest.fixture
def source(world) -> BundleSource:
    world.api.x509_bundles.greeting = [BundleSet([world.api.authority.x509_bundle])]
    return BundleSource(world.api, **world.terms)


async def test_both_kinds_apart(world, source) -> None:
    """Workload API §5.3, §6.4: each kind verifies its own kind of SVID and comes by its own stream."""
    td = world.api.authority.trust_domain
    async with source:
        assert world.api.authority.x509_bundle == source.x509_bundles[td]
        assert world.api.authority.jwt_bundle == source.jwt_bundles[td]
        assert "fresh" == source.health.state
        assert ["bundle.updated", "bundle.updated"] == world.names
        assert 0 == world.api.x509.opened


async def test_opening_waits_for_both(world, source) -> None:
    """One kind alone is not enough; the error says which is missing."""
    world.api.jwt_bundles.greeting = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(world.clock.advance, 31)
        with pytest.raises(FirstUpdateTimeoutError, match="the JWT bundles"):
            await source.open()
    assert not world.api.x509_bundles.live


async def test_no_such_call(world, source) -> None:
    """Workload Endpoint §6: an agent without one of the two says so at once."""
    world.api.jwt_bundles.greeting = [UnimplementedError("unknown method FetchJWTBundles")]
    with pytest.raises(UnimplementedError):
        await source.open()


async def test_what_is_absent_is_dropped_at_once(world, source) -> None:
    """Workload API §4.4: a federation that ended is trusted no longer."""
    other = CertificateAuthority("other.example", clock=world.clock)
    own = world.api.authority
    world.api.x509_bundles.greeting = [BundleSet([own.x509_bundle, other.x509_bundle])]
    async with source:
        seen = []

        async def wait() -> None:
            await source.wait_updated()
            seen.append(set(source.x509_bundles))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await settle()
            world.api.x509_bundles.say(BundleSet([own.x509_bundle]))
        assert [{own.trust_domain}] == seen
        assert ["the X.509 bundles: not issued any more, dropped: the bundle of other.example"] == world.told(
            "bundle.redacted"
        )


async def test_identical_delivery_is_no_update(world, source) -> None:
    """The same bundles again are the same object."""
    async with source:
        held = source.x509_bundles, source.jwt_bundles
        world.api.x509_bundles.say(BundleSet([world.api.authority.x509_bundle]))
        world.api.jwt_bundles.say(BundleSet([world.api.authority.jwt_bundle]))
        await settle()
        assert held[0] is source.x509_bundles
        assert held[1] is source.jwt_bundles


async def test_changes(world, source) -> None:
    """Each kind is iterated by itself, until the source is closed."""
    seen = []

    async def read(changes) -> None:
        async for bundles in changes:
            seen.append(bundles)

    async with anyio.create_task_group() as tasks:
        async with source:
            tasks.start_soon(read, source.x509_changes())
            tasks.start_soon(read, source.jwt_changes())
            world.api.authority.rotate_x509_authority()
            world.api.authority.rotate_jwt_authority()
            world.api.x509_bundles.say(BundleSet([world.api.authority.x509_bundle]))
            await settle()
            world.api.jwt_bundles.say(BundleSet([world.api.authority.jwt_bundle]))
            await settle()
            assert [source.x509_bundles, source.jwt_bundles] == seen


async def test_a_bad_message_costs_nothing(world, source) -> None:
    """Trap: one malformed update closing the source. The health is that of the worse stream."""
    async with source:
        held = source.jwt_bundles
        world.api.jwt_bundles.say(Refused(ProtocolError("field 1: truncated")))
        world.api.jwt_bundles.end()
        await settle()
        assert held is source.jwt_bundles
        assert "fresh" == source.health.state  # the stream was opened again, and confirmed what is held

        world.api.jwt_bundles.say(Refused(BundleError("other.example: not JSON")), held)
        await settle()
        assert "degraded" == source.health.state
        assert 2 == len(world.told("bundle.refused"))


async def test_only_useless_messages_and_the_end(world, source) -> None:
    """A stream that brought only refused messages was an answer: it is reopened without more blame."""
    async with source:
        bad = ProtocolError("field 1: truncated")
        world.api.jwt_bundles.greeting = [Refused(bad)]
        world.api.jwt_bundles.end()
        await settle()
        world.api.jwt_bundles.end()
        await world.clock.advance(1)
        assert bad is source.health.last_error


async def test_denied_bundles_are_dropped(world, source) -> None:
    """Workload API §4.4: who may not know the bundles any more trusts nobody."""
    async with source:
        world.api.jwt_bundles.down(NoIdentityIssuedError("no identity issued"))
        await world.clock.advance(5)
        assert "withdrawn" == source.health.state
        with pytest.raises(StaleError):
            _ = source.jwt_bundles
        assert world.api.authority.trust_domain in source.x509_bundles
        assert 1 == len(world.told("bundle.withdrawn"))


async def test_denied_bundles_are_kept_on_request(world) -> None:
    """The documented opt-out: bundles have no end, so they stay."""
    world.api.x509_bundles.greeting = [BundleSet([world.api.authority.x509_bundle])]
    async with BundleSource(world.api, on_redaction="keep-until-expiry", **world.terms) as source:
        world.api.x509_bundles.down(NoIdentityIssuedError("no identity issued"))
        await world.clock.advance(600)
        assert world.api.authority.trust_domain in source.x509_bundles


async def test_closed(source) -> None:
    """Before opening and after closing every read raises."""
    for _ in range(2):
        for read in (lambda: source.x509_bundles, lambda: source.jwt_bundles, source.x509_changes):
            with pytest.raises(SourceClosedError):
                read()
        with pytest.raises(SourceClosedError):
            await source.wait_updated()
        if source.health.last_update is None:
            async with source:
                pass


async def test_close_ends_waiting(source) -> None:
    """Who waits for an update of a source that is closed is told so."""
    seen = []

    async def wait() -> None:
        with pytest.raises(SourceClosedError):
            await source.wait_updated()
        seen.append(True)

    async with anyio.create_task_group() as tasks:
        async with source:
            tasks.start_soon(wait)
            await settle()
    assert [True] == seen


async def test_crash_of_one_closes_both(world, source) -> None:
    """A bug on one side does not leave the other side half alive."""
    async with source:
        world.api.jwt_bundles.say(ZeroDivisionError())
        await settle()
        with pytest.raises(SourceClosedError, match="crashed"):
            _ = source.x509_bundles


async def test_nothing_in_bundles_is_in_use(world) -> None:
    """What every topic is asked when a message was refused: bundles have no one thing in use."""
    topic, held = Bundles("the X.509 bundles", world.api.watch_x509_bundles), BundleSet([])
    assert not topic.revoked(held, held)

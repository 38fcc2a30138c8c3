"""What open streams are told, and when: each change at once, and nothing for nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import anyio
import pytest
from cryptography import x509

from spiffe_client._grpc import Status, StatusError
from spiffe_client.bundle import BundleSet, X509Bundle
from spiffe_client.dev import (
    CertificateAuthority,
    DevTrustDomain,
    Issuer,
    Registration,
    Registrations,
    Selectors,
)
from spiffe_client.errors import UnavailableError
from spiffe_client.ids import SpiffeId, TrustDomain
from spiffe_client.workload_api._jwt_messages import JwtBundlesResponse
from spiffe_client.workload_api._messages import X509BundlesResponse, X509SvidEntry, X509SvidResponse
from spiffe_client.workload_api._wit_messages import WitSvidResponse
from tests.support.raw_workload_api import RawWorkloadApi
from tests.support.stepping_clock import SteppingClock

pytestmark = pytest.mark.anyio

START = datetime(2030, 1, 1, tzinfo=UTC)
A, B = TrustDomain("a.test"), TrustDomain("b.test")
ORDERS = SpiffeId.parse("spiffe://a.test/orders")
BILLING = SpiffeId.parse("spiffe://a.test/billing")


@pytest.fixture
def clock() -> SteppingClock:
    return SteppingClock(START)


@pytest.fixture
async def domain(clock: SteppingClock) -> AsyncIterator[DevTrustDomain]:
    async with DevTrustDomain(A, clock=clock, svid_ttl=60) as domain:
        domain.register(ORDERS, any=True)
        yield domain


@pytest.fixture
def api(domain: DevTrustDomain) -> RawWorkloadApi:
    return RawWorkloadApi(domain.endpoint)


def leaf(entry: X509SvidEntry) -> x509.Certificate:
    return x509.load_der_x509_certificate(entry.x509_svid[: _der_length(entry.x509_svid)])


def _der_length(der: bytes) -> int:
    return 4 + int.from_bytes(der[2:4], "big")  # a certificate has between 256 and 65535 bytes


def roots(entry: X509SvidEntry) -> int:
    return len(X509Bundle.parse_der(A, entry.bundle).authorities)


class TestRotation:
    async def test_on_demand(self, domain: DevTrustDomain, api: RawWorkloadApi) -> None:
        """A new key and certificate for every open stream, now."""
        async with api.watch("FetchX509SVID", X509SvidResponse) as one, api.watch("FetchX509SVID", X509SvidResponse) as two:
            [before] = (await anext(one)).svids
            await anext(two)
            await domain.rotate()
            [after] = (await anext(one)).svids

            assert leaf(before).serial_number != leaf(after).serial_number
            assert before.x509_svid_key != after.x509_svid_key
            assert [after] == list((await anext(two)).svids)

    async def test_by_itself_at_half_of_the_life(
        self, domain: DevTrustDomain, api: RawWorkloadApi, clock: SteppingClock
    ) -> None:
        """Well before expiry, without anybody asking."""
        async with api.watch("FetchX509SVID", X509SvidResponse) as messages:
            [first] = (await anext(messages)).svids
            await clock.wait_sleepers()
            clock.step(29)
            assert [first] == list((await api.first("FetchX509SVID", X509SvidResponse)).svids)
            clock.step(1)
            [second] = (await anext(messages)).svids

        assert 60 == (leaf(first).not_valid_after_utc - START).total_seconds()
        assert 90 == (leaf(second).not_valid_after_utc - START).total_seconds()

    async def test_wit_svids_too(self, domain: DevTrustDomain, api: RawWorkloadApi, clock: SteppingClock) -> None:
        """At half of their life, and on demand (experimental)."""
        async with api.watch("FetchWITSVID", WitSvidResponse) as messages:
            seen = [await anext(messages)]
            await clock.wait_sleepers()
            clock.step(30)
            seen.append(await anext(messages))
            await domain.rotate()
            seen.append(await anext(messages))

        assert 3 == len({m.svids[0].wit_svid_key for m in seen})

    async def test_each_registration_at_its_own_pace(
        self, domain: DevTrustDomain, api: RawWorkloadApi, clock: SteppingClock
    ) -> None:
        """A short-lived identity does not drag the others along."""
        domain.register(BILLING, any=True, ttl=10)
        async with api.watch("FetchX509SVID", X509SvidResponse) as messages:
            orders, billing = (await anext(messages)).svids
            await clock.wait_sleepers()
            clock.step(5)
            orders_2, billing_2 = (await anext(messages)).svids

        assert orders == orders_2
        assert leaf(billing).serial_number != leaf(billing_2).serial_number

    async def test_an_authority_past_its_life_makes_no_busy_loop(self, clock: SteppingClock) -> None:
        """SVIDs end with their authority: what is left of a life is not halved for ever."""
        ca = CertificateAuthority(A, ttl=10, clock=clock)
        entry = Registration(ORDERS, Selectors(any_caller=True))
        issuer = Issuer(ca, Registrations((entry,)), svid_ttl=60, jwt_ttl=60, clock=clock)
        clock.step(20)
        assert issuer.x509_svids.current(entry).not_after < clock.now()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(issuer.wait_news, issuer.changes.version, issuer.x509_svids.due([entry]))
            await clock.wait_sleepers()
            assert [clock.now() + timedelta(seconds=0.5)] == clock.due
            clock.step(0.5)
        issuer.close()

    async def test_a_stream_that_it_does_not_concern_is_left_alone(
        self, domain: DevTrustDomain, api: RawWorkloadApi
    ) -> None:
        """JWT bundles have not changed when an X509-SVID was rotated."""
        async with api.watch("FetchJWTBundles", JwtBundlesResponse) as messages:
            first = await anext(messages)
            await domain.rotate()
            domain.ca.rotate_jwt_authority()
            second = await anext(messages)

        assert 1 == first.bundles["spiffe://a.test"].count(b'"kid"')
        assert 2 == second.bundles["spiffe://a.test"].count(b'"kid"')


class TestAuthorities:
    async def test_the_new_one_is_published_before_it_signs(
        self, domain: DevTrustDomain, api: RawWorkloadApi, clock: SteppingClock
    ) -> None:
        """A peer never meets an SVID whose root it was not told of; the old root stays until it is retired."""
        async with api.watch("FetchX509SVID", X509SvidResponse) as messages, anyio.create_task_group() as tasks:
            [before] = (await anext(messages)).svids
            tasks.start_soon(lambda: domain.rotate_authority(settle=5))
            [published] = (await anext(messages)).svids
            await clock.wait_sleepers(2)  # the renewal's and this one
            clock.step(5)
            [signed] = (await anext(messages)).svids
            await domain.retire_old_authorities()
            [retired] = (await anext(messages)).svids

        assert (before.x509_svid, 1, 2) == (published.x509_svid, roots(before), roots(published))
        assert (2, 1) == (roots(signed), roots(retired))
        assert leaf(before).serial_number != leaf(signed).serial_number
        assert signed.x509_svid == retired.x509_svid

    async def test_rotating_the_authority_itself_is_pushed_too(
        self, domain: DevTrustDomain, api: RawWorkloadApi
    ) -> None:
        """What is done to `.ca` needs no second word; no SVID of a retired root is served."""
        async with api.watch("FetchX509SVID", X509SvidResponse) as messages:
            await anext(messages)
            domain.ca.rotate_x509_authority()
            domain.ca.retire_old_authorities()
            [entry] = (await anext(messages)).svids

        assert 1 == roots(entry)
        bundle = X509Bundle.parse_der(A, entry.bundle)
        assert domain.ca.x509_bundle == bundle
        assert domain.ca.issuer.subject == leaf(entry).issuer

    async def test_others_follow_by_the_document(self, domain: DevTrustDomain, api: RawWorkloadApi) -> None:
        """A federated authority's rotation reaches this side's streams (SPIFFE Federation §5)."""
        other = DevTrustDomain(B)
        domain.federate_with(other)
        async with api.watch("FetchX509Bundles", X509BundlesResponse) as messages:
            await anext(messages)
            other.ca.rotate_x509_authority()
            bundles = (await anext(messages)).bundles

        assert other.ca.x509_bundle == X509Bundle.parse_der(B, bundles["spiffe://b.test"])


class TestRegistrations:
    async def test_a_new_identity_arrives(self, domain: DevTrustDomain, api: RawWorkloadApi) -> None:
        """The former ones stay as they are."""
        async with api.watch("FetchX509SVID", X509SvidResponse) as messages:
            [orders] = (await anext(messages)).svids
            domain.register(BILLING, any=True)
            both = (await anext(messages)).svids

        assert orders == both[0]
        assert [str(ORDERS), str(BILLING)] == [s.spiffe_id for s in both]

    async def test_a_withdrawn_identity_is_redacted(self, domain: DevTrustDomain, api: RawWorkloadApi) -> None:
        """The next message does not have it (Workload API §4.4)."""
        domain.register(BILLING, any=True)
        async with api.watch("FetchX509SVID", X509SvidResponse) as messages:
            await anext(messages)
            domain.deregister(ORDERS)
            left = (await anext(messages)).svids

        assert [str(BILLING)] == [s.spiffe_id for s in left]

    @pytest.mark.parametrize("method", ["FetchX509SVID", "FetchX509Bundles"])
    async def test_the_last_one_withdrawn_ends_the_stream(
        self, domain: DevTrustDomain, api: RawWorkloadApi, method: str
    ) -> None:
        """With PermissionDenied, and again for who asks anew (Workload API §4.1)."""
        async with api.watch(method, X509BundlesResponse) as messages:
            await anext(messages)
            domain.deregister(ORDERS)
            for attempt in (lambda: anext(messages), lambda: api.first(method, X509BundlesResponse)):
                with pytest.raises(StatusError, match="no identity issued") as e:
                    await attempt()

                assert Status.PERMISSION_DENIED == e.value.status

    async def test_registered_again_it_is_issued_anew(self, domain: DevTrustDomain, api: RawWorkloadApi) -> None:
        """Nothing of a withdrawn identity is kept for later."""
        [before] = (await api.first("FetchX509SVID", X509SvidResponse)).svids
        domain.deregister(ORDERS)
        domain.register(ORDERS, any=True)
        [after] = (await api.first("FetchX509SVID", X509SvidResponse)).svids

        assert leaf(before).serial_number != leaf(after).serial_number


class TestFederation:
    async def test_bundles_come_and_go(self, domain: DevTrustDomain, api: RawWorkloadApi) -> None:
        """With the SVIDs, as one state (Workload API §4.6)."""
        other = DevTrustDomain(B)
        async with api.watch("FetchX509SVID", X509SvidResponse) as messages:
            seen = [await anext(messages)]
            domain.federate_with(other)
            seen.append(await anext(messages))
            domain.unfederate(other)
            seen.append(await anext(messages))

        assert [[], ["spiffe://b.test"], []] == [list(m.federated_bundles) for m in seen]
        assert 1 == len({m.svids for m in seen})


class TestEnd:
    @pytest.mark.parametrize("method", ["FetchX509SVID", "FetchJWTBundles"])
    async def test_streams_end_when_the_domain_closes(self, method: str) -> None:
        """At once: nobody hangs on a dead agent."""
        async with DevTrustDomain(A) as domain:
            domain.register(ORDERS, any=True)
            watch = RawWorkloadApi(domain.endpoint).watch(method, X509SvidResponse)
            messages = await watch.__aenter__()
            await anext(messages)
        with anyio.fail_after(20), pytest.raises((UnavailableError, StopAsyncIteration)):
            await anext(messages)
        await watch.__aexit__(None, None, None)

    async def test_a_client_that_does_not_read_holds_nobody_up(
        self, domain: DevTrustDomain, api: RawWorkloadApi, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Rotating waits for slow clients, but not for ever."""
        monkeypatch.setattr("spiffe_client.dev._streams._PATIENCE", 0.05)
        for n in range(300):
            domain.register(f"spiffe://a.test/{n}", any=True)
        async with api.watch("FetchX509SVID", X509SvidResponse) as messages:
            await anext(messages)
            with anyio.fail_after(20):
                await domain.rotate()  # more than the flow-control window holds
            assert 301 == len((await anext(messages)).svids)

    async def test_a_client_that_left_is_not_waited_for(self, domain: DevTrustDomain, api: RawWorkloadApi) -> None:
        """Streams that ended leave nothing behind."""
        await api.first("FetchX509SVID", X509SvidResponse)
        with anyio.fail_after(20):
            await domain.rotate()
            while domain._issuer.streams._told:
                await anyio.lowlevel.checkpoint()

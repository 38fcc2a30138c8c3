"""Another client, PyPI's `spiffe` over grpcio, is served like any other."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

import anyio
import pytest
import spiffe
from spiffe.workloadapi.errors import WorkloadApiError
from spiffe.workloadapi.x509_context import X509Context

from spiffe_client.dev import DevTrustDomain

pytestmark = pytest.mark.anyio

ORDERS = "spiffe://a.test/orders"

_T = TypeVar("_T")


@pytest.fixture
async def domain() -> AsyncIterator[DevTrustDomain]:
    async with DevTrustDomain("a.test") as domain:
        domain.federate_with(DevTrustDomain("b.test"))
        yield domain


async def in_thread(call: Callable[[], _T]) -> _T:
    """It blocks, so it runs beside the event loop that serves it."""
    with anyio.fail_after(20):
        return await anyio.to_thread.run_sync(call, abandon_on_cancel=True)


async def test_x509_context(domain: DevTrustDomain) -> None:
    """SVIDs, key, own and federated bundles (Workload API §5)."""
    domain.register(ORDERS, any=True)

    def fetch() -> X509Context:
        with spiffe.WorkloadApiClient(domain.endpoint) as client:
            return client.fetch_x509_context(timeout=10)

    context = await in_thread(fetch)
    own = context.x509_bundle_set.get_bundle_for_trust_domain(spiffe.TrustDomain("a.test"))

    assert ORDERS == str(context.default_svid.spiffe_id)
    assert context.default_svid.private_key.public_key() == context.default_svid.leaf.public_key()
    assert {"a.test", "b.test"} == {b.trust_domain.name for b in context.x509_bundle_set.bundles}
    assert own is not None
    assert set(domain.ca.x509_bundle.authorities) == set(own.x509_authorities)


async def test_bundles(domain: DevTrustDomain) -> None:
    """Both kinds, own and federated (Workload API §5.2.2, §6.2.2)."""
    domain.register(ORDERS, any=True)

    def fetch() -> tuple[spiffe.X509BundleSet, spiffe.JwtBundleSet]:
        with spiffe.WorkloadApiClient(domain.endpoint) as client:
            return client.fetch_x509_bundles(timeout=10), client.fetch_jwt_bundles(timeout=10)

    for bundles in await in_thread(fetch):
        assert {"a.test", "b.test"} == {b.trust_domain.name for b in bundles.bundles}


async def test_jwt_svids(domain: DevTrustDomain) -> None:
    """Fetched, verified there by the bundle, and validated by us (Workload API §6)."""
    domain.register(ORDERS, any=True)

    def fetch() -> tuple[spiffe.JwtSvid, spiffe.JwtSvid, spiffe.JwtSvid]:
        with spiffe.WorkloadApiClient(domain.endpoint) as client:
            svid = client.fetch_jwt_svid(audience={"me", "you"}, timeout=10)
            bundle = client.fetch_jwt_bundles(timeout=10).get_bundle_for_trust_domain(spiffe.TrustDomain("a.test"))
            offline = spiffe.JwtSvid.parse_and_validate(svid.token, bundle, {"me"})
            return svid, offline, client.validate_jwt_svid(svid.token, "you", timeout=10)

    for svid in await in_thread(fetch):
        assert (ORDERS, {"me", "you"}) == (str(svid.spiffe_id), set(svid.audience))


async def test_rotations_reach_its_source(domain: DevTrustDomain) -> None:
    """Pushed on the open stream, beside other calls on the same connection."""
    domain.register(ORDERS, any=True)
    updated = threading.Event()

    def open_source() -> tuple[spiffe.WorkloadApiClient, spiffe.X509Source]:
        client = spiffe.WorkloadApiClient(domain.endpoint)
        source = spiffe.X509Source(client, timeout_in_seconds=10)
        source.subscribe_for_updates(updated.set)
        return client, source

    client, source = await in_thread(open_source)
    try:
        for _ in range(3):
            serial = source.get_x509_context().default_svid.leaf.serial_number
            updated.clear()
            await domain.rotate()
            assert await in_thread(lambda: updated.wait(10))
            assert serial != source.get_x509_context().default_svid.leaf.serial_number
            assert await in_thread(lambda: client.fetch_x509_svid(timeout=10)) is not None
    finally:
        await in_thread(source.close)
        await in_thread(client.close)


async def test_a_stranger_is_refused(domain: DevTrustDomain) -> None:
    """In words that it understands."""
    domain.register(ORDERS, uid=4_000_000)

    def fetch() -> None:
        with spiffe.WorkloadApiClient(domain.endpoint) as client:
            client.fetch_x509_svid(timeout=10)

    with pytest.raises(WorkloadApiError, match="no identity issued"):
        await in_thread(fetch)

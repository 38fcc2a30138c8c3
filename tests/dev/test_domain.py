"""A trust domain in one process: its life, its identities, its outages, its friends."""

from __future__ import annotations

import gc
import os
import stat
import sys
import weakref
from pathlib import Path

import anyio
import pytest

from spiffe_client._grpc import StatusError
from spiffe_client.bundle import SpiffeBundle
from spiffe_client.dev import CertificateAuthority, DevTrustDomain, Registrations
from spiffe_client.errors import (
    BundleError,
    BundleNotFoundError,
    EndpointError,
    InvalidIdError,
    RegistrationError,
)
from spiffe_client.ids import SpiffeId, TrustDomain
from spiffe_client.workload_api import WorkloadApiClient
from spiffe_client.workload_api._messages import X509BundlesResponse, X509SvidResponse
from tests.support.raw_workload_api import RawWorkloadApi

pytestmark = pytest.mark.anyio

A, B = TrustDomain("a.test"), TrustDomain("b.test")
ORDERS = SpiffeId.parse("spiffe://a.test/orders")
BILLING = SpiffeId.parse("spiffe://a.test/billing")


async def identities(endpoint: str) -> list[str]:
    response = await RawWorkloadApi(endpoint).first("FetchX509SVID", X509SvidResponse)
    return [s.spiffe_id for s in response.svids]


async def domains(endpoint: str) -> list[str]:
    response = await RawWorkloadApi(endpoint).first("FetchX509Bundles", X509BundlesResponse)
    return list(response.bundles)


class TestLife:
    async def test_its_directory_is_private_and_goes_with_it(self) -> None:
        """Sockets that give out keys are nobody else's business."""
        async with DevTrustDomain(A) as domain:
            directory = Path(domain.endpoint.removeprefix("unix:")).parent

            assert 0o700 == stat.S_IMODE(directory.stat().st_mode)
        assert not directory.exists()

    async def test_a_socket_of_ones_choice(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Also by a relative path; the file goes, its directory stays."""
        monkeypatch.chdir(tmp_path)
        async with DevTrustDomain(A, socket="api.sock", socket_mode=0o660) as domain:
            domain.register(ORDERS, any=True)

            assert f"unix://{tmp_path.resolve() / 'api.sock'}" == domain.endpoint
            assert 0o660 == stat.S_IMODE((tmp_path / "api.sock").stat().st_mode)
            assert [str(ORDERS)] == await identities(domain.endpoint)
        assert [] == list(tmp_path.iterdir())

    async def test_a_path_that_no_uri_can_have(self, tmp_path: Path) -> None:
        """The address is percent-encoded, so that it can be pasted (Workload Endpoint §4)."""
        async with DevTrustDomain(A, socket=tmp_path / "my ågent.sock") as domain:
            domain.register(ORDERS, any=True)

            assert f"unix://{tmp_path.resolve()}/my%20%C3%A5gent.sock" == domain.endpoint
            context = await WorkloadApiClient(domain.endpoint).fetch_x509_context()
            assert str(ORDERS) == str(context.svid.id)

    async def test_a_failed_start_leaves_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """No directory, no socket."""
        (tmp_path / "api.sock").touch()
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        with pytest.raises(EndpointError, match="not a socket"):
            async with DevTrustDomain(A, socket=tmp_path / "api.sock"):
                pass

        assert ["api.sock"] == [p.name for p in tmp_path.iterdir()]

    async def test_an_error_of_the_body_arrives_bare(self) -> None:
        """Not wrapped into an exception group."""
        with pytest.raises(KeyError, match="mine"):
            async with DevTrustDomain(A):
                raise KeyError("mine")

    async def test_cancelling_the_body_cleans_up(self) -> None:
        """A deadline around a test does not leave sockets behind."""
        with anyio.CancelScope() as scope:
            async with DevTrustDomain(A) as domain:
                directory = Path(domain.endpoint.removeprefix("unix:")).parent
                scope.cancel()
                await anyio.sleep_forever()

        assert scope.cancelled_caught
        assert not directory.exists()

    async def test_forgetting_it_warns(self) -> None:
        """As every resource that is not closed."""
        domain = DevTrustDomain(A)
        await domain.__aenter__()
        await domain.stop_serving()
        with pytest.warns(ResourceWarning, match="spiffe-dev-"):
            del domain
            gc.collect()

    async def test_it_opens_once(self) -> None:
        """Before it has no address, afterwards none any more."""
        domain = DevTrustDomain(A)
        with pytest.raises(EndpointError, match="not open"):
            domain.endpoint
        async with domain:
            with pytest.raises(EndpointError, match="opened before"):
                await domain.__aenter__()
        with pytest.raises(EndpointError, match="opened before"):
            await domain.__aenter__()
        for late in (domain.resume, lambda: domain.endpoint_for(ORDERS)):
            with pytest.raises(EndpointError, match="not open"):
                await late()

    def test_a_name_that_is_none(self) -> None:
        """Said before anything is made."""
        with pytest.raises(InvalidIdError):
            DevTrustDomain("not a name")

    def test_registrations_of_another_trust_domain(self) -> None:
        """Named with the place they were read from."""
        file = Registrations.parse(b'[[entry]]\nid = "spiffe://b.test/x"\nany = true', name="dev.toml")
        with pytest.raises(RegistrationError, match="dev.toml: entry 1: spiffe://b.test/x is not of the trust domain a.test"):
            DevTrustDomain(A, registrations=file)


class TestIdentities:
    async def test_this_process_by_all_selectors(self) -> None:
        """What the kernel says of us."""
        async with DevTrustDomain(A) as domain:
            entry = domain.register(
                ORDERS, uid=os.getuid(), gid=os.getgid(), pid=os.getpid(), ttl=5, hint="h", dns_names=["a"]
            )

            assert (entry,) == domain.registrations.entries
            assert [str(ORDERS)] == await identities(domain.endpoint)

    async def test_registrations_from_a_file(self) -> None:
        """As `spiffe-client dev` takes them."""
        file = Registrations.parse(b'[[entry]]\nid = "spiffe://a.test/orders"\nany = true')
        async with DevTrustDomain(A, registrations=file) as domain:
            assert [str(ORDERS)] == await identities(domain.endpoint)

    @pytest.mark.parametrize(
        ("spiffe_id", "options", "kind"),
        [
            (ORDERS, {}, RegistrationError),
            ("orders", {"any": True}, InvalidIdError),
            ("spiffe://b.test/x", {"any": True}, RegistrationError),
            ("spiffe://a.test", {"any": True}, RegistrationError),
            (ORDERS, {"any": True, "federates_with": ["a b"]}, InvalidIdError),
            (ORDERS, {"any": True, "dns_names": ["a b"]}, RegistrationError),
        ],
    )
    def test_a_mistake_registers_nothing(self, spiffe_id: str, options: dict[str, object], kind: type[Exception]) -> None:
        """A typed error, and all is as before."""
        domain = DevTrustDomain(A)
        with pytest.raises(kind):
            domain.register(spiffe_id, **options)

        assert 0 == len(domain.registrations)

    async def test_each_endpoint_of_its_own_serves_one_identity(self) -> None:
        """Several identities in one process; the shared socket knows nothing of them."""
        async with DevTrustDomain(A) as domain:
            domain.register(BILLING, own_endpoint=True, hint="b")
            orders, billing = await domain.endpoint_for(ORDERS), await domain.endpoint_for(BILLING)

            assert [str(ORDERS)] == await identities(orders)
            assert [str(BILLING)] == await identities(billing)
            assert orders == await domain.endpoint_for(str(ORDERS))
            assert Path(domain.endpoint.removeprefix("unix:")).parent == Path(orders.removeprefix("unix:")).parent
            with pytest.raises(StatusError, match="no identity issued"):
                await identities(domain.endpoint)

    async def test_a_registered_identity_gets_an_endpoint_too(self) -> None:
        """With the options that it was registered with, whoever it was meant for."""
        async with DevTrustDomain(A) as domain:
            domain.register(ORDERS, uid=4_000_000, hint="mine")
            response = await RawWorkloadApi(await domain.endpoint_for(ORDERS)).first("FetchX509SVID", X509SvidResponse)

            assert [(str(ORDERS), "mine")] == [(s.spiffe_id, s.hint) for s in response.svids]
            assert 1 == len(domain.registrations)

    async def test_withdrawing_reaches_its_own_endpoint(self) -> None:
        """And registering gives it back."""
        async with DevTrustDomain(A) as domain:
            endpoint = await domain.endpoint_for(ORDERS)
            domain.deregister(ORDERS)
            with pytest.raises(StatusError, match="no identity issued"):
                await identities(endpoint)
            domain.register(str(ORDERS), any=True)
            assert [str(ORDERS)] == await identities(endpoint)


class TestOutage:
    async def test_down_and_up_again(self) -> None:
        """All sockets go and come back at the same place, with the same identities."""
        async with DevTrustDomain(A) as domain:
            domain.register(ORDERS, any=True)
            endpoints = [domain.endpoint, await domain.endpoint_for(BILLING)]
            await domain.stop_serving()
            assert [False, False] == [Path(e.removeprefix("unix:")).exists() for e in endpoints]
            late = await domain.endpoint_for("spiffe://a.test/late")  # opens when all do
            assert not Path(late.removeprefix("unix:")).exists()
            await domain.resume()

            assert [[str(ORDERS)], [str(BILLING)]] == [await identities(e) for e in endpoints]
            assert ["spiffe://a.test/late"] == await identities(late)

    async def test_an_svid_survives_an_outage(self) -> None:
        """The authority did not go down, only its voice."""
        async with DevTrustDomain(A) as domain:
            domain.register(ORDERS, any=True)
            api = RawWorkloadApi(domain.endpoint)
            before = await api.first("FetchX509SVID", X509SvidResponse)
            await domain.stop_serving()
            await domain.resume()

            assert before == await api.first("FetchX509SVID", X509SvidResponse)


class TestFederation:
    async def test_it_is_one_sided(self) -> None:
        """That A trusts B gives B nothing (SPIFFE Federation §2)."""
        async with DevTrustDomain(A) as a, DevTrustDomain(B) as b:
            a.register(ORDERS, any=True)
            b.register("spiffe://b.test/x", any=True)
            a.federate_with(b)

            assert ["spiffe://a.test", "spiffe://b.test"] == await domains(a.endpoint)
            assert ["spiffe://b.test"] == await domains(b.endpoint)

    async def test_each_with_the_other(self) -> None:
        """Both directions, and a rotation runs in no circle."""
        a, b = DevTrustDomain(A), DevTrustDomain(B)
        a.federate_with(b)
        b.federate_with(a)
        await a.rotate_authority(settle=0)

        [document] = b._issuer.federation.bundles
        assert a.ca.spiffe_bundle == document

    @pytest.mark.parametrize("name", ["domain", "authority", "value", "text"])
    def test_ending_it(self, name: str) -> None:
        """By the other one, or its name."""
        a, b = DevTrustDomain(A), DevTrustDomain(B)
        a.federate_with(b.ca)
        a.unfederate({"domain": b, "authority": b.ca, "value": B, "text": "b.test"}[name])

        assert () == a._issuer.federation.bundles
        with pytest.raises(BundleNotFoundError, match="b.test"):
            a.unfederate(b)

    def test_mistakes(self) -> None:
        """With itself, or twice."""
        a = DevTrustDomain(A)
        with pytest.raises(BundleError, match="itself"):
            a.federate_with(CertificateAuthority(A))
        a.federate_with(CertificateAuthority(B))
        with pytest.raises(BundleError, match="already"):
            a.federate_with(CertificateAuthority(B))

    async def test_the_document_is_all_that_is_exchanged(self) -> None:
        """Sequence and hint arrive as another trust domain would read them."""
        a, b = DevTrustDomain(A), DevTrustDomain(B)
        a.federate_with(b)
        await b.rotate_authority(settle=0)
        [document] = a._issuer.federation.bundles

        assert SpiffeBundle.parse(B, b.ca.spiffe_bundle.to_json()) == document
        assert 5 == document.sequence

    async def test_a_closed_domain_is_not_kept_by_its_friends(self) -> None:
        """Subscriptions end with the subscriber: nothing piles up over many test domains."""
        b = DevTrustDomain(B)
        async with DevTrustDomain(A) as a:
            a.federate_with(b)
        gone = weakref.ref(a)
        del a
        gc.collect()
        gc.collect()

        b.ca.rotate_x509_authority()
        assert gone() is None or sys.implementation.name != "cpython"

"""Every call of the Workload API, over a real socket, without the package's own client."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
from cryptography.hazmat.primitives.serialization import load_der_private_key

from spiffe_client._grpc import Status, StatusError
from spiffe_client.bundle import BundleSet, JwtBundle, X509Bundle
from spiffe_client.dev import DevTrustDomain
from spiffe_client.ids import SpiffeId, TrustDomain
from spiffe_client.svid import X509Svid, verify_jwt_svid
from spiffe_client._clock import SYSTEM_CLOCK
from spiffe_client.workload_api._jwt_messages import (
    JwtBundlesResponse,
    JwtSvidRequest,
    JwtSvidResponse,
    ValidateJwtSvidRequest,
    ValidateJwtSvidResponse,
)
from spiffe_client.workload_api._messages import Empty, X509BundlesResponse, X509SvidResponse
from spiffe_client.workload_api._wit_messages import WitBundlesResponse, WitSvidRequest, WitSvidResponse
from tests.support.raw_workload_api import RawWorkloadApi

pytestmark = pytest.mark.anyio

A, B = TrustDomain("a.test"), TrustDomain("b.test")
ORDERS = SpiffeId.parse("spiffe://a.test/orders")
BILLING = SpiffeId.parse("spiffe://a.test/billing")
STREAMS = {
    "FetchX509SVID": X509SvidResponse,
    "FetchX509Bundles": X509BundlesResponse,
    "FetchJWTBundles": JwtBundlesResponse,
    "FetchWITSVID": WitSvidResponse,
    "FetchWITBundles": WitBundlesResponse,
}
REQUESTS = {
    "FetchJWTSVID": (JwtSvidRequest(("me",)), JwtSvidResponse),
    "ValidateJWTSVID": (ValidateJwtSvidRequest("me", "a.b.c"), ValidateJwtSvidResponse),
}


@pytest.fixture
async def domain() -> AsyncIterator[DevTrustDomain]:
    async with DevTrustDomain(A) as domain:
        yield domain


@pytest.fixture
def api(domain: DevTrustDomain) -> RawWorkloadApi:
    return RawWorkloadApi(domain.endpoint)


async def refusal(api: RawWorkloadApi, method: str, metadata: tuple[tuple[str, str], ...]) -> StatusError:
    """How a well-formed call is refused."""
    with pytest.raises(StatusError) as e:
        if method in STREAMS:
            await api.first(method, STREAMS[method], metadata=metadata)
        else:
            request, answer = REQUESTS[method]
            await api.call(method, request, answer, metadata=metadata)
    return e.value


class TestEveryCall:
    @pytest.mark.parametrize("method", [*STREAMS, *REQUESTS])
    @pytest.mark.parametrize("metadata", [(), (("workload.spiffe.io", "false"),), (("workload.spiffe.io", "True"),)])
    async def test_the_header_is_mandatory(
        self, domain: DevTrustDomain, api: RawWorkloadApi, method: str, metadata: tuple[tuple[str, str], ...]
    ) -> None:
        """Without it a forged cross-protocol request could be answered (Workload Endpoint §6.1)."""
        domain.register(ORDERS, any=True)
        error = await refusal(api, method, metadata)

        assert Status.INVALID_ARGUMENT == error.status
        assert "workload.spiffe.io" in error.details

    @pytest.mark.parametrize("method", [*STREAMS, *REQUESTS])
    async def test_a_stranger_gets_nothing(self, domain: DevTrustDomain, api: RawWorkloadApi, method: str) -> None:
        """No registration means this caller (Workload API §4.1)."""
        domain.register(ORDERS, uid=4_000_000)
        error = await refusal(api, method, (("workload.spiffe.io", "true"),))

        assert (Status.PERMISSION_DENIED, "no identity issued") == (error.status, error.details)

    async def test_there_is_no_other_call(self, api: RawWorkloadApi) -> None:
        """What the service does not have is told apart from what it refuses."""
        with pytest.raises(StatusError) as e:
            await api.call("FetchSSHSVID", Empty(), Empty)

        assert Status.UNIMPLEMENTED == e.value.status

    @pytest.mark.parametrize("method", [*REQUESTS, "FetchWITSVID"])
    async def test_a_malformed_request(self, domain: DevTrustDomain, api: RawWorkloadApi, method: str) -> None:
        """It is the client's mistake, and said so."""
        domain.register(ORDERS, any=True)
        with pytest.raises(StatusError) as e:
            await api.call(method, b"\x0a\xff", Empty)

        assert Status.INVALID_ARGUMENT == e.value.status


class TestX509Svids:
    async def test_identity_key_and_bundle(self, domain: DevTrustDomain, api: RawWorkloadApi) -> None:
        """All mandatory fields, in the encodings of the standard (Workload API §5.2.1)."""
        domain.register(ORDERS, any=True, hint="internal", dns_names=["orders.internal"])
        response = await api.first("FetchX509SVID", X509SvidResponse)
        [entry] = response.svids
        svid = X509Svid.parse_der(entry.x509_svid, entry.x509_svid_key)

        assert (str(ORDERS), "internal", {}, ()) == (
            entry.spiffe_id, entry.hint, response.federated_bundles, response.crl
        )
        assert ORDERS == svid.id
        assert load_der_private_key(entry.x509_svid_key, None).public_key() == svid.leaf.public_key()
        svid.verify(BundleSet([X509Bundle.parse_der(A, entry.bundle)]), at=SYSTEM_CLOCK.now())

    async def test_several_identities_in_order(self, domain: DevTrustDomain, api: RawWorkloadApi) -> None:
        """The first is the default one (§5.3)."""
        domain.register(BILLING, any=True)
        domain.register(ORDERS, any=True)
        response = await api.first("FetchX509SVID", X509SvidResponse)

        assert [str(BILLING), str(ORDERS)] == [s.spiffe_id for s in response.svids]

    async def test_two_streams_share_an_svid(self, domain: DevTrustDomain, api: RawWorkloadApi) -> None:
        """Asking again is not rotating."""
        domain.register(ORDERS, any=True)

        assert await api.first("FetchX509SVID", X509SvidResponse) == await api.first("FetchX509SVID", X509SvidResponse)


class TestBundles:
    @pytest.mark.parametrize(
        ("federates_with", "expected"),
        [
            (None, {"spiffe://a.test", "spiffe://b.test", "spiffe://c.test"}),  # not said: all there are
            (["b.test"], {"spiffe://a.test", "spiffe://b.test"}),
            ([], {"spiffe://a.test"}),  # said: none
            (["d.test"], {"spiffe://a.test"}),  # not federated (yet)
        ],
    )
    async def test_of_the_trust_domains_that_the_registration_names(
        self, domain: DevTrustDomain, api: RawWorkloadApi, federates_with: list[str] | None, expected: set[str]
    ) -> None:
        """Own and federated, X.509 and JWT alike (Workload API §4.6, §5.2.2, §6.2.2)."""
        domain.register(ORDERS, any=True, federates_with=federates_with)
        for other in (DevTrustDomain(B), DevTrustDomain("c.test")):
            domain.federate_with(other)
        svids = await api.first("FetchX509SVID", X509SvidResponse)
        x509_bundles = await api.first("FetchX509Bundles", X509BundlesResponse)
        jwt_bundles = await api.first("FetchJWTBundles", JwtBundlesResponse)

        assert expected == set(x509_bundles.bundles)
        assert expected == set(jwt_bundles.bundles)
        assert expected == {*svids.federated_bundles, "spiffe://a.test"}
        assert len(expected) - 1 == len(svids.federated_bundles)  # the own one is with the SVID

    async def test_they_are_what_the_authorities_publish(self, domain: DevTrustDomain, api: RawWorkloadApi) -> None:
        """Byte for byte, each under its own trust domain."""
        other = DevTrustDomain(B)
        domain.register(ORDERS, any=True)
        domain.federate_with(other)
        x509_bundles = await api.first("FetchX509Bundles", X509BundlesResponse)
        jwt_bundles = await api.first("FetchJWTBundles", JwtBundlesResponse)

        assert other.ca.x509_bundle == X509Bundle.parse_der(B, x509_bundles.bundles["spiffe://b.test"])
        assert other.ca.jwt_bundle == JwtBundle.parse_jwks(B, jwt_bundles.bundles["spiffe://b.test"])
        assert domain.ca.x509_bundle == X509Bundle.parse_der(A, x509_bundles.bundles["spiffe://a.test"])
        assert domain.ca.jwt_bundle == JwtBundle.parse_jwks(A, jwt_bundles.bundles["spiffe://a.test"])


class TestJwtSvids:
    async def test_for_every_identity(self, domain: DevTrustDomain, api: RawWorkloadApi) -> None:
        """One each, for exactly the audience asked (Workload API §6.2.1)."""
        domain.register(ORDERS, any=True, hint="internal")
        domain.register(BILLING, any=True)
        response = await api.call("FetchJWTSVID", JwtSvidRequest(("me", "you")), JwtSvidResponse)

        assert [(str(ORDERS), "internal"), (str(BILLING), "")] == [(s.spiffe_id, s.hint) for s in response.svids]
        for entry in response.svids:
            svid = verify_jwt_svid(
                entry.svid, BundleSet([domain.ca.jwt_bundle]), audience="you", at=SYSTEM_CLOCK.now()
            )
            assert (entry.spiffe_id, {"me", "you"}) == (str(svid.id), svid.audience)

    async def test_for_the_identity_that_is_named(self, domain: DevTrustDomain, api: RawWorkloadApi) -> None:
        """And no other."""
        domain.register(ORDERS, any=True)
        domain.register(BILLING, any=True)
        response = await api.call("FetchJWTSVID", JwtSvidRequest(("me",), str(BILLING)), JwtSvidResponse)

        assert [str(BILLING)] == [s.spiffe_id for s in response.svids]

    @pytest.mark.parametrize(
        ("request_", "status"),
        [
            (JwtSvidRequest(()), Status.INVALID_ARGUMENT),
            (JwtSvidRequest(("",)), Status.INVALID_ARGUMENT),
            (JwtSvidRequest(("me",), "billing"), Status.INVALID_ARGUMENT),
            (JwtSvidRequest(("me",), str(BILLING)), Status.PERMISSION_DENIED),
        ],
    )
    async def test_what_is_refused(
        self, domain: DevTrustDomain, api: RawWorkloadApi, request_: JwtSvidRequest, status: Status
    ) -> None:
        """No audience, no SPIFFE ID, somebody else's identity."""
        domain.register(ORDERS, any=True)
        domain.register(BILLING, uid=4_000_000)
        with pytest.raises(StatusError) as e:
            await api.call("FetchJWTSVID", request_, JwtSvidResponse)

        assert status == e.value.status


class TestValidation:
    async def test_own_and_federated_tokens(self, domain: DevTrustDomain, api: RawWorkloadApi) -> None:
        """The ID and all claims come back (Workload API §6.3)."""
        other = DevTrustDomain(B)
        domain.register(ORDERS, any=True)
        domain.federate_with(other)
        for token, subject in (
            (domain.ca.issue_jwt_svid(ORDERS, ["me", "you"]), str(ORDERS)),
            (other.ca.issue_jwt_svid("spiffe://b.test/x", ["me", "you"]), "spiffe://b.test/x"),
        ):
            answer = await api.call("ValidateJWTSVID", ValidateJwtSvidRequest("me", token), ValidateJwtSvidResponse)

            assert subject == answer.spiffe_id == answer.claims["sub"]
            assert ["me", "you"] == list(answer.claims["aud"])
            assert answer.claims["exp"] > answer.claims["iat"]

    @pytest.mark.parametrize(
        ("audience", "token"),
        [
            ("", "good"),
            ("me", ""),
            ("you", "good"),  # somebody else's
            ("me", "a.b.c"),
            ("me", "forged"),  # by an authority that is not federated
            ("me", "expired"),
        ],
    )
    async def test_what_is_refused(
        self, domain: DevTrustDomain, api: RawWorkloadApi, audience: str, token: str
    ) -> None:
        """As InvalidArgument, and the token is not in the answer."""
        domain.register(ORDERS, any=True)
        tokens = {
            "good": domain.ca.issue_jwt_svid(ORDERS, "me"),
            "forged": DevTrustDomain(A).ca.issue_jwt_svid(ORDERS, "me"),
            "expired": domain.ca.issue_jwt_svid(ORDERS, "me", ttl=-60),
        }
        token = tokens.get(token, token)
        with pytest.raises(StatusError) as e:
            await api.call("ValidateJWTSVID", ValidateJwtSvidRequest(audience, token), ValidateJwtSvidResponse)

        assert Status.INVALID_ARGUMENT == e.value.status
        assert not token or token not in e.value.details


class TestWitSvids:
    @pytest.mark.parametrize(
        ("wanted", "status"), [("billing", Status.INVALID_ARGUMENT), (str(BILLING), Status.PERMISSION_DENIED)]
    )
    async def test_what_is_refused(self, domain: DevTrustDomain, api: RawWorkloadApi, wanted: str, status: Status) -> None:
        """No SPIFFE ID, somebody else's identity."""
        domain.register(ORDERS, any=True)
        with pytest.raises(StatusError) as e:
            await api.first("FetchWITSVID", WitSvidResponse, request=WitSvidRequest(wanted))

        assert status == e.value.status

    async def test_token_key_and_bundle(self, domain: DevTrustDomain, api: RawWorkloadApi) -> None:
        """Answered, not Unimplemented (Workload API §7, incubating)."""
        domain.register(ORDERS, any=True, hint="internal")
        domain.register(BILLING, any=True)
        response = await api.first("FetchWITSVID", WitSvidResponse)
        named = await api.first("FetchWITSVID", WitSvidResponse, request=WitSvidRequest(str(BILLING)))
        bundles = await api.first("FetchWITBundles", WitBundlesResponse)

        assert [(str(ORDERS), "internal"), (str(BILLING), "")] == [(s.spiffe_id, s.hint) for s in response.svids]
        assert [str(BILLING)] == [s.spiffe_id for s in named.svids]
        assert all("d" in json.loads(s.wit_svid_key) and s.wit_svid.count(".") == 2 for s in response.svids)
        assert {"spiffe://a.test": domain.ca.wit_bundle.to_jwks().decode()} == bundles.bundles

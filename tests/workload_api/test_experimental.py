"""The WIT-SVID profile: experimental, and not asked for again where it is not offered."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spiffe_client import errors
from spiffe_client._grpc import Limits, Status
from spiffe_client.bundle.experimental import WitBundle
from spiffe_client.ids import TrustDomain
from spiffe_client.workload_api import Endpoint, WorkloadApiClient, _experimental
from spiffe_client.workload_api._wit_messages import (
    WitBundlesResponse,
    WitSvidEntry,
    WitSvidRequest,
    WitSvidResponse,
)
from tests.support.manual_clock import ManualClock
from tests.support.scripted_workload_api import NO_IDENTITY, Fail, Feed, ScriptedWorkloadApi
from tests.support.tokens import AT, b64, claims_for, ec_key, public_jwk, sign_token

PEER, OTHER = "spiffe://a.test/peer", "spiffe://a.test/other"

#: Fuzzing is never timed: the machine may be busy.
fuzz = settings(deadline=None)


def key_jwk(number: int = 1) -> str:
    """A private key as the Workload API sends it."""
    key = ec_key(number=number)
    secret = key.private_numbers().private_value.to_bytes(32, "big")
    return json.dumps({**public_jwk(key), "d": b64(secret)})


def entry(sub: str = PEER, *, hint: str = "", **claims: object) -> WitSvidEntry:
    """A WIT-SVID with its key, as the Workload API sends it."""
    bound = {"jwk": public_jwk(ec_key(number=1), alg="ES256")}
    token = sign_token(
        ec_key(), "ES256", claims_for(sub=sub, aud=..., cnf=bound, **claims), typ="wit+jwt"
    )
    return WitSvidEntry(sub, token, key_jwk(), hint)


GOOD = entry()
SVIDS = WitSvidResponse((GOOD,))
JWKS = json.dumps({"keys": [public_jwk(ec_key())]})
BUNDLES = WitBundlesResponse({"spiffe://a.test": JWKS})


@pytest.fixture
def client(api: ScriptedWorkloadApi) -> WorkloadApiClient:
    return WorkloadApiClient(api.endpoint, clock=ManualClock(AT))


@pytest.mark.anyio
class TestSvids:
    async def test_fetched(self, api: ScriptedWorkloadApi, client: WorkloadApiClient) -> None:
        """Workload API §7.2.1: a token and its key for each identity."""
        api.script("FetchWITSVID", WitSvidResponse((GOOD, entry(OTHER, hint="h"))))

        svids = await client.experimental.fetch_wit_svids()

        assert [(PEER, ""), (OTHER, "h")] == [(str(svid.id), svid.hint) for svid in svids]
        assert GOOD.wit_svid == svids[0].token.reveal()
        assert ec_key(number=1).private_numbers() == svids[0].private_key.private_numbers()

    async def test_header_and_request(self, api: ScriptedWorkloadApi, client: WorkloadApiClient) -> None:
        """Workload Endpoint §3: the header is sent here too. Workload API §7: one identity can be asked for."""
        api.script("FetchWITSVID", SVIDS)

        await client.experimental.fetch_wit_svids(subject=PEER)

        [call] = api.calls
        assert ("true", WitSvidRequest(PEER)) == (
            call.metadata["workload.spiffe.io"],
            WitSvidRequest.decode(call.request),
        )

    async def test_followed(self, api: ScriptedWorkloadApi, client: WorkloadApiClient) -> None:
        """Workload API §7.2.1: each message is the complete set; a bad one is reported and skipped."""
        refused: list[errors.SpiffeError] = []
        api.script("FetchWITSVID", SVIDS, b"\xff", WitSvidResponse(), WitSvidResponse((entry(OTHER),)))

        async with client.experimental.watch_wit_svids(refused=refused.append) as stream:
            taken = [[str(svid.id) for svid in svids] async for svids in stream]

        assert [[PEER], [OTHER]] == taken
        assert [errors.ProtocolError] * 2 == [type(error) for error in refused]

    async def test_equal_hints(self, api: ScriptedWorkloadApi, client: WorkloadApiClient) -> None:
        """Workload API §7.2.1: of several WIT-SVIDs with the same hint the first is selected."""
        api.script("FetchWITSVID", WitSvidResponse((entry(hint="h"), entry(OTHER, hint="h"))))

        assert [PEER] == [str(svid.id) for svid in await client.experimental.fetch_wit_svids()]

    @pytest.mark.parametrize(
        ("response", "kind", "why"),
        [
            (WitSvidResponse(), errors.ProtocolError, "WITSVIDResponse: the mandatory field svids"),
            (WitSvidResponse((replace(GOOD, spiffe_id=""),)), errors.ProtocolError, "mandatory field spiffe_id"),
            (WitSvidResponse((replace(GOOD, wit_svid=""),)), errors.ProtocolError, "mandatory field wit_svid "),
            (WitSvidResponse((replace(GOOD, wit_svid_key=""),)), errors.ProtocolError, "field wit_svid_key"),
            (WitSvidResponse((replace(GOOD, spiffe_id="x"),)), errors.ProtocolError, "spiffe_id: "),
            (WitSvidResponse((replace(GOOD, spiffe_id=OTHER),)), errors.WitSvidError, f"the token is of {PEER}"),
            (WitSvidResponse((replace(GOOD, wit_svid="x.y.z"),)), errors.WitSvidError, r"svids\[0\] .*: "),
            (WitSvidResponse((replace(GOOD, wit_svid_key=key_jwk(2)),)), errors.WitSvidError, "key is not the one"),
            (WitSvidResponse((entry(exp=AT.timestamp()),)), errors.WitSvidError, "has expired"),
        ],
    )
    async def test_bad_answer(
        self,
        api: ScriptedWorkloadApi,
        client: WorkloadApiClient,
        response: WitSvidResponse,
        kind: type[errors.SpiffeError],
        why: str,
    ) -> None:
        """Workload API §4.5, §7.2.1: all but the hint is mandatory, and is what it has to be."""
        api.script("FetchWITSVID", response)

        with pytest.raises(kind, match=why) as e:
            await client.experimental.fetch_wit_svids()

        assert kind is type(e.value)
        assert GOOD.wit_svid not in str(e.value)

    async def test_other_subject_than_asked_for(self, api: ScriptedWorkloadApi, client: WorkloadApiClient) -> None:
        """Only the identity that was asked for is returned."""
        api.script("FetchWITSVID", SVIDS)

        with pytest.raises(errors.WitSvidError, match=f"not the SPIFFE ID that was asked for, {OTHER}"):
            await client.experimental.fetch_wit_svids(subject=OTHER)

    async def test_bad_subject(self, client: WorkloadApiClient) -> None:
        """SPIFFE-ID §2: a subject is a SPIFFE ID."""
        with pytest.raises(errors.InvalidIdError):
            await client.experimental.fetch_wit_svids(subject="peer")
        with pytest.raises(errors.InvalidIdError):
            client.experimental.watch_wit_svids(refused=pytest.fail, subject="peer")


@pytest.mark.anyio
class TestBundles:
    async def test_fetched_and_followed(self, api: ScriptedWorkloadApi, client: WorkloadApiClient) -> None:
        """Workload API §7.2.2: JWK Sets by trust domain, of a type that verifies nothing else."""
        api.script("FetchWITBundles", BUNDLES)

        fetched = await client.experimental.fetch_wit_bundles()
        async with client.experimental.watch_wit_bundles(refused=pytest.fail) as stream:
            [followed] = [bundles async for bundles in stream]

        assert fetched == followed
        assert WitBundle is type(fetched[TrustDomain("a.test")])

    async def test_bad_one_costs_only_itself(self, api: ScriptedWorkloadApi, client: WorkloadApiClient) -> None:
        """A bad bundle is left out and reported."""
        api.script("FetchWITBundles", WitBundlesResponse({**BUNDLES.bundles, "spiffe://b.test": "bad"}))
        refused: list[errors.SpiffeError] = []

        bundles = await client.experimental.fetch_wit_bundles(refused=refused.append)

        assert [TrustDomain("a.test")] == list(bundles)
        assert [errors.BundleError] == [type(error) for error in refused]

    async def test_none(self, api: ScriptedWorkloadApi, client: WorkloadApiClient) -> None:
        """Workload API §4.5: `bundles` is mandatory."""
        api.script("FetchWITBundles", b"")

        with pytest.raises(errors.ProtocolError, match="WITBundlesResponse.bundles: there is no bundle"):
            await client.experimental.fetch_wit_bundles()


def calls(client: WorkloadApiClient) -> list[Any]:
    """Every way to make a call of the profile."""

    async def follow(watch: Any) -> None:
        async with watch(refused=pytest.fail) as stream:
            await anext(stream)

    profiles = client.experimental
    return [
        profiles.fetch_wit_svids,
        profiles.fetch_wit_bundles,
        lambda: follow(profiles.watch_wit_svids),
        lambda: follow(profiles.watch_wit_bundles),
    ]


@pytest.mark.anyio
class TestUnimplemented:
    @pytest.mark.parametrize("first", range(4))
    async def test_is_not_asked_again(
        self, api: ScriptedWorkloadApi, client: WorkloadApiClient, first: int
    ) -> None:
        """Workload API §7: after Unimplemented no call of the profile is made again on that client."""
        for method in ("FetchWITSVID", "FetchWITBundles"):
            api.script(method, Fail(Status.UNIMPLEMENTED, "no WIT here"))
        with pytest.raises(errors.UnimplementedError, match="no WIT here"):
            await calls(client)[first]()

        for call in calls(client):
            with pytest.raises(errors.UnimplementedError, match="it is not asked again"):
                await call()

        assert 1 == api.connections

    async def test_another_client_asks(self, api: ScriptedWorkloadApi, client: WorkloadApiClient) -> None:
        """The memory is the client's: an agent may have been upgraded for the next one."""
        api.script("FetchWITBundles", Fail(Status.UNIMPLEMENTED))
        with pytest.raises(errors.UnimplementedError):
            await client.experimental.fetch_wit_bundles()
        api.rescript("FetchWITBundles", BUNDLES)

        assert await WorkloadApiClient(api.endpoint).experimental.fetch_wit_bundles()

    async def test_other_calls_go_on(self, api: ScriptedWorkloadApi, client: WorkloadApiClient) -> None:
        """Unimplemented for WIT says nothing about the other profiles."""
        with pytest.raises(errors.UnimplementedError):
            await client.experimental.fetch_wit_svids()
        api.script("FetchX509SVID", NO_IDENTITY)

        with pytest.raises(errors.NoIdentityIssuedError):
            await client.fetch_x509_context()

    async def test_other_failures_are_asked_again(
        self, api: ScriptedWorkloadApi, client: WorkloadApiClient
    ) -> None:
        """Only Unimplemented is final."""
        api.script("FetchWITSVID", NO_IDENTITY)
        api.script("FetchWITSVID", Feed(SVIDS))
        with pytest.raises(errors.NoIdentityIssuedError):
            await client.experimental.fetch_wit_svids()

        assert 1 == len(await client.experimental.fetch_wit_svids())


class TestAnyBytes:
    @fuzz
    @given(data=st.data())
    def test_damaged(self, data: st.DataObject) -> None:
        """A message with damage, and any bytes, are a value or a typed error."""
        profiles = _experimental.ExperimentalProfiles(
            Endpoint("unix", path="/x"), timeout=1.0, limits=Limits(), clock=ManualClock(AT)
        )
        readers = [
            (SVIDS.encode(), lambda raw: profiles._wit_svids(WitSvidRequest(), raw)),
            (BUNDLES.encode(), lambda raw: _experimental._read_bundles(raw, refused=lambda _: None)),
        ]
        for message, read in readers:
            damaged = bytearray(message)
            for position in data.draw(st.lists(st.integers(0, len(message) - 1), max_size=3)):
                damaged[position] = data.draw(st.integers(0, 255))
            for candidate in (bytes(damaged), data.draw(st.binary())):
                try:
                    assert read(candidate)
                except errors.SpiffeError:
                    continue

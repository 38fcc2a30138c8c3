"""JWT messages become tokens for whom was asked for, bundles, claims; or errors that say why not."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spiffe_client.errors import (
    BundleError,
    ExpiredError,
    InvalidIdError,
    InvalidAudienceError,
    JwtSvidError,
    ProtocolError,
    SpiffeError,
)
from spiffe_client.ids import SpiffeId, TrustDomain
from spiffe_client.svid import JwtSvid
from spiffe_client.workload_api import ValidatedJwtSvid, _jwt
from spiffe_client.workload_api._jwt_messages import (
    JwtBundlesResponse,
    JwtSvidEntry,
    JwtSvidRequest,
    JwtSvidResponse,
    ValidateJwtSvidResponse,
)
from tests.support.tokens import AT, claims_for, compact, ec_key, public_jwk, sign_token

#: Fuzzing is never timed: the machine may be busy.
fuzz = settings(deadline=None)

PEER, OTHER = "spiffe://a.test/peer", "spiffe://a.test/other"
ANY = JwtSvidRequest(("orders",))


def token(**claims: object) -> str:
    return sign_token(ec_key(), "ES256", claims_for(**claims))


GOOD = JwtSvidEntry(PEER, token())


def read(*entries: JwtSvidEntry, request: JwtSvidRequest = ANY) -> tuple[JwtSvid, ...]:
    return _jwt.read_jwt_svids(JwtSvidResponse(entries).encode(), request, at=AT)


class TestRequest:
    @pytest.mark.parametrize(
        ("audience", "sent"),
        [
            ("orders", ("orders",)),
            (["orders", "billing"], ("orders", "billing")),
            (("b", "a", "b"), ("b", "a", "b")),
            (["spiffe://a.test/x", "https://x.test/?q=ä"], ("spiffe://a.test/x", "https://x.test/?q=ä")),
        ],
    )
    def test_audience_is_passed_on_unchanged(self, audience: object, sent: tuple[str, ...]) -> None:
        """Workload API §6.2.1: the audience goes into the token as it is: order, doubles, spelling."""
        assert JwtSvidRequest(sent) == _jwt.jwt_svid_request(audience, None)

    @pytest.mark.parametrize("subject", [PEER, SpiffeId.parse(PEER)])
    def test_subject(self, subject: SpiffeId | str) -> None:
        """Workload API §6.2.1: `spiffe_id` asks for one identity."""
        assert JwtSvidRequest(("orders",), PEER) == _jwt.jwt_svid_request("orders", subject)

    @pytest.mark.parametrize("audience", ["", [], [""], ["orders", ""], [None], [1], ["\ud800"]])
    def test_bad_audience(self, audience: object) -> None:
        """Workload API §4.5: the audience is mandatory; the caller hears it before anything is sent."""
        with pytest.raises(InvalidAudienceError, match="audience"):
            _jwt.jwt_svid_request(audience, None)

    def test_bad_subject(self) -> None:
        """SPIFFE-ID §2: a subject is a SPIFFE ID."""
        with pytest.raises(InvalidIdError):
            _jwt.jwt_svid_request("orders", "peer")


class TestTokens:
    def test_one(self) -> None:
        """Workload API §6.2.1: a token of each identity."""
        [svid] = read(JwtSvidEntry(PEER, GOOD.svid, "internal"))

        assert (PEER, frozenset({"orders"}), "internal") == (str(svid.id), svid.audience, svid.hint)
        assert svid.token.reveal() == GOOD.svid

    def test_several(self) -> None:
        """Workload API §6.2.1: all identities, in the order of the server."""
        assert [OTHER, PEER] == [str(svid.id) for svid in read(JwtSvidEntry(OTHER, token(sub=OTHER)), GOOD)]

    def test_more_audience_than_asked_for(self) -> None:
        """What was asked for is in it; more does not harm."""
        [svid] = read(JwtSvidEntry(PEER, token(aud=["billing", "orders"])))

        assert frozenset({"billing", "orders"}) == svid.audience

    def test_equal_hints(self) -> None:
        """Workload API §6.2.1: of several SVIDs with the same hint the first is selected."""
        svids = read(JwtSvidEntry(PEER, GOOD.svid, "h"), JwtSvidEntry(OTHER, token(sub=OTHER), "h"))

        assert [PEER] == [str(svid.id) for svid in svids]

    @pytest.mark.parametrize(
        ("entries", "why"),
        [
            ((), "JWTSVIDResponse: the mandatory field svids is empty"),
            ((GOOD, JwtSvidEntry(svid=GOOD.svid)), r"JWTSVIDResponse\.svids\[1\]: the mandatory field spiffe_id"),
            ((GOOD, JwtSvidEntry(PEER)), r"JWTSVIDResponse\.svids\[1\]: the mandatory field svid is empty"),
            ((JwtSvidEntry("peer", GOOD.svid),), r"JWTSVIDResponse\.svids\[0\]: spiffe_id: "),
        ],
    )
    def test_mandatory_fields(self, entries: tuple[JwtSvidEntry, ...], why: str) -> None:
        """Workload API §4.5, §6.2.1: all but the hint is mandatory; one empty field costs the message."""
        with pytest.raises(ProtocolError, match=why):
            read(*entries)

    @pytest.mark.parametrize(
        ("bad", "kind", "why"),
        [
            (JwtSvidEntry(PEER, "no.token"), JwtSvidError, "three"),
            (JwtSvidEntry(PEER, token(sub="peer")), JwtSvidError, "not a SPIFFE ID"),
            (JwtSvidEntry(PEER, compact({"alg": "none"}, claims_for())), JwtSvidError, "algorithm"),
            (JwtSvidEntry(OTHER, GOOD.svid), JwtSvidError, f"the token is of {PEER}"),
            (JwtSvidEntry(PEER, token(aud=["billing"])), JwtSvidError, "not for the audience"),
            (JwtSvidEntry(PEER, token(exp=AT.timestamp())), ExpiredError, "has expired at 2030-01-01T00:00:00Z"),
        ],
    )
    def test_bad_token(self, bad: JwtSvidEntry, kind: type[SpiffeError], why: str) -> None:
        """What is not what was asked for is refused, saying where, and never shows the token."""
        with pytest.raises(kind, match=rf"JWTSVIDResponse\.svids\[1\] \(spiffe://a\.test/\w+\): .*{why}") as e:
            read(GOOD, bad)

        assert kind is type(e.value)
        assert bad.svid not in f"{e.value!r} {e.value.__cause__!r} {e.value.__context__!r}"

    def test_one_second_before_it_expires(self) -> None:
        """A cache that ignored `exp` handed out expired tokens: here the last second is the last."""
        last = JwtSvidEntry(PEER, token(exp=AT.timestamp() + 1))

        assert [AT + timedelta(seconds=1)] == [svid.expires_at for svid in read(last)]

    def test_other_subject_than_asked_for(self) -> None:
        """Workload API §6.2.1: only the identity that was asked for is returned."""
        assert 1 == len(read(GOOD, request=JwtSvidRequest(("orders",), PEER)))
        with pytest.raises(JwtSvidError, match=f"not the SPIFFE ID that was asked for, {OTHER}"):
            read(GOOD, request=JwtSvidRequest(("orders",), OTHER))


JWKS = json.dumps({"keys": [public_jwk(ec_key())]}).encode()


class TestBundles:
    def test_by_trust_domain(self) -> None:
        """Workload API §6.2.2: JWK Sets by trust domain."""
        bundles = {"spiffe://a.test": JWKS, "spiffe://b.test": b'{"keys": []}'}

        read = _jwt.read_jwt_bundles(JwtBundlesResponse(bundles).encode(), refused=pytest.fail)

        assert {"a.test": ["one"], "b.test": []} == {
            str(td): [a.key_id for a in bundle.authorities] for td, bundle in read.items()
        }

    @pytest.mark.parametrize("bad", [b"", b"text", b"[]", b'{"keys": 1}', b"\xff"])
    def test_bad_one_costs_only_itself(self, bad: bytes) -> None:
        """A bad bundle is left out and reported."""
        refused: list[SpiffeError] = []
        bundles = {"spiffe://a.test": JWKS, "spiffe://b.test": bad}

        read = _jwt.read_jwt_bundles(JwtBundlesResponse(bundles).encode(), refused=refused.append)

        assert [TrustDomain("a.test")] == list(read)
        assert [BundleError] == [type(error) for error in refused]

    @pytest.mark.parametrize("bundles", [{}, {"spiffe://a.test": b"text"}])
    def test_none_is_usable(self, bundles: dict[str, bytes]) -> None:
        """Workload API §4.5: `bundles` is mandatory; a message without a usable one is discarded."""
        with pytest.raises(ProtocolError, match="JWTBundlesResponse.bundles: there is no bundle"):
            _jwt.read_jwt_bundles(JwtBundlesResponse(bundles).encode(), refused=lambda _: None)


class TestValidated:
    def test_id_and_claims(self) -> None:
        """Workload API §6.2.3: the ID and all claims; numbers are what they are in the token."""
        claims = {"sub": PEER, "aud": ["orders"], "exp": 1893456300, "iat": 1893455940, "deep": {"x": [1, None]}}

        validated = _jwt.read_validated(ValidateJwtSvidResponse(PEER, claims).encode())

        assert ValidatedJwtSvid(SpiffeId.parse(PEER), claims) == validated
        assert int is type(validated.claims["exp"])
        assert "1893456300" not in repr(validated)

    def test_read_only(self) -> None:
        """What was validated does not change any more."""
        validated = _jwt.read_validated(ValidateJwtSvidResponse(PEER, {"sub": PEER}).encode())

        with pytest.raises(TypeError):
            validated.claims["sub"] = OTHER
        assert 1 == len({validated})

    def test_filtered_claims(self) -> None:
        """Workload API §6.2.3: an implementation may leave claims out."""
        validated = _jwt.read_validated(ValidateJwtSvidResponse(PEER, {"aud": "orders"}).encode())

        assert PEER == str(validated.id)

    @pytest.mark.parametrize(
        ("response", "why"),
        [
            (ValidateJwtSvidResponse("", {"sub": PEER}), "the mandatory field spiffe_id is empty"),
            (ValidateJwtSvidResponse(PEER, {}), "the mandatory field claims is empty"),
            (ValidateJwtSvidResponse("peer", {"sub": PEER}), "ValidateJWTSVIDResponse: spiffe_id: "),
            (ValidateJwtSvidResponse(PEER, {"sub": OTHER}), f"the claims are not about {PEER}"),
            (ValidateJwtSvidResponse(PEER, {"sub": 1}), f"the claims are not about {PEER}"),
            (ValidateJwtSvidResponse(PEER, {"sub": "peer"}), r"claims\.sub: "),
        ],
    )
    def test_bad_response(self, response: ValidateJwtSvidResponse, why: str) -> None:
        """Workload API §4.5, §6.2.3: both fields are mandatory, and they cannot contradict each other."""
        with pytest.raises(ProtocolError, match=why):
            _jwt.read_validated(response.encode())


TOKENS = JwtSvidResponse((GOOD,)).encode()
BUNDLES = JwtBundlesResponse({"spiffe://a.test": JWKS}).encode()
VALIDATED = ValidateJwtSvidResponse(PEER, {"sub": PEER, "exp": 1, "deep": [{"x": True}]}).encode()


class TestAnyBytes:
    @pytest.mark.parametrize(
        ("message", "read"),
        [
            (TOKENS, lambda data: _jwt.read_jwt_svids(data, ANY, at=AT)),
            (BUNDLES, lambda data: _jwt.read_jwt_bundles(data, refused=lambda _: None)),
            (VALIDATED, _jwt.read_validated),
        ],
        ids=["tokens", "bundles", "validated"],
    )
    @fuzz
    @given(data=st.data())
    def test_damaged(self, message: bytes, read: object, data: st.DataObject) -> None:
        """A message with damage, and any bytes, are a value or a typed error."""
        damaged = bytearray(message)
        for position in data.draw(st.lists(st.integers(0, len(message) - 1), max_size=3)):
            damaged[position] = data.draw(st.integers(0, 255))
        for candidate in (bytes(damaged), bytes(damaged[: data.draw(st.integers(0, 40))]), data.draw(st.binary())):
            try:
                value = read(candidate)
            except SpiffeError:
                continue
            assert value

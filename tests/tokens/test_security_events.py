"""Security event tokens (RFC 8417): only those of our transmitter, for us, of the right type, say anything."""

from __future__ import annotations

import pytest

from spiffe_client.bundle import JwtAuthority
from spiffe_client.errors import SecurityEventError
from spiffe_client.tokens._affected import Ours, affected_by
from spiffe_client.tokens._security_events import (
    CREDENTIAL_CHANGE,
    SESSION_REVOKED,
    TOKEN_CLAIMS_CHANGE,
    VERIFICATION,
    SecurityEvent,
    SubjectIdentifier,
    verify_security_event,
)
from tests.support.canary import assert_no_secret
from tests.support.token_parties import access_token
from tests.support.tokens import AT, ISSUED, compact, ec_key, public_jwk, rsa_key, sign_token

TRANSMITTER = "https://ssf.test"
US = "spiffe://a.test/agent"
KEYS = [JwtAuthority.parse(public_jwk(ec_key())), JwtAuthority.parse(public_jwk(rsa_key(), "two"))]
SUBJECT = {"format": "uri", "uri": US}


def event(
    typ: object = "secevent+jwt", *, key=None, alg: str = "ES256", kid: str = "one", **changes: object
) -> str:
    claims = {
        "iss": TRANSMITTER,
        "aud": US,
        "iat": ISSUED,
        "jti": "j1",
        "sub_id": SUBJECT,
        "events": {SESSION_REVOKED: {}},
        **changes,
    }
    return sign_token(
        key or ec_key(), alg, {n: v for n, v in claims.items() if v is not ...}, typ=typ, kid=kid
    )


def verify(token: object) -> SecurityEvent:
    return verify_security_event(token, KEYS, issuer=TRANSMITTER, audience=US, at=AT)


class TestGood:
    def test_what_it_says(self) -> None:
        """All of it, typed."""
        said = verify(event(txn="t1", aud=["x", US], events={SESSION_REVOKED: {"event_timestamp": 1}}))
        assert ("j1", TRANSMITTER, "t1") == (said.token_id, said.issuer, said.transaction)
        assert frozenset({"x", US}) == said.audience
        assert ISSUED == said.issued_at.timestamp()
        assert {SESSION_REVOKED: {"event_timestamp": 1}} == said.events
        assert SubjectIdentifier("uri", {"uri": US}) == said.subject

    def test_other_keys_and_names(self) -> None:
        """Another algorithm, another spelling of the type (RFC 7515 §4.1.9)."""
        verify(event("application/SECEVENT+jwt", key=rsa_key(), alg="RS256", kid="two"))

    @pytest.mark.parametrize(
        ("identifier", "formats"),
        [
            ({"format": "iss_sub", "iss": "i", "sub": "s"}, ["iss_sub"]),
            ({"format": "opaque", "id": "x"}, ["opaque"]),
            ({"format": "jwt_id", "iss": "i", "jti": "j"}, ["jwt_id"]),
            ({"format": "from-the-future", "n": 7}, ["from-the-future"]),
            (
                {
                    "format": "complex",
                    "user": {"format": "opaque", "id": "x"},
                    "session": {"format": "uri", "uri": "u"},
                },
                ["opaque", "uri"],
            ),
            ({"format": "aliases", "identifiers": [{"format": "uri", "uri": "u"}, SUBJECT]}, ["uri", "uri"]),
        ],
    )
    def test_subjects(self, identifier, formats) -> None:
        """RFC 9493 §3 and Shared Signals Framework §3.2; formats are an open set."""
        assert formats == [one.format for one in verify(event(sub_id=identifier)).subject.simple()]


class TestRefused:
    @pytest.mark.parametrize(
        ("err", "changes"),
        [
            ("invalid_issuer", {"iss": "https://evil.test"}),
            ("invalid_issuer", {"iss": ...}),
            ("invalid_issuer", {"iss": [TRANSMITTER]}),
            ("invalid_audience", {"aud": "spiffe://a.test/other"}),
            ("invalid_audience", {"aud": ...}),
            ("invalid_audience", {"aud": [7, {}]}),
            ("invalid_request", {"sub": US}),
            ("invalid_request", {"exp": ISSUED + 300}),
            ("invalid_request", {"jti": ""}),
            ("invalid_request", {"jti": 7}),
            ("invalid_request", {"jti": "j" * 1025}),
            ("invalid_request", {"iat": ...}),
            ("invalid_request", {"iat": True}),
            ("invalid_request", {"iat": 1e300}),
            ("invalid_request", {"iat": ISSUED + 3600}),
            ("invalid_request", {"txn": 7}),
            ("invalid_request", {"sub_id": ...}),
            ("invalid_request", {"sub_id": US}),
            ("invalid_request", {"sub_id": {"uri": US}}),
            ("invalid_request", {"sub_id": {"format": "complex"}}),
            ("invalid_request", {"sub_id": {"format": "aliases", "identifiers": {}}}),
            ("invalid_request", {"sub_id": {"format": "complex", "user": US}}),
            (
                "invalid_request",
                {"sub_id": {"format": "complex", "user": {"format": "aliases", "identifiers": [SUBJECT]}}},
            ),
            ("invalid_request", {"events": ...}),
            ("invalid_request", {"events": {}}),
            ("invalid_request", {"events": {f"e{n}": {} for n in range(17)}}),
            ("invalid_request", {"events": {SESSION_REVOKED: None}}),
            ("invalid_key", {"typ": "JWT"}),
            ("invalid_key", {"typ": ...}),
            ("invalid_key", {"key": ec_key(number=1)}),
        ],
    )
    def test_claims(self, err, changes) -> None:
        """What its transmitter is told (RFC 8935 §2.4)."""
        token = event(**changes)
        with pytest.raises(SecurityEventError) as e:
            verify(token)
        assert err == e.value.err
        assert_no_secret(e.value, token)

    @pytest.mark.parametrize(
        "token", [None, 7, "", "a.b", compact({"alg": "none"}, {"iss": TRANSMITTER}, b"")]
    )
    def test_no_token(self, token) -> None:
        """What is not a signed token is no event."""
        with pytest.raises(SecurityEventError) as e:
            verify(token)
        assert "invalid_request" == e.value.err

    def test_id_token_in_place_of_an_event(self) -> None:
        """Attack, token confusion: an access or ID token of the same issuer is no security event."""
        with pytest.raises(SecurityEventError, match="typ"):
            verify(event("at+jwt", sub="jo", exp=ISSUED + 300))


OURS = Ours("https://tokens.test", frozenset({US, "client-1"}))


def about(subject: SubjectIdentifier, kind: str = SESSION_REVOKED, **members: object) -> SecurityEvent:
    return SecurityEvent("j", TRANSMITTER, frozenset({US}), AT, subject, {kind: members})


def simple(kind: str, **members: str) -> SubjectIdentifier:
    return SubjectIdentifier(kind, members)


def jwt_token(**claims: object):
    return access_token(sign_token(ec_key(), "ES256", {"iss": "https://tokens.test", **claims}))


class TestAffected:
    @pytest.mark.parametrize(
        "subject",
        [
            simple("uri", uri=US),
            simple("opaque", id="client-1"),
            simple("opaque", id=US),
            simple("iss_sub", iss="https://tokens.test", sub="client-1"),
            simple("iss_sub", iss=TRANSMITTER, sub=US),
            SubjectIdentifier("complex", parts=(simple("opaque", id="somebody"), simple("uri", uri=US))),
        ],
    )
    @pytest.mark.parametrize("kind", [SESSION_REVOKED, CREDENTIAL_CHANGE, TOKEN_CLAIMS_CHANGE])
    def test_us(self, subject, kind) -> None:
        """An event about us takes all our tokens, whatever is in them."""
        affected = affected_by(about(subject, kind), OURS)
        assert affected(access_token("opaque"))
        assert affected(jwt_token(sub="anybody"))

    @pytest.mark.parametrize(
        "subject",
        [
            simple("uri", uri="spiffe://a.test/other"),
            simple("opaque", id="somebody"),
            simple("opaque"),
            simple("iss_sub", iss="https://evil.test", sub="client-1"),
            simple("email", email=US),
            simple("jwt_id", iss="https://tokens.test", jti="other"),
            simple("jwt_id", iss="https://tokens.test"),
            simple("iss_sub", iss="https://other.test", sub="jo"),
        ],
    )
    def test_somebody_else(self, subject) -> None:
        """An event about others takes nothing of ours."""
        affected = affected_by(about(subject), OURS)
        assert not affected(access_token("opaque"))
        assert not affected(jwt_token(sub="jo", jti="j1"))

    @pytest.mark.parametrize(
        "subject",
        [
            simple("jwt_id", iss="https://tokens.test", jti="j1"),
            simple("iss_sub", iss="https://tokens.test", sub="jo"),
            SubjectIdentifier(
                "complex",
                parts=(simple("email", email="x"), simple("iss_sub", iss="https://tokens.test", sub="jo")),
            ),
        ],
    )
    def test_one_token(self, subject) -> None:
        """By its `jti`, or by whom it speaks for: only that one."""
        affected = affected_by(about(subject), OURS)
        assert affected(jwt_token(sub="jo", jti="j1"))
        assert not affected(jwt_token(sub="eve", jti="j2"))
        assert not affected(access_token("opaque"))

    @pytest.mark.parametrize(
        "said",
        [
            about(simple("uri", uri=US), CREDENTIAL_CHANGE, change_type="create"),
            about(simple("uri", uri=US), VERIFICATION),
            about(simple("uri", uri=US), "https://example/other"),
        ],
    )
    def test_kinds_that_take_nothing(self, said) -> None:
        """A credential in addition, a verification, something unknown."""
        assert None is affected_by(said, OURS)

    @pytest.mark.parametrize("change", ["revoke", "update", "delete", None])
    def test_credential_change(self, change) -> None:
        """Everything but an addition may have taken the credential that our tokens stand on."""
        assert affected_by(about(simple("uri", uri=US), CREDENTIAL_CHANGE, change_type=change), OURS)

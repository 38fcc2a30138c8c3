"""WIT-SVIDs: bound to a key, and never a bearer token. Experimental, as the standard is."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiffe_client.bundle import BundleSet, JwtAuthority, JwtBundle, WitBundle
from spiffe_client.errors import BundleNotFoundError, JwtSvidError, WitSvidError
from spiffe_client.ids import TrustDomain
from spiffe_client.svid import JwtSvid, verify_jwt_svid
from spiffe_client.svid.experimental import Wit, WitSvid, verify_wit_svid
from tests.support.tokens import AT, b64, claims_for, ec_key, public_jwk, rsa_key, sign_token

A = TrustDomain("a.test")
ISSUER, HOLDER = ec_key(), ec_key("P-256", 1)
TRUSTED = BundleSet([WitBundle(A, (JwtAuthority("one", ISSUER.public_key()),))])


def bound(key: object = HOLDER, **changes: object) -> dict[str, object]:
    cnf = {"jwk": public_jwk(key, None, alg="ES256" if key is HOLDER else "RS256")}
    return claims_for(**{"aud": ..., "cnf": cnf, **changes})


def wit(claims: dict[str, object] | None = None, **header: object) -> str:
    return sign_token(ISSUER, "ES256", bound() if claims is None else claims, **{"typ": "wit+jwt", **header})


def private_jwk(key: object = HOLDER) -> str:
    jwk = public_jwk(key, None)
    numbers = key.private_numbers()
    if jwk["kty"] == "EC":
        jwk["d"] = b64(numbers.private_value.to_bytes(32, "big"))
    else:
        for name, value in zip(
            ("d", "p", "q", "dp", "dq", "qi"),
            (
                numbers.d,
                numbers.p,
                numbers.q,
                numbers.dmp1,
                numbers.dmq1,
                numbers.iqmp,
            ),
            strict=True,
        ):
            jwk[name] = b64(value.to_bytes((value.bit_length() + 7) // 8, "big"))
    return json.dumps(jwk)


def refused(token: str, key: str | None = None) -> str:
    with pytest.raises(WitSvidError) as e:
        WitSvid.parse_unverified(token, private_jwk() if key is None else key)
    return str(e.value)


class TestParse:
    def test_token_and_key(self) -> None:
        """WIT-SVID §2, §3: the token, and the key without which it is worth nothing."""
        svid = WitSvid.parse_unverified(wit(bound(jti="7")), private_jwk(), hint="internal")
        assert "spiffe://a.test/peer" == str(svid.id) == str(svid.wit.id)
        assert HOLDER.public_key() == svid.wit.key == svid.private_key.public_key()
        assert ("ES256", "one", "internal") == (svid.wit.key_alg, svid.wit.key_id, svid.hint)
        assert (AT + timedelta(minutes=5), AT - timedelta(minutes=1)) == (svid.expires_at, svid.wit.issued_at)
        assert "7" == svid.wit.claims["jti"]
        assert wit().count(".") == svid.token.reveal().count(".")

    def test_rsa_keys(self) -> None:
        """WIT-SVID §3.2."""
        svid = WitSvid.parse_unverified(wit(bound(rsa_key())), private_jwk(rsa_key()))
        assert rsa_key().public_key() == svid.private_key.public_key()

    def test_neither_token_nor_key_is_shown(self) -> None:
        """Not in repr; equal by token and hint."""
        token = wit()
        svid = WitSvid.parse_unverified(token, private_jwk())
        assert not any(part in repr(svid) for part in token.split("."))
        assert "private" not in repr(svid).lower()
        assert {svid} == {WitSvid.parse_unverified(token, private_jwk())}
        assert hash(svid.wit) == hash(WitSvid.parse_unverified(token, private_jwk()).wit)

    @pytest.mark.parametrize("typ", [..., None, "JWT", "JOSE", "WIT+JWT", "wit", 5])
    def test_type(self, typ: object) -> None:
        """WIT-SVID §2.2: must be there and be wit+jwt."""
        assert "wit+jwt" in refused(wit(typ=typ))

    @pytest.mark.parametrize("kid", [..., None, "", 5])
    def test_key_id(self, kid: object) -> None:
        """WIT-SVID §2.1: must be there."""
        assert "`kid`" in refused(wit(kid=kid))

    @pytest.mark.parametrize("alg", ["none", "HS256", "EdDSA", "ES256K", None])
    def test_algorithm(self, alg: object) -> None:
        """WIT-SVID §2.3: the same nine as for JWT-SVIDs."""
        assert "is not an allowed one" in refused(wit_with(alg))

    def test_critical_extensions(self) -> None:
        """RFC 7515 §4.1.11."""
        assert "`crit`" in refused(wit(crit=["x"]))

    @pytest.mark.parametrize("claim", ["sub", "exp", "cnf"])
    def test_required_claims(self, claim: str) -> None:
        """WIT-SVID §3.1, §3.2, §3.3."""
        assert f"`{claim}" in refused(wit(bound(**{claim: ...})))

    @pytest.mark.parametrize("aud", ["orders", [], None])
    def test_no_audience(self, aud: object) -> None:
        """WIT-SVID §3, §7.1: it must not pass for a bearer token."""
        assert "the token has an `aud`" == refused(wit(bound(aud=aud)))

    @pytest.mark.parametrize(
        "cnf",
        [
            None,
            5,
            {},
            {"jwk": None},
            {"jkt": "x"},
            {"jwk": public_jwk(HOLDER)},  # no alg
            {"jwk": public_jwk(HOLDER, alg="none")},
            {"jwk": public_jwk(HOLDER, alg="ES384")},
            {"jwk": {"kty": "oct", "k": "AAAA", "alg": "HS256"}},
            {"jwk": {"kty": "OKP", "crv": "Ed25519", "x": "AAAA", "alg": "EdDSA"}},
        ],
    )
    def test_confirmation(self, cnf: object) -> None:
        """WIT-SVID §3.2: a key, with an algorithm of the list."""
        assert "`cnf.jwk`" in refused(wit(bound(cnf=cnf)))

    @pytest.mark.parametrize(
        "key",
        [
            "",
            "null",
            "[]",
            "{",
            "{}",
            "\ud800",
            "x" * 20_000,
            json.dumps(public_jwk(HOLDER)),
            '{"kty": "EC"}',
            '{"kty": "RSA", "n": 5}',
        ],
    )
    def test_broken_private_keys(self, key: str) -> None:
        """A typed error that says nothing about the key."""
        assert "the private key cannot be read: a JWK of at most 16 KiB is expected" == refused(wit(), key)

    def test_another_private_key(self) -> None:
        """WIT-SVID §5: it must be the one that the token is bound to."""
        assert "is not the one" in refused(wit(), private_jwk(ISSUER))

    def test_a_jwt_svid_is_none(self) -> None:
        """WIT-SVID §7.1: and the other way round."""
        assert "wit+jwt" in refused(sign_token(ISSUER, "ES256"))
        with pytest.raises(JwtSvidError):
            JwtSvid.parse_unverified(wit())

    @given(st.text(max_size=100), st.text(max_size=100))
    def test_any_text_gives_the_error(self, token: str, key: str) -> None:
        """Nothing else."""
        for bad_token, bad_key in ((token, private_jwk()), (wit(), key)):
            with pytest.raises(WitSvidError):
                WitSvid.parse_unverified(bad_token, bad_key)


def wit_with(alg: object) -> str:
    header = {"alg": alg, "kid": "one", "typ": "wit+jwt"}
    return f"{b64(json.dumps(header))}.{b64(json.dumps(bound()))}.{b64('x')}"


def verify(token: str, possession: Callable[..., None] = lambda key, alg: None, **options: object) -> Wit:
    return verify_wit_svid(token, **{"bundles": TRUSTED, "possession": possession, "at": AT, **options})


class NotProven(Exception):
    pass


class TestVerify:
    def test_possession_is_proven(self) -> None:
        """WIT-SVID §4, §7.1: the check is told the key and the algorithm, after all else is good."""
        asked = []
        verified = verify(wit(), lambda key, alg: asked.append((key, alg)))
        assert "spiffe://a.test/peer" == str(verified.id)
        assert [(HOLDER.public_key(), "ES256")] == asked

    def test_possession_is_not_proven(self) -> None:
        """WIT-SVID §7.1: not accepted, with the reason of whoever checked."""

        def never(key: object, alg: str) -> None:
            raise NotProven

        with pytest.raises(NotProven):
            verify(wit(), never)

    def test_there_is_no_way_around_it(self) -> None:
        """WIT-SVID §5: no default that would make it a bearer token."""
        with pytest.raises(TypeError):
            verify_wit_svid(wit(), TRUSTED, at=AT)

    @pytest.mark.parametrize(
        ("token", "why"),
        [
            (lambda: sign_token(HOLDER, "ES256", bound(), typ="wit+jwt"), "made the signature"),
            (lambda: wit(kid="two"), "the key ID 'two'"),
            (lambda: wit(bound(exp=0)), "expired"),
            (lambda: wit(bound(nbf=claims_for()["exp"])), "not valid before"),
            (lambda: wit(typ="JWT"), "wit"),
        ],
    )
    def test_what_is_refused_before_possession_is_asked_for(self, token: Callable[[], str], why: str) -> None:
        """WIT-SVID §3, §4."""

        def never(key: object, alg: str) -> None:
            raise AssertionError

        with pytest.raises(WitSvidError, match=why):
            verify(token(), never)

    def test_own_trust_domain_only(self) -> None:
        """WIT-SVID §6: keys of the subject's trust domain."""
        with pytest.raises(BundleNotFoundError):
            verify(wit(bound(sub="spiffe://b.test/x")))

    def test_replay_is_not_prevented_by_jti(self) -> None:
        """WIT-SVID §3.3: the same token twice is the holder's right."""
        assert verify(wit(bound(jti="1"))) == verify(wit(bound(jti="1")))

    def test_the_callers_mistakes(self) -> None:
        """As with JWT-SVIDs; no leeway at all is none."""
        assert verify(wit(), leeway=timedelta())
        for options in ({"at": AT.replace(tzinfo=None)}, {"leeway": timedelta(seconds=-1)}):
            with pytest.raises(ValueError, match="time zone"):
                verify(wit(), **options)

    def test_keys_of_one_kind_verify_no_other(self) -> None:
        """JWT-SVID §6.2, WIT-SVID §6.2: the same text as a JWK Set makes two different bundles."""
        jwks = TRUSTED[A].to_jwks()
        jwt = BundleSet([JwtBundle.parse_jwks(A, jwks)])
        with pytest.raises(JwtSvidError):
            verify_jwt_svid(sign_token(ISSUER, "ES256"), jwt, audience="orders", at=AT)

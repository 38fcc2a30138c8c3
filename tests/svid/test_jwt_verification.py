"""Whether a JWT-SVID proves an identity, to us and now."""

from __future__ import annotations

import base64
import json
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from spiffe_client.bundle import BundleSet, JwtAuthority, JwtBundle, SpiffeBundle
from spiffe_client.errors import (
    AudienceError,
    BundleNotFoundError,
    ExpiredError,
    InvalidAudienceError,
    JwtSvidError,
    SignatureError,
)
from spiffe_client.ids import TrustDomain
from spiffe_client.svid import JwtSvid, examine_jwt_svid, verify_jwt_svid
from spiffe_client._jose import parse_compact, signed_by
from tests.support.tokens import AT, ISSUED, b64, claims_for, compact, ec_key, public_jwk, rsa_key, sign_token

A, B = TrustDomain("a.test"), TrustDomain("b.test")
SECOND = timedelta(seconds=1)
EC, RSA = ec_key(), rsa_key()


def bundles(*authorities: JwtAuthority, trust_domain: TrustDomain = A) -> BundleSet[JwtBundle]:
    return BundleSet([JwtBundle(trust_domain, authorities)])


def authority(key: object, kid: str | None = "one", alg: str | None = None) -> JwtAuthority:
    return JwtAuthority(kid, key.public_key(), alg)


ONE = bundles(authority(EC))


def verify(token: str, trusted: BundleSet[JwtBundle] = ONE, **options: object) -> JwtSvid:
    return verify_jwt_svid(token, trusted, **{"audience": "orders", "at": AT, **options})


KINDS = [
    (ec_key(), "ES256"),
    (ec_key("P-384"), "ES384"),
    (ec_key("P-521"), "ES512"),
    *((RSA, alg) for alg in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")),
]


class TestAccepted:
    @pytest.mark.parametrize(("key", "alg"), KINDS, ids=[alg for _, alg in KINDS])
    def test_each_algorithm(self, key: object, alg: str) -> None:
        """JWT-SVID §2.1, §4: signed as RFC 7518 says, by a key of the trust domain."""
        svid = verify(sign_token(key, alg), bundles(authority(key)))
        assert "spiffe://a.test/peer" == str(svid.id)

    def test_what_was_proven_is_returned(self) -> None:
        """The same value as for a token of our own, claims included."""
        token = sign_token(EC, "ES256", claims_for(role="admin"))
        assert JwtSvid.parse_unverified(token) == verify(token)
        assert "admin" == verify(token).claims["role"]


class TestKeySelection:
    def test_by_key_id(self) -> None:
        """JWT-SVID §2.2: where it is there, the key of that name."""
        trusted = bundles(authority(ec_key(number=1), "other"), authority(EC))
        assert verify(sign_token(EC, "ES256"), trusted)
        with pytest.raises(SignatureError, match="made the signature"):
            verify(sign_token(EC, "ES256", kid="other"), trusted)
        with pytest.raises(SignatureError, match="the key ID 'third'"):
            verify(sign_token(EC, "ES256", kid="third"), trusted)

    @pytest.mark.parametrize("kid", [..., None])
    def test_without_key_id(self, kid: object) -> None:
        """JWT-SVID §2.2: optional, so every key that fits the algorithm is tried."""
        trusted = bundles(
            *(authority(ec_key(number=n), str(n)) for n in (1, 2)), authority(RSA, "rsa"), authority(EC)
        )
        assert verify(sign_token(EC, "ES256", kid=kid), trusted)
        with pytest.raises(SignatureError, match="made the signature"):
            verify(sign_token(ec_key(number=3), "ES256", kid=kid), trusted)

    def test_keys_without_an_id_are_tried_for_any(self) -> None:
        """RFC 7517 §4.5: `kid` is a hint, and an issuer may leave it out of the key."""
        assert verify(sign_token(EC, "ES256"), bundles(authority(EC, None)))

    def test_two_keys_of_one_id(self) -> None:
        """A careless issuer; both are trusted anyhow."""
        assert verify(sign_token(EC, "ES256"), bundles(authority(ec_key(number=1)), authority(EC)))

    @pytest.mark.parametrize(
        ("alg", "key"), [("ES384", EC), ("RS256", EC), ("ES256", RSA), ("ES512", ec_key("P-384"))]
    )
    def test_the_key_must_fit_the_algorithm(self, alg: str, key: object) -> None:
        """JWT-SVID §2.1: ES256 is P-256 and so on; the key is not even tried."""
        token = compact({"alg": alg, "kid": "one"}, claims_for())
        with pytest.raises(SignatureError, match=f"a key for {alg}"):
            verify(token, bundles(authority(key)))

    def test_a_curve_with_another_hash(self) -> None:
        """RFC 7518 §3.4: P-256 with SHA-384 is no JOSE algorithm, valid signature or not."""
        with pytest.raises(SignatureError):
            verify(sign_token(EC, "ES384"))

    def test_a_key_for_one_algorithm(self) -> None:
        """RFC 7517 §4.4: PS256 with a key that is for RS256."""
        token = sign_token(RSA, "PS256")
        assert verify(token, bundles(authority(RSA, alg="PS256")))
        with pytest.raises(SignatureError, match="a key for PS256"):
            verify(token, bundles(authority(RSA, alg="RS256")))


class TestCostlyBundles:
    def test_many_keys_and_a_token_without_a_key_id(self) -> None:
        """A federated bundle of a thousand keys must not buy a thousand verifications a token."""
        many = [authority(ec_key(number=n), str(n)) for n in range(1, 18)]
        token = sign_token(EC, "ES256", kid=...)
        assert verify(token, bundles(*many[:15], authority(EC)))
        with pytest.raises(SignatureError, match=r"first 16 authorities.*of the 18"):
            verify(token, bundles(*many, authority(EC)))
        assert verify(sign_token(EC, "ES256"), bundles(*many, authority(EC)))

    def test_an_exponent_as_large_as_the_key(self) -> None:
        """Verifying with a public exponent of 256 bits takes many times as long; none is tried."""
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

        n = RSA.public_key().public_numbers().n
        slow = JwtAuthority("one", RSAPublicNumbers(2**255 + 1, n).public_key())
        with pytest.raises(SignatureError, match="made the signature"):
            verify(sign_token(RSA, "RS256"), bundles(slow))
        assert verify(sign_token(RSA, "RS256"), bundles(slow, authority(RSA)))


class TestHints:
    def test_a_secret_and_a_header(self) -> None:
        """What people pass by mistake is told from a malformed token."""
        token = sign_token(EC, "ES256")
        with pytest.raises(JwtSvidError, match=r"reveal\(\)"):
            verify(verify(token).token)
        with pytest.raises(JwtSvidError, match="strip"):
            verify(f"Bearer {token}")


class TestForgeries:
    def test_the_algorithm_none(self) -> None:
        """JWT-SVID §2.1: alg none, with and without a signature."""
        for signature in (b"", b"x"):
            with pytest.raises(JwtSvidError):
                verify(compact({"alg": "none", "kid": "one"}, claims_for(), signature))

    def test_the_public_key_as_an_hmac_secret(self) -> None:
        """JWT-SVID §2.1: everybody knows it."""
        spki = RSA.public_key()
        for secret in (
            spki.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
            spki.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        ):
            with pytest.raises(JwtSvidError, match="is not an allowed one"):
                verify(sign_token(secret, "HS256"), bundles(authority(RSA)))

    def test_eddsa_with_a_key_in_the_bundle(self) -> None:
        """JWT-SVID §2.1: no EdDSA, even if the trust domain publishes such a key."""
        key = ed25519.Ed25519PrivateKey.generate()
        jwk = {"kty": "OKP", "crv": "Ed25519", "x": b64(key.public_key().public_bytes_raw()), "kid": "one"}
        trusted = BundleSet([JwtBundle.parse_jwks(A, json.dumps({"keys": [jwk]}).encode())])
        with pytest.raises(JwtSvidError, match="is not an allowed one"):
            verify(sign_token(key, "EdDSA"), trusted)

    def test_a_key_sent_along_in_the_header(self) -> None:
        """RFC 7515 §4.1: `jwk`, `jku` and `x5c` are the sender's word for it."""
        thief = ec_key(number=7)
        with pytest.raises(SignatureError):
            verify(sign_token(thief, "ES256", jwk=public_jwk(thief), jku="https://evil.test/keys"))

    def test_another_trust_domains_key(self) -> None:
        """JWT-SVID §4: keys come from the bundle of the subject's own trust domain."""
        b = ec_key(number=7)
        trusted = ONE.with_bundle(JwtBundle(B, (authority(b),)))
        assert verify(sign_token(b, "ES256", claims_for(sub="spiffe://b.test/peer")), trusted)
        with pytest.raises(SignatureError):
            verify(sign_token(b, "ES256"), trusted)

    def test_an_issuer_claim_changes_nothing(self) -> None:
        """JWT-SVID §3: the trust domain is in `sub`, not in `iss`."""
        b = ec_key(number=7)
        trusted = ONE.with_bundle(JwtBundle(B, (authority(b),)))
        with pytest.raises(SignatureError):
            verify(sign_token(b, "ES256", claims_for(iss="spiffe://b.test")), trusted)

    @pytest.mark.parametrize("part", [0, 1, 2])
    def test_a_changed_part(self, part: int) -> None:
        """JWT-SVID §4: the signature is over header and claims as they were sent."""
        parts = sign_token(EC, "ES256").split(".")
        others = sign_token(EC, "ES256", claims_for(sub="spiffe://a.test/other"), typ="JWT").split(".")
        parts[part] = others[part]
        with pytest.raises(SignatureError):
            verify(".".join(parts))

    @pytest.mark.parametrize("signature", [b"x", bytes(63), bytes(64), bytes(65), b"\xff" * 64])
    def test_signatures_of_any_length(self, signature: bytes) -> None:
        """RFC 7518 §3.4: also the zero signature."""
        with pytest.raises(SignatureError):
            verify(compact({"alg": "ES256", "kid": "one"}, claims_for(), signature))

    def test_a_der_signature(self) -> None:
        """RFC 7518 §3.4: R and S as they are, not in ASN.1."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        unsigned = compact({"alg": "ES256", "kid": "one"}, claims_for(), b"").rstrip(".")
        der = EC.sign(unsigned.encode(), ec.ECDSA(hashes.SHA256()))
        with pytest.raises(SignatureError):
            verify(f"{unsigned}.{b64(der)}")

    def test_pss_taken_for_pkcs1(self) -> None:
        """JWT-SVID §2.1: one padding is not the other."""
        with pytest.raises(SignatureError):
            verify(sign_token(RSA, "RS256", how="PS256"), bundles(authority(RSA)))

    def test_another_spelling_of_the_same_signature(self) -> None:
        """RFC 4648 §3.5: spare bits; a token has one spelling."""
        token = sign_token(RSA, "RS256")
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        twin = token[:-1] + alphabet[alphabet.index(token[-1]) + 1]
        signature = token.rsplit(".", 1)[1]
        decoded = [base64.urlsafe_b64decode(t.rsplit(".", 1)[1] + "==") for t in (token, twin)]
        assert decoded[0] == decoded[1], signature
        with pytest.raises(JwtSvidError, match="base64url"):
            verify(twin, bundles(authority(RSA)))


class TestBundles:
    def test_no_bundle(self) -> None:
        """JWT-SVID §4, Workload API §4: refused, and the error names the trust domain."""
        with pytest.raises(BundleNotFoundError, match=r"b\.test"):
            verify(sign_token(EC, "ES256", claims_for(sub="spiffe://b.test/peer")))

    def test_an_empty_bundle(self) -> None:
        """Trust Domain and Bundle §4.1.3: trusts nothing."""
        with pytest.raises(SignatureError, match=r"no authority of a\.test"):
            verify(sign_token(EC, "ES256"), bundles())

    def test_x509_authorities_verify_no_token(self) -> None:
        """Workload API §4: bundles are for one kind of SVID."""
        entry = {**public_jwk(EC), "use": "x509-svid"}
        document = SpiffeBundle.parse(A, json.dumps({"keys": [entry]}).encode())
        with pytest.raises(SignatureError):
            verify(sign_token(EC, "ES256"), BundleSet([document.jwt_bundle]))


class TestTimes:
    EXP = ISSUED + 360

    @pytest.mark.parametrize(("late", "leeway"), [(-1, 5), (0, 5), (4, 5), (-1, 0), (59, 60)])
    def test_not_expired(self, late: int, leeway: int) -> None:
        """JWT-SVID §3.3: a small leeway for the clocks."""
        at = AT + timedelta(seconds=300 + late)
        assert verify(sign_token(EC, "ES256"), at=at, leeway=timedelta(seconds=leeway))

    @pytest.mark.parametrize(("late", "leeway"), [(5, 5), (6, 5), (0, 0), (3600, 60)])
    def test_expired(self, late: int, leeway: int) -> None:
        """RFC 7519 §4.1.4: on or after `exp` it must not be accepted."""
        at = AT + timedelta(seconds=300 + late)
        with pytest.raises(ExpiredError, match="expired at 2030-01-01T00:05:00Z"):
            verify(sign_token(EC, "ES256"), at=at, leeway=timedelta(seconds=leeway))

    def test_not_before(self) -> None:
        """RFC 7519 §4.1.5: honoured, with the same leeway."""
        token = sign_token(EC, "ES256", claims_for(nbf=ISSUED + 60))
        assert verify(token, at=AT)
        assert verify(token, at=AT - 5 * SECOND)
        with pytest.raises(ExpiredError, match="not valid before 2030-01-01T00:00:00Z"):
            verify(token, at=AT - 6 * SECOND)

    def test_issued_in_the_future(self) -> None:
        """JWT-SVID §3: `iat` is for records; `nbf` is what holds a token back."""
        assert verify(sign_token(EC, "ES256", claims_for(iat=ISSUED + 10_000)))

    @pytest.mark.parametrize("exp", [253402300799, -62135596800])
    def test_the_ends_of_time(self, exp: int) -> None:
        """The last second that is a date, and the first: no overflow."""
        token = sign_token(EC, "ES256", claims_for(exp=exp))
        if exp > 0:
            assert verify(token, leeway=timedelta(days=365))
        else:
            with pytest.raises(ExpiredError):
                verify(token, leeway=timedelta(days=365))

    def test_the_callers_mistakes(self) -> None:
        """A local time taken for UTC, a leeway that makes tokens expire early."""
        for options in ({"at": AT.replace(tzinfo=None)}, {"leeway": -SECOND}):
            with pytest.raises(ValueError, match="time zone"):
                verify(sign_token(EC, "ES256"), **options)


class TestAudience:
    def test_one_of_the_tokens(self) -> None:
        """JWT-SVID §3.2: a token may be for several."""
        assert verify(sign_token(EC, "ES256", claims_for(aud=["billing", "orders"])))
        assert verify(sign_token(EC, "ES256", claims_for(aud="orders")))

    @pytest.mark.parametrize(
        "audience", [["x", "orders"], {"orders", "y"}, ("orders",), frozenset({"orders"})]
    )
    def test_one_of_ours(self, audience: object) -> None:
        """JWT-SVID §3.2: a service may have several names."""
        assert verify(sign_token(EC, "ES256"), audience=audience)

    @pytest.mark.parametrize(
        "aud", ["billing", ["billing"], "Orders", "order", "orders/", ["orders "], "", [""]]
    )
    def test_somebody_elses(self, aud: object) -> None:
        """JWT-SVID §3.2, §7.2: whole and case-sensitive; a token for another service is not for us."""
        with pytest.raises(AudienceError, match="not for 'orders'"):
            verify(sign_token(EC, "ES256", claims_for(aud=aud)))

    @pytest.mark.parametrize("audience", ["", [], (), set(), [""], ["orders", ""], [None], [5], [b"orders"]])
    def test_an_empty_expectation_is_a_mistake(self, audience: object) -> None:
        """JWT-SVID §3.2: the caller's, and never a way to skip the check; not even for a bad token."""
        for check in (verify_jwt_svid, examine_jwt_svid):
            with pytest.raises(InvalidAudienceError):
                check("no token", ONE, audience=audience, at=AT)

    def test_many_audiences_are_not_all_listed(self) -> None:
        """A log line stays a line."""
        with pytest.raises(AudienceError, match=r"'0', '1', '2' and 6 more") as e:
            verify(sign_token(EC, "ES256", claims_for(aud=[str(n) for n in range(9)])))
        with pytest.raises(AudienceError, match=r"'0', '1', '2', not for"):
            verify(sign_token(EC, "ES256", claims_for(aud=["0", "1", "2"])))
        assert "jwt_svid_audience" == e.value.code


class TestOrder:
    def test_nothing_is_said_about_claims_nobody_signed(self) -> None:
        """JWT-SVID §4: expired, for somebody else and forged is forged."""
        token = sign_token(ec_key(number=7), "ES256", claims_for(exp=0, aud="x"))
        with pytest.raises(SignatureError):
            verify(token)

    def test_errors_never_hold_the_token(self) -> None:
        """JWT-SVID §7.1: an error may be logged, a token may not."""
        for token in (
            sign_token(ec_key(number=7), "ES256"),
            sign_token(EC, "ES256", claims_for(aud="x")),
            sign_token(EC, "ES256", claims_for(exp=0)),
        ):
            with pytest.raises(JwtSvidError) as e:
                verify(token)
            assert not any(part in str(e.value) + repr(e.value) for part in token.split("."))


class TestExamine:
    def test_a_good_token(self) -> None:
        """Each check by name and section, all passed, in the words of the rule."""
        checks = examine_jwt_svid(sign_token(EC, "ES256"), ONE, audience="orders", at=AT)
        assert all(check.ok for check in checks)
        assert {
            "compact",
            "algorithm",
            "key_id",
            "type",
            "critical_headers",
            "subject",
            "audience",
            "expiry",
            "not_before",
            "issued_at",
            "bundle",
            "signature",
            "in_time",
            "for_us",
        } == {check.name for check in checks}
        assert ("JWT-SVID §4", "an authority of the bundle made the signature") == next(
            (check.section, check.detail) for check in checks if check.name == "signature"
        )

    def test_a_bad_one_is_examined_to_the_end(self) -> None:
        """What fails says why; what depends on it is left out."""
        token = compact({"alg": "none"}, claims_for(exp=0, aud="x"), b"x")
        failed = {
            c.name: c.detail for c in examine_jwt_svid(token, ONE, audience="orders", at=AT) if not c.ok
        }
        assert {"algorithm", "in_time", "for_us"} == set(failed)
        assert "the algorithm 'none' is not an allowed one" == failed["algorithm"]

    @pytest.mark.parametrize(
        ("rules", "claims", "header"),
        [
            ({"algorithm"}, {}, {"alg": "none"}),
            ({"key_id"}, {}, {"kid": 5}),
            ({"type"}, {}, {"typ": "x"}),
            ({"critical_headers"}, {}, {"crit": []}),
            ({"subject"}, {"sub": "spiffe://a.test"}, {}),
            ({"audience"}, {"aud": []}, {}),
            ({"for_us"}, {"aud": "x"}, {}),
            ({"expiry"}, {"exp": ...}, {}),
            ({"in_time"}, {"exp": 0}, {}),
            ({"not_before"}, {"nbf": "0"}, {}),
            ({"in_time"}, {"nbf": ISSUED + 999}, {}),
            ({"issued_at"}, {"iat": True}, {}),
            ({"signature"}, {}, {"kid": "two"}),
            ({"bundle"}, {"sub": "spiffe://b.test/peer"}, {}),
        ],
        ids=repr,
    )
    def test_each_rule_fails_alone(
        self, rules: set[str], claims: dict[str, object], header: dict[str, object]
    ) -> None:
        """The one thing that is wrong is the one thing that is listed."""
        token = sign_token(EC, header.pop("alg", "ES256"), claims_for(**claims), how="ES256", **header)
        checks = examine_jwt_svid(token, ONE, audience="orders", at=AT)
        assert rules == {check.name for check in checks if not check.ok}

    def test_no_token_at_all(self) -> None:
        """One check, and nothing that would need more."""
        assert ["compact"] == [c.name for c in examine_jwt_svid("x", ONE, audience="orders", at=AT)]

    @given(
        st.sampled_from(["ES256", "RS256", "none", ...]),
        st.sampled_from(["one", "two", 5, ...]),
        st.dictionaries(
            st.sampled_from(["sub", "aud", "exp", "nbf", "iat"]),
            st.sampled_from(
                [
                    ...,
                    None,
                    0,
                    ISSUED,
                    ISSUED + 999,
                    "orders",
                    ["x", "orders"],
                    "spiffe://b.test/x",
                    "spiffe://a.test/x",
                ]
            ),
        ),
        st.booleans(),
    )
    def test_it_never_disagrees_with_verification(
        self, alg: object, kid: object, claims: dict[str, object], signed: bool
    ) -> None:
        """Good by every check is verified, and the other way round."""
        key = EC if signed else ec_key(number=7)
        token = sign_token(key, "ES256", claims_for(**claims), kid=kid)
        if alg != "ES256":
            token = compact({"alg": alg} if alg is not ... else {}, claims_for(**claims))
        checks = examine_jwt_svid(token, ONE, audience="orders", at=AT)
        try:
            verify(token)
        except (JwtSvidError, BundleNotFoundError) as error:
            assert str(error) == next(check.detail for check in checks if not check.ok)
        else:
            assert all(check.ok for check in checks)


class TestVectors:
    def test_rfc_7515_a3(self) -> None:
        """RFC 7515 §A.3: the ES256 example of the standard itself, key and signature."""
        jwk = {
            "kty": "EC",
            "crv": "P-256",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
        }
        token = (
            "eyJhbGciOiJFUzI1NiJ9"
            ".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
            ".DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
        )
        jws = parse_compact(token, error=JwtSvidError)
        assert {"iss": "joe", "exp": 1300819380, "http://example.com/is_root": True} == jws.claims
        assert signed_by(JwtAuthority.parse(jwk).public_key, "ES256", jws)


class TestAnyText:
    @given(st.text(max_size=100))
    def test_gives_the_error(self, text: str) -> None:
        """Nothing else."""
        with pytest.raises(JwtSvidError):
            verify(text)

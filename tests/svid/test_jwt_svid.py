"""The JWT-SVID as such: header and claims, whoever signed it."""

from __future__ import annotations

import dataclasses
import json
import traceback
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spiffe_client.errors import JwtSvidError
from spiffe_client.svid import JwtSvid
from tests.support.tokens import AT, ISSUED, b64, claims_for, compact, ec_key, sign_token

HEADER = {"alg": "ES256", "kid": "one", "typ": "JWT"}


def parse(claims: object = None, **header: object) -> JwtSvid:
    members = {name: value for name, value in {**HEADER, **header}.items() if value is not ...}
    return JwtSvid.parse_unverified(compact(members, claims_for() if claims is None else claims))


def refused(claims: object = None, **header: object) -> str:
    with pytest.raises(JwtSvidError) as e:
        parse(claims, **header)
    return str(e.value)


class TestValue:
    def test_what_it_says(self) -> None:
        """JWT-SVID §2, §3: all that a workload needs to know of its own token."""
        token = sign_token(ec_key(), "ES256", claims_for(extra={"a": [1]}))
        svid = JwtSvid.parse_unverified(token, hint="internal")
        assert "spiffe://a.test/peer" == str(svid.id)
        assert frozenset({"orders"}) == svid.audience
        assert datetime(2030, 1, 1, 0, 5, tzinfo=UTC) == svid.expires_at
        assert datetime(2029, 12, 31, 23, 59, tzinfo=UTC) == svid.issued_at
        assert ("internal", "one", {"a": [1]}) == (svid.hint, svid.key_id, svid.claims["extra"])
        assert token == svid.token.reveal()

    def test_the_token_is_a_secret(self) -> None:
        """JWT-SVID §7.1: a bearer token; not in repr, and neither are its claims."""
        token = sign_token(ec_key(), "ES256", claims_for(email="me@a.test"))
        shown = repr(JwtSvid.parse_unverified(token))
        assert not any(part in shown for part in token.split("."))
        assert "me@a.test" not in shown

    def test_claims_are_read_only(self) -> None:
        """Nobody changes what was proven."""
        with pytest.raises(TypeError):
            parse().claims["sub"] = "spiffe://a.test/other"
        with pytest.raises(dataclasses.FrozenInstanceError):
            parse().hint = "x"

    def test_equal_by_token_and_hint(self) -> None:
        """Usable in sets and as a key of caches."""
        assert {parse()} == {parse()}
        assert parse() != parse(claims_for(jti="1"))


class TestSerialisation:
    @pytest.mark.parametrize(
        "token",
        [
            "",
            ".",
            "..",
            "a.b",
            "a.b.c.d",
            "a.b.c.d.e",  # JWE
            compact(HEADER, claims_for()) + ".",
            compact(HEADER, claims_for()) + "=",
            compact(HEADER, claims_for()) + "\n",
            " " + compact(HEADER, claims_for()),
            compact(HEADER, claims_for()).replace(".", ". "),
            compact(HEADER, claims_for()).rsplit(".", 1)[0] + ".",  # no signature
            compact("[]", claims_for()),
            compact(HEADER, "[]"),
            compact(HEADER, "{"),
            compact("é", claims_for()),
            json.dumps({"payload": b64("{}"), "signatures": []}),  # JSON serialisation
            None,
            b"a.b.c",
            5,
        ],
    )
    def test_compact_and_nothing_else(self, token: str) -> None:
        """JWT-SVID §5.1, RFC 7515 §7.1."""
        with pytest.raises(JwtSvidError):
            JwtSvid.parse_unverified(token)

    @pytest.mark.parametrize(
        ("token", "why"),
        [
            ("a.b", "has 2 parts"),
            ("a.b.c.d.e", "has 5 parts"),
            (compact("[]", claims_for()), "header is not a JSON object"),
            (compact(HEADER, "[]"), "claims are not a JSON object"),
            (compact(HEADER, claims_for(), b""), "has no signature"),
            (compact(HEADER, claims_for()) + "=", "is not base64url"),
            (5, "is int, not text"),
        ],
    )
    def test_the_error_says_what_is_wrong(self, token: object, why: str) -> None:
        """Without saying what is in it."""
        with pytest.raises(JwtSvidError, match=why):
            JwtSvid.parse_unverified(token)

    def test_too_large_is_refused_before_it_is_parsed(self) -> None:
        """64 KiB."""
        heads = (compact(HEADER, claims_for(pad="x" * n), b"") for n in range(3))
        largest = (head + b64(b"x" * ((65536 - len(head)) * 3 // 4)) for head in heads)
        good = next(token for token in largest if len(token) == 65536)
        assert JwtSvid.parse_unverified(good)
        with pytest.raises(JwtSvidError, match="at most 65536"):
            JwtSvid.parse_unverified(good + "A" * (65537 - len(good)))

    @pytest.mark.parametrize(
        ("header", "claims"),
        [
            ('{"alg": "none", "alg": "ES256"}', json.dumps(claims_for())),
            (json.dumps(HEADER), '{"sub": "spiffe://a.test/x", ' + json.dumps(claims_for())[1:]),
            (json.dumps(HEADER), json.dumps(claims_for())[:-1] + ', "a": {"b": 1, "b": 2}}'),
        ],
    )
    def test_repeated_names(self, header: str, claims: str) -> None:
        """RFC 7519 §4: of two values each reader takes the one it likes."""
        with pytest.raises(JwtSvidError, match="each member once"):
            JwtSvid.parse_unverified(compact(header, claims))


class TestHeader:
    @pytest.mark.parametrize("alg", [a + n for a in ("RS", "ES", "PS") for n in ("256", "384", "512")])
    def test_algorithms(self, alg: str) -> None:
        """JWT-SVID §2.1: the nine."""
        assert parse(alg=alg)

    @pytest.mark.parametrize(
        "alg",
        [
            "none",
            "None",
            "HS256",
            "HS384",
            "HS512",
            "EdDSA",
            "ES256K",
            "RS1",
            "es256",
            "",
            None,
            5,
            ["ES256"],
            ...,
        ],
    )
    def test_other_algorithms(self, alg: object) -> None:
        """JWT-SVID §2.1: refused before anything else is done; no `none`, no HMAC, no EdDSA."""
        assert "is not an allowed one" in refused(alg=alg)

    @pytest.mark.parametrize("kid", [..., None, "", "one"])
    def test_key_id_is_optional(self, kid: object) -> None:
        """JWT-SVID §2.2."""
        assert parse(kid=kid).key_id in (None, "", "one")

    @pytest.mark.parametrize("kid", [5, [], {}, True])
    def test_key_id_is_text(self, kid: object) -> None:
        """RFC 7515 §4.1.4."""
        assert "`kid` is not text" == refused(kid=kid)

    @pytest.mark.parametrize("typ", [..., "JWT", "JOSE"])
    def test_types(self, typ: object) -> None:
        """JWT-SVID §2.3."""
        assert parse(typ=typ)

    @pytest.mark.parametrize(
        "typ", ["wit+jwt", "at+jwt", "dpop+jwt", "jwt", "JOSE+JSON", "", None, 5, ["JWT"]]
    )
    def test_other_types(self, typ: object) -> None:
        """JWT-SVID §2.3: a token of another kind is not taken for one of this."""
        assert "neither JWT nor JOSE" in refused(typ=typ)

    @pytest.mark.parametrize("crit", [["exp"], ["b64"], [], None, "exp"])
    def test_critical_extensions(self, crit: object) -> None:
        """RFC 7515 §4.1.11: none is understood, and what is not understood is refused."""
        assert "`crit`" in refused(crit=crit)

    def test_other_members_are_ignored(self) -> None:
        """RFC 7515 §4: unless they are critical."""
        assert parse(jku="https://evil.test/keys", x="y")


class TestClaims:
    @pytest.mark.parametrize(
        "sub",
        [
            ...,
            None,
            5,
            "",
            "peer",
            "https://a.test/peer",
            "spiffe://a.test",
            "spiffe://a.test/../x",
            "spiffe://a.test//x",
            "spiffe://a.test/%78",
            ["spiffe://a.test/peer"],
            "\ud800",
        ],
    )
    def test_subject_is_a_workload(self, sub: object) -> None:
        """JWT-SVID §3.1, SPIFFE-ID §2: also not a trust domain."""
        assert "`sub`" in refused(claims_for(sub=sub))

    @pytest.mark.parametrize(
        ("aud", "audience"), [("a", {"a"}), (["a"], {"a"}), (["a", "b", "a"], {"a", "b"})]
    )
    def test_audience(self, aud: object, audience: set[str]) -> None:
        """JWT-SVID §3.2, RFC 7519 §4.1.3: text or a list of text."""
        assert audience == parse(claims_for(aud=aud)).audience

    @pytest.mark.parametrize("aud", [..., None, [], 5, {"a": 1}, [5], ["a", None], [["a"]]])
    def test_audience_is_required(self, aud: object) -> None:
        """JWT-SVID §3.2: present, with at least one value."""
        assert "`aud`" in refused(claims_for(aud=aud))

    @pytest.mark.parametrize(
        "exp", [..., None, True, False, "1893456300", [], {}, 1e300, -1e300, 10**30, 253402300800]
    )
    def test_expiry_is_a_date(self, exp: object) -> None:
        """JWT-SVID §3.3, RFC 7519 §2: a bool is no number, text is no number, and there is no year 10000."""
        assert "`exp`" in refused(claims_for(exp=exp))

    @pytest.mark.parametrize("exp", ["NaN", "Infinity", "-Infinity", "1e999"])
    def test_expiry_is_finite(self, exp: str) -> None:
        """RFC 8259 §6: a token without end by way of a number that is none."""
        claims = json.dumps(claims_for(exp=...))[:-1] + f', "exp": {exp}}}'
        assert "JSON object" in refused(claims)

    @pytest.mark.parametrize("exp", [0, -1, 0.5, 253402300799, ISSUED])
    def test_expiry_may_be_any_date(self, exp: float) -> None:
        """RFC 7519 §2: fractions and long ago are dates."""
        assert exp == parse(claims_for(exp=exp)).expires_at.timestamp()

    @pytest.mark.parametrize("claim", ["nbf", "iat"])
    @pytest.mark.parametrize("value", [None, True, "0", [], 1e300])
    def test_other_times_are_dates(self, claim: str, value: object) -> None:
        """RFC 7519 §4.1.5, §4.1.6: if they are there."""
        assert f"`{claim}`" in refused(claims_for(**{claim: value}))

    def test_issued_at_is_not_required(self) -> None:
        """JWT-SVID §3: nor is anything else."""
        assert None is parse(claims_for(iat=...)).issued_at


class TestSecrecy:
    @pytest.mark.parametrize(
        ("header", "claims"),
        [
            (HEADER, '{"secret": "xyzzy", '),
            ('{"secret": "xyzzy", ', claims_for()),
            (HEADER, b'{"secret": "xyzzy", "\xff": 1}'.decode("latin1")),
            (HEADER, claims_for(aud=5, secret="xyzzy")),
            ({**HEADER, "secret": "xyzzy", "typ": "x"}, claims_for()),
        ],
    )
    def test_errors_hold_nothing_of_the_token(self, header: object, claims: object) -> None:
        """Not the error, nor what caused it, nor what was being handled when it came up."""
        token = compact(header, claims)
        with pytest.raises(JwtSvidError) as e:
            JwtSvid.parse_unverified(token)
        text = "".join(traceback.format_exception(e.value)) + repr(vars(e.value))
        assert "xyzzy" not in text
        assert not any(part in text for part in token.split(".") if len(part) > 12)
        assert None is e.value.__context__

    def test_long_values_are_cut(self) -> None:
        """A stranger does not fill our logs."""
        assert 400 > len(refused(alg="x" * 5000))
        assert 400 > len(refused(claims_for(sub="spiffe://a.test/" + "?" * 5000)))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


class TestAnyText:
    @given(st.text(max_size=200))
    def test_gives_the_error(self, text: str) -> None:
        """Nothing else."""
        with pytest.raises(JwtSvidError):
            JwtSvid.parse_unverified(text)

    @given(
        st.dictionaries(
            st.sampled_from(["alg", "kid", "typ", "crit"]), JSON | st.sampled_from(["ES256", "JWT"])
        ),
        st.dictionaries(
            st.sampled_from(["sub", "aud", "exp", "nbf", "iat"]),
            JSON | st.sampled_from(["spiffe://a.test/peer", 5]),
        ),
    )
    @example({"alg": "ES256"}, {"sub": "spiffe://a.test/peer", "aud": "a", "exp": float("nan")})
    def test_any_members_give_a_value_or_the_error(
        self, header: dict[str, object], claims: dict[str, object]
    ) -> None:
        """Never a TypeError, KeyError or OverflowError."""
        try:
            svid = JwtSvid.parse_unverified(compact(header, claims))
        except JwtSvidError:
            return
        assert svid.audience
        assert svid.expires_at < AT.max.replace(tzinfo=UTC)

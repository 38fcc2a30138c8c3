"""What a crash reporter would print: no frame on the way of an error holds a key or a token."""

from __future__ import annotations

from datetime import timedelta

import pytest

from spiffe_client._frames import border, without_frames
from spiffe_client.errors import JwtSvidError, SpiffeError, X509SvidError
from spiffe_client.svid import JwtSvid, X509Svid, examine_jwt_svid, verify_jwt_svid
from spiffe_client.svid._jwt_verify import DEFAULT_LEEWAY
from tests.support.canary import assert_no_secret
from tests.support.pki import new_authority
from tests.support.tokens import AT, claims_for, compact, ec_key, sign_token
from spiffe_client.bundle import BundleSet, JwtAuthority, JwtBundle
from spiffe_client.ids import TrustDomain

A = new_authority("a.test")
ONE, OTHER = A.leaf("spiffe://a.test/one"), A.leaf("spiffe://a.test/other")
CHAIN = b"".join(ONE.ders)
EC = ec_key()
TRUSTED = BundleSet([JwtBundle(TrustDomain("a.test"), (JwtAuthority("one", EC.public_key()),))])
GOOD = sign_token(EC, "ES256")

KEYS = {
    "another's": (CHAIN, OTHER.key_der),
    "cut short": (CHAIN, ONE.key_der[:-1]),
    "with more": (CHAIN, ONE.key_der + b"x"),
    "too large": (CHAIN, ONE.key_der * 200),
    "malformed chain": (CHAIN[:-1], ONE.key_der),
    "no key": (CHAIN, b"\x30\x40" + bytes(range(64))),
    "bad leaf": (b"".join(A.leaf("spiffe://a.test").ders), ONE.key_der),
}

TOKENS = {
    "audience": (GOOD, {"audience": "others"}),
    "expired": (GOOD, {"at": AT + timedelta(days=1)}),
    "signature": (GOOD[:-8] + "AAAAAAAA", {}),
    "no bundle": (sign_token(EC, "ES256", claims_for(sub="spiffe://b.test/x")), {}),
    "malformed": (GOOD + "!", {}),
    "subject": (sign_token(EC, "ES256", claims_for(sub="nobody")), {}),
    "two parts": (GOOD.rpartition(".")[0], {}),
    "header": (compact({"alg": "none"}, claims_for()), {}),
    "bearer": (f"Bearer {GOOD}", {}),
    "no time zone": (GOOD, {"at": AT.replace(tzinfo=None)}),
    "no audience": (GOOD, {"audience": ""}),
}


@pytest.mark.parametrize("case", KEYS)
def test_private_keys(case: str) -> None:
    """Whatever is wrong with chain or key."""
    chain, key = KEYS[case]
    with pytest.raises(X509SvidError) as e:
        X509Svid.parse_der(chain, key)
    assert_no_secret(e.value, key)


def test_private_keys_in_pem() -> None:
    """As files hold them."""
    for key in (OTHER.key_pem, ONE.key_pem[:-30]):
        with pytest.raises(X509SvidError) as e:
            X509Svid.load_pem(ONE.chain_pem, key)
        assert_no_secret(e.value, key)


@pytest.mark.parametrize("case", TOKENS)
def test_tokens_verified(case: str) -> None:
    """Whatever is wrong with the token, or with what was expected of it."""
    token, changes = TOKENS[case]
    options = {"audience": "orders", "at": AT, "leeway": DEFAULT_LEEWAY, **changes}
    with pytest.raises((SpiffeError, ValueError)) as e:
        verify_jwt_svid(token, TRUSTED, **options)
    assert_no_secret(e.value, token)


def test_tokens_parsed_or_examined() -> None:
    """The other two ways in."""
    with pytest.raises(JwtSvidError) as e:
        JwtSvid.parse_unverified(GOOD + "!")
    assert_no_secret(e.value, GOOD)
    with pytest.raises(ValueError) as e:
        examine_jwt_svid(GOOD, TRUSTED, audience="", at=AT)
    assert_no_secret(e.value, GOOD)


class TestBorder:
    def test_the_callers_own_error_keeps_its_frames(self) -> None:
        """What was being handled when a verification failed is not ours to shorten."""
        try:
            raise RuntimeError("mine")
        except RuntimeError as mine:
            with pytest.raises(SpiffeError) as e:
                JwtSvid.parse_unverified(GOOD + "!")
            assert mine.__traceback__ is not None
            assert mine is e.value.__context__

    def test_a_bug_says_where_it_is(self) -> None:
        """Its frames are gone, so a note names the innermost one."""

        @border
        def broken(token: str) -> None:
            raise ExceptionGroup("two", [KeyError("x"), _raised()])

        with pytest.raises(ExceptionGroup) as e:
            broken(GOOD)
        assert_no_secret(e.value, GOOD)
        assert "in broken, test_no_secrets_in_frames.py:" in e.value.__notes__[0]
        assert [None, None] == [error.__traceback__ for error in e.value.exceptions]

    def test_an_error_that_was_never_raised(self) -> None:
        """It has no place to name."""
        assert not hasattr(without_frames(KeyError("x")), "__notes__")


def _raised() -> Exception:
    try:
        raise ValueError("y")
    except ValueError as error:
        return error


def test_wit_svids() -> None:
    """WIT-SVID §5: neither the token nor the private key that it is bound to; a caller's check keeps its frames."""
    from spiffe_client.bundle.experimental import WitBundle
    from spiffe_client.svid.experimental import WitSvid, verify_wit_svid

    trusted = BundleSet([WitBundle(TrustDomain("a.test"), (JwtAuthority("one", EC.public_key()),))])
    key = '{"kty":"EC","d":"' + "c2VjcmV0" * 12 + '"}'
    with pytest.raises(SpiffeError) as e:
        WitSvid.parse_unverified(GOOD, key)
    assert_no_secret(e.value, GOOD, key)
    with pytest.raises(SpiffeError) as e:
        verify_wit_svid(GOOD, trusted, possession=lambda key, alg: None, at=AT)
    assert_no_secret(e.value, GOOD)

"""`WWW-Authenticate`, as ambiguous as it is (RFC 9110 §11.6.1)."""

from __future__ import annotations


import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiffe_client.http._challenges import parse_challenges
from tests.support.work import growth

INVALID = ("bearer", {"error": "invalid_token"})


@pytest.mark.parametrize(
    ("values", "challenges"),
    [
        ([], []),
        ([""], []),
        (["Bearer"], [("bearer", {})]),
        (['Bearer error="invalid_token"'], [INVALID]),
        (["BEARER Error=invalid_token"], [INVALID]),
        (['Bearer  error = "invalid_token" '], [INVALID]),
        (
            ['Bearer realm="a, b", error="invalid_token"'],
            [("bearer", {"realm": "a, b", "error": "invalid_token"})],
        ),
        (['Basic realm="x", Bearer error="invalid_token"'], [("basic", {"realm": "x"}), INVALID]),
        (['Basic realm="x"', 'Bearer error="invalid_token"'], [("basic", {"realm": "x"}), INVALID]),
        (['Negotiate abc==, Bearer error="invalid_token"'], [("negotiate", {}), INVALID]),
        (["Negotiate, Bearer"], [("negotiate", {}), ("bearer", {})]),
        ([', ,Bearer error="invalid_token",,'], [INVALID]),
        (
            ['DPoP error="use_dpop_nonce", algs="ES256 PS256", Bearer'],
            [("dpop", {"error": "use_dpop_nonce", "algs": "ES256 PS256"}), ("bearer", {})],
        ),
        # The example of RFC 9110 §11.6.1.
        (
            ['Newauth realm="apps", type=1, title="Login to \\"apps\\"", Basic realm="simple"'],
            [
                ("newauth", {"realm": "apps", "type": "1", "title": 'Login to "apps"'}),
                ("basic", {"realm": "simple"}),
            ],
        ),
    ],
)
def test_challenges(values: list[str], challenges: list) -> None:
    """Several to a header, several headers, commas in quotes, token68."""
    assert challenges == parse_challenges(values)


@pytest.mark.parametrize(
    ("value", "challenges"),
    [
        ('error="invalid_token"', []),
        ('Bearer error="invalid_token', [("bearer", {})]),
        ('Bearer error="a" junk"', [("bearer", {})]),
        ('Bearer realm="error=invalid_token"', [("bearer", {"realm": "error=invalid_token"})]),
        (
            'Basic realm="x\\", Bearer error=\\"invalid_token\\""',
            [("basic", {"realm": 'x", Bearer error="invalid_token"'})],
        ),
        ('Bearer error="x", error="invalid_token", DPoP a=b', [("dpop", {"a": "b"})]),
        ('"Bearer error="invalid_token"', []),
    ],
)
def test_attack_what_is_malformed_says_nothing(value: str, challenges: list) -> None:
    """A quoted text is no challenge, and a challenge that says two things says none."""
    assert challenges == parse_challenges([value])


@given(st.text(alphabet=st.characters(max_codepoint=255), max_size=200))
def test_anything_goes_in(value: str) -> None:
    """It comes from a server: nothing raises."""
    parse_challenges([value])


@pytest.mark.parametrize("piece", ["Bearer ", "a=b,", '"', "a ", " ", '\\"', 'x="\\a'])
def test_attack_no_text_takes_long(piece: str) -> None:
    """Time grows with the length, and the length has an end."""
    assert growth(lambda size: parse_challenges(["Bearer " + piece * size]), 12_500) < 24

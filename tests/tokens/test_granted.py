"""More than was asked for is refused, less is visible, and what is not bound as wanted is thrown away."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiffe_client._redact import Secret
from spiffe_client.errors import UnacceptableTokenError
from spiffe_client.tokens import Binding, TokenRequest
from spiffe_client.tokens._granted import Granted, check_binding, check_granted
from spiffe_client.tokens._reply import Issued
from spiffe_client.tokens._urns import ACCESS_TOKEN, ID_JAG, ID_TOKEN, JWT, REFRESH_TOKEN, TXN_TOKEN
from tests.support.tokens import compact

CANARY = "canary-7f3a9c1e5b2d8f4a6c0e1d3b5a7f9c2e"


def issued(token: str = "opaque", **changes: object) -> Issued:
    values = {
        "token_type": "Bearer",
        "issued_token_type": ACCESS_TOKEN,
        "expires_in": 300.0,
        "scope": None,
        "authorization_details": None,
        "refresh_in": None,
        **changes,
    }
    for name in ("scope", "authorization_details"):
        if isinstance(values[name], str) and name == "scope":
            values[name] = frozenset(values[name].split())
        elif isinstance(values[name], list):
            values[name] = json.dumps(values[name]) if values[name] else ""
    return Issued(token=Secret(token), **values)


def why(request: TokenRequest, answer: Issued) -> str:
    with pytest.raises(UnacceptableTokenError) as e:
        check_granted(request, answer)
    assert CANARY not in str(e.value)
    return e.value.why


class TestScope:
    def test_not_said_is_as_asked_for(self) -> None:
        """RFC 6749 §5.1."""
        granted = check_granted(TokenRequest.of("a b"), issued())

        assert Granted(frozenset({"a", "b"}), "", ACCESS_TOKEN) == granted

    def test_narrower_is_visible(self) -> None:
        """Down to nothing at all."""
        assert {"a"} == check_granted(TokenRequest.of("a b"), issued(scope="a")).scope
        assert set() == check_granted(TokenRequest.of("a b"), issued(scope="")).scope

    def test_narrower_is_refused_where_exact(self) -> None:
        """Who can do nothing with less does not get it."""
        assert "narrower" == why(TokenRequest.of("a b", exact=True), issued(scope="a"))
        assert {"a"} == check_granted(TokenRequest.of("a", exact=True), issued(scope="a")).scope

    @pytest.mark.parametrize("scope", ["a b", "b", f"a {CANARY}"])
    def test_wider_is_refused(self, scope: str) -> None:
        """Also where it is merely another, and what came is not repeated if it looks like a token."""
        assert "wider_scope" == why(TokenRequest.of("a"), issued(scope=scope))

    def test_nothing_asked_for_is_left_to_the_token_broker(self) -> None:
        """RFC 6749 §3.3: it has a default, and says which."""
        granted = check_granted(TokenRequest.of(), issued(scope="b", authorization_details=[{"type": "t"}]))

        assert ({"b"}, '[{"type": "t"}]') == (granted.scope, granted.authorization_details)

    def test_scope_beside_asked_details(self) -> None:
        """Who asks for details and no scope gets no scope."""
        request = TokenRequest.of(authorization_details=[{"type": "t"}])

        assert "wider_scope" == why(request, issued(scope="all", authorization_details=[{"type": "t"}]))

    @given(st.sets(st.sampled_from("abcd")), st.sets(st.sampled_from("abcd"), min_size=1))
    def test_never_more(self, granted: set[str], asked: set[str]) -> None:
        """Whatever is granted is within what was asked for, or an error."""
        try:
            got = check_granted(TokenRequest.of(*asked), issued(scope=" ".join(granted))).scope
        except UnacceptableTokenError:
            assert granted - asked
        else:
            assert granted == got <= asked


ASKED = [
    {"type": "payment", "actions": ["read", "write"], "limit": {"currency": "EUR", "amount": 100}},
    {"type": "account", "identifier": "7"},
]


class TestDetails:
    """RFC 9396 §7: what was granted may be less, or filled in."""

    REQUEST = TokenRequest.of(authorization_details=ASKED)

    @pytest.mark.parametrize(
        "granted",
        [
            ASKED,
            ASKED[1:],
            [],
            [{**ASKED[0], "actions": ["read"]}],
            [{**ASKED[1], "locations": ["https://x.example"]}],  # filled in (§7.1)
        ],
        ids=str,
    )
    def test_within(self, granted: list) -> None:
        """Reduced, enriched, in any order."""
        answer = issued(authorization_details=granted)

        assert (json.dumps(granted) if granted else "") == check_granted(
            self.REQUEST, answer
        ).authorization_details

    @pytest.mark.parametrize(
        "granted",
        [
            [{"type": "other"}],
            [*ASKED, {"type": "payment"}],  # without its limits
            [{**ASKED[0], "actions": ["read", "delete"]}],
            [{**ASKED[0], "actions": "read"}],
            [{**ASKED[0], "limit": {"currency": "EUR", "amount": 101}}],
            [{**ASKED[0], "limit": {"currency": "EUR"}}],
            [{**ASKED[0], "limit": 100}],
            [{**ASKED[1], "identifier": 7}],
            [{**ASKED[1], "identifier": "8"}],
            [{"type": CANARY}],
        ],
        ids=str,
    )
    def test_wider(self, granted: list) -> None:
        """Something that was not asked for, or without a limit that was."""
        assert "wider_details" == why(self.REQUEST, issued(authorization_details=granted))

    def test_not_said(self) -> None:
        """A token broker that does not know them ignores them, and grants anything (§7: MUST return)."""
        assert "wider_details" == why(self.REQUEST, issued())
        # In an assertion for another token broker they are inside.
        answer = issued(token_type="N_A", issued_token_type=JWT)
        assert "" == check_granted(self.REQUEST, answer).authorization_details

    def test_details_nobody_asked_for(self) -> None:
        """Beside the scope that was."""
        assert "wider_details" == why(TokenRequest.of("a"), issued(authorization_details=[{"type": "t"}]))

    @pytest.mark.parametrize(
        ("granted", "fine"),
        [
            (ASKED, True),
            ([{**ASKED[0], "more": 1}, ASKED[1]], True),
            (ASKED[:1], False),
            ([{**ASKED[0], "actions": ["read"]}, ASKED[1]], False),
        ],
        ids=str,
    )
    def test_exact(self, granted: list, fine: bool) -> None:
        """Everything, or an error."""
        request = TokenRequest.of(authorization_details=ASKED, exact=True)
        answer = issued(authorization_details=granted)
        if fine:
            check_granted(request, answer)
        else:
            assert "narrower" == why(request, answer)


class TestKind:
    @pytest.mark.parametrize(
        ("wanted", "said", "token_type", "kind"),
        [
            (None, ACCESS_TOKEN, "Bearer", ACCESS_TOKEN),
            (None, None, "Bearer", ACCESS_TOKEN),
            (None, None, "N_A", JWT),
            (ACCESS_TOKEN, None, "Bearer", ACCESS_TOKEN),
            (JWT, None, "N_A", JWT),
            (ID_JAG, ID_JAG, "N_A", ID_JAG),
            (None, ID_TOKEN, "Bearer", ID_TOKEN),
        ],
    )
    def test_as_asked_for(self, wanted, said, token_type, kind) -> None:
        """RFC 8693 §2.2.1; where nothing is said it is what is usual."""
        request = TokenRequest.of("a", requested_token_type=wanted)

        assert (
            kind
            == check_granted(request, issued(issued_token_type=said, token_type=token_type)).issued_token_type
        )

    @pytest.mark.parametrize(
        ("wanted", "said", "token_type"),
        [
            (ACCESS_TOKEN, REFRESH_TOKEN, "N_A"),
            (ID_JAG, JWT, "N_A"),
            (ID_JAG, None, "N_A"),
            (JWT, None, "Bearer"),
            (JWT, CANARY, "N_A"),
        ],
    )
    def test_another_kind(self, wanted, said, token_type) -> None:
        """A token of another kind means something else to whoever takes it."""
        request = TokenRequest.of("a", requested_token_type=wanted)

        assert "issued_token_type" == why(request, issued(issued_token_type=said, token_type=token_type))

    @pytest.mark.parametrize("kind", [REFRESH_TOKEN, ID_JAG, TXN_TOKEN])
    def test_never_an_access_token(self, kind: str) -> None:
        """Whatever its token_type says it must not go into an Authorization header."""
        assert "not_an_access_token" == why(TokenRequest.of("a"), issued(issued_token_type=kind))


KEY, CERTIFICATE, NOTHING = Binding("dpop", "thumb"), Binding("mtls", "thumb"), Binding()


def jwt(**claims: object) -> str:
    return compact({"alg": "ES256"}, claims)


class TestBinding:
    @pytest.mark.parametrize(
        ("wanted", "token_type", "token"),
        [
            (NOTHING, "Bearer", "opaque"),
            (KEY, "DPoP", "opaque"),
            (KEY, "DPoP", jwt(cnf={"jkt": "thumb"})),
            (KEY, "DPoP", jwt(sub="x")),  # its token_type says it (RFC 9449 §5)
            (KEY, "DPoP", "a.b.c"),
            (CERTIFICATE, "Bearer", "opaque"),
            (CERTIFICATE, "Bearer", jwt(cnf={"x5t#S256": "thumb"})),
            (KEY, "N_A", "opaque"),
            (CERTIFICATE, "N_A", jwt()),
            (NOTHING, "Bearer", jwt(cnf={"jkt": "somebody's"})),
        ],
    )
    def test_bound_as_wanted(self, wanted: Binding, token_type: str, token: str) -> None:
        """Opaque tokens are taken at the token broker's word; a JWT says more."""
        check_binding(wanted, issued(token, token_type=token_type))

    @pytest.mark.parametrize(
        ("wanted", "token_type", "token", "reason"),
        [
            (KEY, "Bearer", "opaque", "unbound"),  # downgrade (RFC 9449 §5)
            (KEY, "Bearer", jwt(cnf={"jkt": "thumb"}), "unbound"),
            (KEY, "DPoP", jwt(cnf={"jkt": "somebody's"}), "wrong_binding"),
            (NOTHING, "DPoP", "opaque", "wrong_binding"),
            (CERTIFICATE, "DPoP", "opaque", "wrong_binding"),
            (CERTIFICATE, "Bearer", jwt(sub="x"), "unbound"),
            (CERTIFICATE, "Bearer", jwt(cnf="thumb"), "unbound"),
            (CERTIFICATE, "Bearer", jwt(cnf={"x5t#S256": "somebody's"}), "wrong_binding"),
            (Binding("mtls", ""), "Bearer", "opaque", "unbound"),
        ],
    )
    def test_downgrade_attack(self, wanted: Binding, token_type: str, token: str, reason: str) -> None:
        """A token that is not bound to us can be used by whoever steals it."""
        with pytest.raises(UnacceptableTokenError) as e:
            check_binding(wanted, issued(token, token_type=token_type))

        assert reason == e.value.why

"""What was granted, by whom, until when, bound to what; and never the text of it by accident."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import pickle
from datetime import UTC, datetime

import pytest

import spiffe_client.tokens
from spiffe_client._redact import Secret
from spiffe_client.tokens import AccessToken, Binding, SecurityToken, TokenRequest

TEXT = "eyJhbGciOiJFUzI1NiJ9.canary.signature"
REQUEST = TokenRequest.of(
    "orders:read orders:write", audience="orders", resource="urn:orders", purpose="books"
)
UNTIL = datetime(2030, 1, 1, tzinfo=UTC)
TOKEN = AccessToken(
    Secret(TEXT),
    "DPoP",
    "https://i.example",
    REQUEST,
    frozenset({"orders:read"}),
    "",
    "urn:t",
    UNTIL,
    Binding("dpop", "jkt"),
)
TICKET = SecurityToken(Secret(TEXT), "https://i.example", REQUEST, frozenset(), "urn:t", UNTIL)


def test_what_was_asked_for_and_what_was_granted() -> None:
    """Less than was asked for is visible (RFC 6749 §5.1)."""
    assert (frozenset({"orders", "urn:orders"}), "books") == (TOKEN.audience, TOKEN.purpose)
    assert frozenset({"orders:write"}) == TOKEN.missing_scope


@pytest.mark.parametrize("token", [TOKEN, TICKET], ids=lambda token: type(token).__name__)
class TestSecrecy:
    def test_never_shown(self, token: AccessToken | SecurityToken) -> None:
        """Not in repr, str, format, nor in those of what holds it."""
        shown = f"{token!r} {token} {[token]} {dataclasses.replace(token)}"
        assert "canary" not in shown

    def test_never_pickled(self, token: AccessToken | SecurityToken) -> None:
        """A crash reporter or a task queue would take it out of the process."""
        for take in (pickle.dumps, copy.deepcopy):
            with pytest.raises(TypeError, match="pickled or copied"):
                take(token)

    def test_told_apart_in_logs(self, token: AccessToken | SecurityToken) -> None:
        """By twelve digits of its SHA-256."""
        assert hashlib.sha256(TEXT.encode()).hexdigest()[:12] == token.fingerprint

    def test_frozen(self, token: AccessToken | SecurityToken) -> None:
        """What was granted does not change."""
        with pytest.raises(AttributeError):
            token.scope = frozenset({"admin"})  # type: ignore[misc]


def test_what_is_no_access_token_cannot_pass_for_one() -> None:
    """`N_A` (RFC 8693 §2.2.1) is another type, without a way to be presented."""
    assert not isinstance(TICKET, AccessToken)
    assert not hasattr(TICKET, "token_type") and not hasattr(TICKET, "binding")


def test_bound_to_nothing_unless_said() -> None:
    """A bearer token."""
    assert ("none", "") == (Binding().method, Binding().thumbprint)


def test_the_room_lists_its_names() -> None:
    """Each is there, and nothing else is made up."""
    assert set(spiffe_client.tokens.__all__) <= set(dir(spiffe_client.tokens))
    for name in spiffe_client.tokens.__all__:
        assert getattr(spiffe_client.tokens, name) is not None
    with pytest.raises(AttributeError):
        _ = spiffe_client.tokens.Broker  # type: ignore[attr-defined]


def test_in_a_debugger() -> None:
    """What one looks for first, on one line; which token it is by its fingerprint."""
    assert (
        f"AccessToken({TOKEN.fingerprint}, DPoP, scope='orders:read', audience='orders urn:orders', expires 00:00:00Z)"
    ) == repr(TOKEN)

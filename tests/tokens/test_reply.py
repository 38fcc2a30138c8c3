"""Answers of token brokers, good, bad and hostile: each is a value or a typed error that shows nothing."""

from __future__ import annotations

from dataclasses import replace
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiffe_client._redact import Secret
from spiffe_client.errors import (
    InvalidAuthorizationDetailsError,
    InvalidClientError,
    InvalidGrantError,
    InvalidScopeError,
    InvalidTargetError,
    OAuthError,
    TokenBrokerUnavailableError,
    TokenError,
    TokenProtocolError,
    UnacceptableTokenError,
)
from spiffe_client.tokens._reply import Reply, error_of, issued, read_object, unavailable
from tests.support.canary import assert_no_secret

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
CANARY = "canary-7f3a9c1e5b2d8f4a6c0e1d3b5a7f9c2e"
JWT = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl"

GOOD = {
    "access_token": "opaque",
    "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
    "token_type": "Bearer",
    "expires_in": 300,
}


def reply(
    document: object = None, status: int = 200, *, body: bytes | None = None, sent=(), **headers
) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    text = json.dumps(document).encode() if body is None else body
    return Reply(status, {"content-type": "application/json", **named}, text, sent=tuple(map(Secret, sent)))


def good(**changes: object) -> Reply:
    return reply({name: value for name, value in {**GOOD, **changes}.items() if value is not ...})


class TestReadObject:
    @pytest.mark.parametrize(
        "content_type", ["application/json", "application/json; charset=utf-8", "Application/JSON"]
    )
    def test_json(self, content_type: str) -> None:
        """With parameters, in any case (RFC 9110 §8.3.1)."""
        assert {"a": 1} == read_object(reply({"a": 1}, content_type=content_type))

    @pytest.mark.parametrize(
        "content_type",
        ["text/html; charset=utf-8", "application/problem+json", "text/json", "", "nonsense", CANARY],
    )
    def test_anything_else_is_not_read(self, content_type: str) -> None:
        """Errors of proxies are HTML pages; the error names the type and nothing of the page."""
        with pytest.raises(TokenProtocolError) as e:
            read_object(reply(body=f"<p>{CANARY}".encode(), content_type=content_type))

        assert 200 == e.value.status
        assert CANARY not in f"{e.value} {e.value.content_type}"

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{",
            b"[1]",
            b'"text"',
            b"null",
            b'{"access_token": "a", "access_token": "b"}',
            b'{"a": {"b": 1, "b": 2}}',
            b'{"a": NaN}',
            b'{"a": 1e999}',
            b'{"a": 1} x',
            b"\xff{}",
            b"[" * 60000,
            b'{"a": ' * 10000,
        ],
        ids=lambda body: repr(body[:30]),
    )
    def test_what_has_no_one_meaning(self, body: bytes) -> None:
        """A member given twice means different things to different parsers (RFC 8259 §4)."""
        with pytest.raises(TokenProtocolError, match="JSON object with each member once"):
            read_object(reply(body=body))

    @given(st.binary(max_size=300))
    def test_any_bytes(self, body: bytes) -> None:
        """An object or the typed error."""
        try:
            assert isinstance(read_object(reply(body=body)), dict)
        except TokenProtocolError as error:
            assert error.__cause__ is None


class TestErrorOf:
    @pytest.mark.parametrize(
        ("code", "kind"),
        [
            ("invalid_client", InvalidClientError),
            ("invalid_grant", InvalidGrantError),
            ("invalid_scope", InvalidScopeError),
            ("invalid_target", InvalidTargetError),
            ("invalid_authorization_details", InvalidAuthorizationDetailsError),
            ("invalid_request", OAuthError),
            ("use_dpop_nonce", OAuthError),
            ("scope_escalation", OAuthError),  # of authgent, no standard has it
            ("made up just now!", OAuthError),
        ],
    )
    def test_codes(self, code: str, kind: type[OAuthError]) -> None:
        """An open set: those that code reacts to have types of their own (RFC 6749 §5.2)."""
        error = error_of(reply({"error": code, "error_description": "because", "scope": "x"}, 403), now=NOW)

        assert type(error) is kind
        assert (code, 403, "because") == (error.error, error.status, error.description)
        assert f"the token broker answered {code}: because (HTTP status 403)" in str(error)
        assert error.retry_after is None
        assert not error.retryable

    def test_what_may_pass(self) -> None:
        """`temporarily_unavailable`, and statuses that say so."""
        assert error_of(reply({"error": "temporarily_unavailable"}, 400), now=NOW).retryable
        error = error_of(reply({"error": "server_error"}, 503, retry_after="7"), now=NOW)
        assert (True, 7.0) == (error.retryable, error.retry_after)

    @pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 520])
    def test_come_again(self, status: int) -> None:
        """Without a code, and with a page: authgent's 429 is RFC 9457 with a wait."""
        error = error_of(
            reply({"title": "slow"}, status, content_type="application/problem+json", retry_after="45"),
            now=NOW,
        )

        assert isinstance(error, TokenBrokerUnavailableError)
        assert (45.0, True) == (error.retry_after, error.retryable)
        assert str(status) in str(error)

    @pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 418])
    @pytest.mark.parametrize(
        "document",
        [{}, {"error": None}, {"error": 1}, {"error": ""}, {"error": "a\nb"}, {"error": "x" * 101}],
    )
    def test_no_code(self, status: int, document: object) -> None:
        """Whatever it is, it is not OAuth 2."""
        error = error_of(reply(document, status), now=NOW)

        assert isinstance(error, TokenProtocolError)
        assert (status, "application/json") == (error.status, error.content_type)

    @pytest.mark.parametrize(
        ("value", "seconds"),
        [
            ("0", 0.0),
            ("120", 120.0),
            (" 5 ", 5.0),
            ("99999999999", 86400.0),
            ("Sun, 22 Nov 2026 12:01:30 GMT", 90.0),
            ("Sun, 22 Nov 2026 11:00:00 GMT", 0.0),
            ("Sunday, 22-Nov-26 12:01:30 GMT", 90.0),
            ("Sun Nov 22 12:01:30 2026", 90.0),
            ("Fri, 31 Dec 9999 23:59:59 GMT", 86400.0),
            ("-5", None),
            ("1.5", None),
            ("soon", None),
            ("Sun, 99 Nov 2026 12:00:00 GMT", None),
            ("", None),
            ("9" * 5000, None),
        ],
    )
    def test_retry_after(self, value: str, seconds: float | None) -> None:
        """Seconds or a date in one of three forms (RFC 9110 §5.6.7, §10.2.3), a day at most."""
        error = unavailable(reply({}, 503, retry_after=value), now=NOW)

        assert error is not None
        assert seconds == error.retry_after

    @given(st.text(max_size=60))
    def test_any_retry_after(self, value: str) -> None:
        """A server may send anything."""
        error = unavailable(reply({}, 503, retry_after=value), now=NOW)

        assert error is not None
        assert error.retry_after is None or 0 <= error.retry_after <= 86400

    def test_good_statuses_are_not_unavailable(self) -> None:
        """Nor are refusals."""
        assert [None] * 3 == [unavailable(reply({}, status), now=NOW) for status in (200, 400, 404)]

    @pytest.mark.parametrize(
        ("said", "shown"),
        [
            ("grant request is invalid", "grant request is invalid"),
            (f"token {JWT} is bad", "token … is bad"),
            (f"half of one: {JWT[:30]}", "half of one: …"),
            ("got 7f3a9c1e5b2d8f4a6c0e1d3b here", "got … here"),
            (f"secret s3cr3t or s3cr3t%2Fx", "secret … or …%2Fx"),
            ("line\r\nX-Injected: \x1b[31m\u2028red", "line X-Injected:  [31m\u2028red"),
            ("x" * 300, "x" * 200 + "…"),
            ("unauthenticated-requests-are-refused", "unauthenticated-requests-are-refused"),
            (None, ""),
            (7, ""),
        ],
    )
    def test_descriptions_are_shortened_and_scrubbed(self, said: object, shown: str) -> None:
        """Servers echo what they were sent; a log is no place for it."""
        error = error_of(
            reply({"error": "invalid_grant", "error_description": said}, 400, sent=["s3cr3t"]), now=NOW
        )

        assert isinstance(error, OAuthError)
        assert shown == error.description
        assert shown in str(error)

    def test_a_code_that_echoes_the_token(self) -> None:
        """It is scrubbed as well: it lands in every message and metric."""
        error = error_of(reply({"error": f"bad:{CANARY}"}, 400, sent=[CANARY]), now=NOW)

        assert isinstance(error, OAuthError)
        assert_no_secret(error, CANARY)
        assert CANARY not in error.error

    @given(st.text(max_size=40), st.text(min_size=6, max_size=40), st.text(max_size=40))
    def test_what_was_sent_never_comes_back(self, before: str, secret: str, after: str) -> None:
        """Whatever is around it."""
        document = {"error": "invalid_grant", "error_description": before + secret + after}
        error = error_of(reply(document, 400, sent=[secret]), now=NOW)

        assert secret not in error.description or secret in "…" * 100


class TestIssued:
    def test_everything_said(self) -> None:
        """RFC 8693 §2.2.1, RFC 9396 §7, and `refresh_in` of Entra."""
        answer = issued(
            good(
                scope="b a",
                authorization_details=[{"type": "t", "b": 1, "a": 2}],
                refresh_in="150",
                refresh_token="never read",
            ),
            now=NOW,
        )

        assert "opaque" == answer.token.reveal()
        assert ("Bearer", 300.0, 150.0) == (answer.token_type, answer.expires_in, answer.refresh_in)
        assert frozenset({"a", "b"}) == answer.scope
        assert '[{"a":2,"b":1,"type":"t"}]' == answer.authorization_details
        assert "opaque" not in repr(answer)

    def test_nulls_are_as_good_as_nothing(self) -> None:
        """authgent sends every optional member as null."""
        answer = issued(
            good(
                scope=None,
                issued_token_type=None,
                expires_in=None,
                refresh_token=None,
                authorization_details=None,
            ),
            now=NOW,
        )

        assert (None,) * 4 == (
            answer.scope,
            answer.issued_token_type,
            answer.expires_in,
            answer.authorization_details,
        )

    def test_empty_is_not_nothing(self) -> None:
        """An empty scope was granted, none said means as asked for (RFC 6749 §5.1)."""
        answer = issued(good(scope="", authorization_details=[]), now=NOW)

        assert (frozenset(), "") == (answer.scope, answer.authorization_details)

    @pytest.mark.parametrize(
        ("value", "seconds"),
        [
            (300, 300.0),
            ("300", 300.0),
            (59.5, 59.5),
            (0, None),
            ("0", None),
            (-1, None),
            ("-1", None),
            (None, None),
            (..., None),
            (True, None),
            ("3600abc", None),
            ("1e3", None),
            ("", None),
            ([300], None),
            (10**400, None),
            (1e18, None),
            ("9" * 5000, None),
            ("٣٠٠", None),
        ],
    )
    def test_lifetimes(self, value: object, seconds: float | None) -> None:
        """Whatever makes no sense is unknown, which is never taken for ever."""
        answer = issued(good(expires_in=value, refresh_in=value), now=NOW)

        assert (seconds, seconds) == (answer.expires_in, answer.refresh_in)

    @pytest.mark.parametrize(
        ("value", "kind"), [("bearer", "Bearer"), ("BEARER", "Bearer"), ("dpop", "DPoP"), ("n_a", "N_A")]
    )
    def test_token_types_have_no_case(self, value: str, kind: str) -> None:
        """RFC 6749 §5.1."""
        assert kind == issued(good(token_type=value), now=NOW).token_type

    @pytest.mark.parametrize("value", ["mac", "", "Bearer ", CANARY])
    def test_unknown_token_types_are_refused(self, value: str) -> None:
        """Nobody must use a token whose type it does not understand (RFC 6749 §7.1)."""
        with pytest.raises(UnacceptableTokenError) as e:
            issued(good(token_type=value), now=NOW)

        assert "token_type" == e.value.why
        assert_no_secret(e.value, CANARY)

    @pytest.mark.parametrize(
        "changes",
        [
            {"token_type": ...},
            {"token_type": None},
            {"token_type": 1},
            {"access_token": ...},
            {"access_token": None},
            {"access_token": ""},
            {"access_token": 1},
            {"access_token": "two words"},
            {"access_token": "line\r\nX-Injected: yes"},
            {"access_token": "tök"},
            {"access_token": "a\nb", "token_type": "N_A"},
            {"issued_token_type": 1},
            {"scope": ["a"]},
            {"scope": 1},
            {"authorization_details": {"type": "t"}},
            {"authorization_details": "[]"},
            {"authorization_details": ["t"]},
            {"authorization_details": [{"no": "type"}]},
        ],
        ids=str,
    )
    def test_malformed(self, changes: dict[str, object]) -> None:
        """A typed error, and nothing of the body."""
        with pytest.raises(TokenProtocolError) as e:
            issued(good(**{"access_token": CANARY, **changes}), now=NOW)

        assert_no_secret(e.value, CANARY)

    def test_a_token_that_is_no_access_token_may_hold_spaces(self) -> None:
        """It is never put into a header."""
        assert "{ }" == issued(good(token_type="N_A", access_token="{ }"), now=NOW).token.reveal()

    def test_an_error_with_status_200(self) -> None:
        """Some token brokers say so; it is the same error."""
        with pytest.raises(InvalidGrantError):
            issued(reply({"error": "invalid_grant"}), now=NOW)

    @pytest.mark.parametrize("status", [201, 204, 400, 503])
    def test_other_statuses(self, status: int) -> None:
        """Are not read as tokens, whatever they hold."""
        with pytest.raises(TokenError):
            issued(reply(GOOD, status), now=NOW)

    @given(
        st.dictionaries(
            st.sampled_from([*GOOD, "scope", "authorization_details", "refresh_in", "error"]),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
                lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
                max_leaves=5,
            ),
        )
    )
    def test_any_json(self, document: dict[str, object]) -> None:
        """A value whose parts are what they say, or a typed error."""
        try:
            answer = issued(reply({**GOOD, **document}), now=NOW)
        except TokenError:
            return
        assert answer.expires_in is None or 0 < answer.expires_in <= 10 * 365 * 86400
        assert answer.token.reveal().isprintable()


class TestWhoAnsweredWhom:
    """A message names the token broker and the client: with several of each it says which."""

    def test_an_error_code(self) -> None:
        """What is wrong with a client is looked up by its ID, at this token broker."""
        answer = replace(
            reply({"error": "invalid_client", "error_description": "no rule"}, 401),
            url="https://tokens.prod.example/token?tenant=1",
            client="spiffe://prod.example/other",
        )
        assert (
            "the token broker at https://tokens.prod.example/token answered invalid_client to "
            "spiffe://prod.example/other: no rule (HTTP status 401); are its ID, its secret or key, and the way "
            "it authenticates those registered there?"
        ) == str(error_of(answer, now=NOW))

    def test_not_permitted_to_this_client(self) -> None:
        """Of a grant, and of the revocation of another client's token (RFC 7009 §2.1)."""
        said = str(error_of(reply({"error": "unauthorized_client"}, 400), now=NOW))
        assert said.endswith("; is what it asks for permitted to it there?")

    def test_a_page_of_a_proxy(self) -> None:
        """The URL, which says whose proxy it is."""
        answer = replace(reply(None, 502, body=b"<html>"), url="https://tokens.prod.example/token")
        assert "the token broker at https://tokens.prod.example/token answered with HTTP status 502" == str(
            error_of(answer, now=NOW)
        )

"""What authgent-server sends, seen without our client: if this changes, so may what the other tests mean."""

from __future__ import annotations

import httpx
import pytest

from tests.support.peers import Authgent

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def client(authgent: Authgent) -> tuple[str, str]:
    return authgent.register(scope="read write")


def post(authgent: Authgent, path: str, **form: str) -> httpx.Response:
    return httpx.post(f"{authgent.issuer}{path}", data=form, trust_env=False)


def grant(authgent: Authgent, client: tuple[str, str], **form: str) -> httpx.Response:
    return post(
        authgent, "/token",
        **{"grant_type": "client_credentials", "client_id": client[0], "client_secret": client[1], **form},
    )  # fmt: skip


def test_members_that_are_null(authgent: Authgent, client: tuple[str, str]) -> None:
    """Optional members are sent as null, which RFC 6749 §5.1 does not know."""
    reply = grant(authgent, client, scope="read")
    assert 200 == reply.status_code, reply.text
    assert (None, None) == (reply.json()["refresh_token"], reply.json()["issued_token_type"])
    assert "cache-control" not in reply.headers


def test_codes_of_its_own(authgent: Authgent, client: tuple[str, str]) -> None:
    """Codes and statuses outside RFC 6749 §5.2: 403 insufficient_scope, 403 scope_escalation."""
    assert (403, "insufficient_scope") == _refused(grant(authgent, client, scope="admin"))
    parent = grant(authgent, client, scope="read").json()["access_token"]
    child = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token": parent,
        "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "audience": "https://api.example.org/",
    }
    assert (403, "scope_escalation") == _refused(grant(authgent, client, **child, scope="write"))
    assert 200 == grant(authgent, client, **child, scope="read").status_code


def _refused(reply: httpx.Response) -> tuple[int, str]:
    return reply.status_code, reply.json()["error"]


def test_no_scope_asked_is_all_granted(authgent: Authgent, client: tuple[str, str]) -> None:
    """No scope means all that was registered (RFC 6749 §3.3 leaves that open), also of a parent that has less."""
    assert "read write" == grant(authgent, client).json()["scope"]
    child = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token": grant(authgent, client, scope="read").json()["access_token"],
        "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "audience": "https://api.example.org/",
    }
    assert (403, "scope_escalation") == _refused(grant(authgent, client, **child))


def test_introspection_errors_are_problem_json(authgent: Authgent, client: tuple[str, str]) -> None:
    """Introspection has null members, and its errors are problem+json (RFC 7662 §2.3 wants those of RFC 6749)."""
    token = grant(authgent, client, scope="read").json()["access_token"]
    known = post(authgent, "/introspect", client_id=client[0], client_secret=client[1], token=token).json()
    assert (True, None) == (known["active"], known["act"])
    reply = post(authgent, "/introspect")
    assert (400, "application/problem+json") == (reply.status_code, reply.headers["content-type"])


def test_parents_leave_children_behind(authgent: Authgent, client: tuple[str, str]) -> None:
    """Revoking a token leaves those alive that it was exchanged for (RFC 7009 §2.1 lets it)."""
    parent = grant(authgent, client, scope="read").json()["access_token"]
    child = grant(
        authgent, client, scope="read", audience="https://api.example.org/", subject_token=parent,
        grant_type="urn:ietf:params:oauth:grant-type:token-exchange",
        subject_token_type="urn:ietf:params:oauth:token-type:access_token",
    ).json()["access_token"]  # fmt: skip
    gone = post(authgent, "/revoke", client_id=client[0], client_secret=client[1], token=parent)
    assert (200, {}) == (gone.status_code, gone.json())
    states = [post(authgent, "/introspect", token=token).json()["active"] for token in (parent, child)]
    assert [False, True] == states

"""A request as the form that is posted (RFC 6749 §4, RFC 7523 §2.1, RFC 8693 §2.1)."""

from __future__ import annotations

from typing import Final, TypeAlias

from spiffe_client._redact import Secret
from spiffe_client.errors import TokenRequestError
from spiffe_client.tokens._request import TokenRequest
from spiffe_client.tokens._urns import JWT_BEARER, TOKEN_EXCHANGE

__all__ = ["Presented", "form_of"]

#: The text of a subject's or actor's token, and its type.
Presented: TypeAlias = tuple[Secret[str], str]

#: What has a place of its own: a request that says it twice means two things.
_RESERVED: Final = frozenset(
    {
        "actor_token",
        "actor_token_type",
        "assertion",
        "audience",
        "authorization_details",
        "client_assertion",
        "client_assertion_type",
        "client_id",
        "client_secret",
        "grant_type",
        "purpose",
        "requested_token_type",
        "resource",
        "scope",
        "subject_token",
        "subject_token_type",
    }
)


def form_of(
    request: TokenRequest, *, subject: Presented | None = None, actor: Presented | None = None
) -> list[tuple[str, str]]:
    """Return the parameters of a request, without client authentication.

    Args:
        request: What is asked for.
        subject: Its subject's token as it is now; None for `client_credentials`.
        actor: Its actor's.

    Raises:
        TokenRequestError: One of its further parameters has a place of its own.
    """
    taken = sorted(_RESERVED.intersection(name for name, _ in request.parameters))
    if taken:
        raise TokenRequestError(f"parameters {', '.join(taken)} are set by the request itself")
    form = [("grant_type", request.grant)]
    if subject is not None and request.grant == TOKEN_EXCHANGE:
        form += _token("subject", subject)
    elif subject is not None and request.grant == JWT_BEARER:
        form.append(("assertion", subject[0].reveal()))
    if actor is not None:
        form += _token("actor", actor)
    # Sorted, so that the same request is the same form.
    form += [("resource", resource) for resource in sorted(request.resource)]
    form += [("audience", audience) for audience in sorted(request.audience)]
    single = {
        "scope": " ".join(sorted(request.scope)),
        "requested_token_type": request.requested_token_type,
        "authorization_details": request.authorization_details,
        # Of no standard: a token broker that does not know it ignores it (RFC 6749 §3.2).
        "purpose": request.purpose,
    }
    form += [(name, value) for name, value in single.items() if value]
    return [*form, *request.parameters]


def _token(whose: str, presented: Presented) -> list[tuple[str, str]]:
    token, kind = presented
    return [(f"{whose}_token", token.reveal()), (f"{whose}_token_type", kind)]

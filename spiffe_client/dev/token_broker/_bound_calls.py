"""Tokens that are bound to one call of an agent: its arguments must be those that came (RFC 9396 §9)."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping

from spiffe_client.dev.token_broker import _names as names
from spiffe_client.dev.token_broker._document import parse_document

__all__ = ["fits"]


def fits(claims: Mapping[str, object], body: bytes) -> bool:
    """Say whether a token may be used for a request with this body.

    One that is bound to a call is good for the very arguments it was asked for: they are the body, a
    JSON object, or there are none of either.

    Args:
        claims: The token's.
        body: The request's.
    """
    details = claims.get("authorization_details")
    bound = [
        detail
        for detail in (details if isinstance(details, list) else [])
        if isinstance(detail, Mapping) and detail.get("type") == names.AGENT_CALL
    ]
    return not bound or all(detail.get("digest") == _digest(body) for detail in bound)


def _digest(body: bytes) -> str | None:
    """Return base64url of SHA-256 over the arguments, members sorted; empty for none, None for what is no object."""
    if not body:
        return ""
    arguments = parse_document(body)
    if arguments is None:
        return None
    # Written out once more on purpose, like the names: the client has its own.
    text = json.dumps(arguments, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()

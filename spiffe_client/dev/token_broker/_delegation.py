"""Who acts for whom (RFC 8693 §4.1)."""

from __future__ import annotations

from collections.abc import Mapping

from spiffe_client.dev.token_broker._messages import RefusedError

__all__ = ["chain"]

#: How many may act for one another, one behind the other.
_MAX_ACTORS = 4


def chain(claims: Mapping[str, object], actor: str | None) -> Mapping[str, object] | None:
    """Return the `act` of a token made from another, the latest actor outermost.

    Args:
        claims: What the other one says.
        actor: Who acts from now on; None for whoever did so far.

    Raises:
        RefusedError: These would be too many.
    """
    former = claims.get("act")
    held = former if isinstance(former, Mapping) else None
    if actor is None:
        return held
    act: dict[str, object] = {"sub": actor}
    if held is not None:
        act["act"] = dict(held)
    depth = 0
    link: object = act
    while isinstance(link, Mapping):
        depth, link = depth + 1, link.get("act")
    if depth > _MAX_ACTORS:
        raise RefusedError("invalid_request", f"more than {_MAX_ACTORS} actors would act for one another")
    return act

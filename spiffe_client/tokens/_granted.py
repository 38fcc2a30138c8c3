"""What was granted against what was asked for: wider is refused, narrower is visible."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from spiffe_client._frames import border
from spiffe_client._jose import parse_compact
from spiffe_client.errors import TokenError, UnacceptableTokenError
from spiffe_client.tokens._reply import Issued
from spiffe_client.tokens._request import TokenRequest
from spiffe_client.tokens._scrub import scrub
from spiffe_client.tokens._tokens import Binding
from spiffe_client.tokens._urns import ACCESS_TOKEN, ID_JAG, JWT, REFRESH_TOKEN, TXN_TOKEN

__all__ = ["Granted", "check_binding", "check_granted"]

#: Tokens that must not be used as access tokens, whatever their `token_type` says.
_NEVER_ACCESS: Final = frozenset({REFRESH_TOKEN, ID_JAG, TXN_TOKEN})
_CONFIRMATIONS: Final = {"dpop": "jkt", "mtls": "x5t#S256"}


@dataclass(frozen=True, slots=True)
class Granted:
    """What a token that is acceptable permits.

    Attributes:
        scope: Never more than was asked for.
        authorization_details: Canonical JSON; empty for none.
        issued_token_type: A URN.
    """

    scope: frozenset[str]
    authorization_details: str
    issued_token_type: str


def check_granted(request: TokenRequest, issued: Issued) -> Granted:
    """Compare what was granted with what was asked for.

    A request that names neither scope nor authorization details leaves them to the token broker.

    Raises:
        UnacceptableTokenError: It is more, another kind of token, or less where that was not wanted.
    """
    kind = _check_kind(request, issued)
    # Not said means: as asked for (RFC 6749 §5.1).
    # The same set where it is the same: ten thousand tokens hold it once.
    scope = request.scope if issued.scope in (None, request.scope) else issued.scope
    details = issued.authorization_details or ""
    if request.scope or request.authorization_details:
        if wider := scope - request.scope:
            raise UnacceptableTokenError(
                f"the token broker granted more than was asked for: {_listed(wider)}", why="wider_scope"
            )
        details = _check_details(request, issued)
    if request.exact and (scope < request.scope or _fewer(request.authorization_details, details)):
        raise UnacceptableTokenError(
            f"the token broker granted less than was asked for: {_listed(request.scope - scope) or 'details'}",
            why="narrower",
        )
    return Granted(scope, details, kind)


@border
def check_binding(wanted: Binding, issued: Issued) -> None:
    """See that an access token is bound to what it was to be bound to; nothing about any other.

    A JWT's `cnf` is looked at without its signature being verified: it is the token broker's word, as
    `token_type` is (RFC 9449 §5, RFC 8705 §3.1).

    Raises:
        UnacceptableTokenError: It is not.
    """
    if issued.token_type == "N_A":
        return
    if wanted.method == "dpop" and issued.token_type != "DPoP":
        raise UnacceptableTokenError(
            'the token broker issued a token that is not bound to our key; binding="none" accepts bearer tokens',
            why="unbound",
        )
    if wanted.method != "dpop" and issued.token_type == "DPoP":
        raise UnacceptableTokenError(
            "the token broker issued a token that is bound to a key nobody asked for", why="wrong_binding"
        )
    if wanted.method == "none":
        return
    if not wanted.thumbprint:
        raise UnacceptableTokenError(
            "the token cannot be bound to a certificate: none was shown", why="unbound"
        )
    confirmation = _confirmation(issued)
    member = _CONFIRMATIONS[wanted.method]
    if confirmation is None or (wanted.method == "dpop" and member not in confirmation):
        return  # opaque to us: what the token broker said has to do
    if member not in confirmation:
        raise UnacceptableTokenError(
            "the token broker issued a token that is not bound to our certificate", why="unbound"
        )
    if confirmation[member] != wanted.thumbprint:
        raise UnacceptableTokenError(
            "the token broker issued a token that is bound to somebody else's key or certificate",
            why="wrong_binding",
        )


def _check_kind(request: TokenRequest, issued: Issued) -> str:
    wanted, kind = request.requested_token_type, issued.issued_token_type
    if kind is None:
        # Of plain grants nothing is said; of an exchange some token brokers forget it.
        kind = JWT if issued.token_type == "N_A" else ACCESS_TOKEN
        if wanted not in (None, kind):
            kind = None
    if kind is None or (wanted is not None and kind != wanted):
        raise UnacceptableTokenError(
            f"the token broker issued {scrub(kind) if kind else 'a token of a kind it does not name'}, "
            f"asked for was {wanted}",
            why="issued_token_type",
        )
    if issued.token_type != "N_A" and kind in _NEVER_ACCESS:
        raise UnacceptableTokenError(
            f"the token broker issued {kind} to be presented as an access token", why="not_an_access_token"
        )
    return kind


def _check_details(request: TokenRequest, issued: Issued) -> str:
    granted = issued.authorization_details
    if granted is None and issued.token_type == "N_A":
        return ""  # an assertion says it inside, to whom it is for
    if granted is None and request.authorization_details:
        raise UnacceptableTokenError(
            "the token broker does not say which authorization details it granted (RFC 9396 §7): it may "
            "not know of them, and have granted anything",
            why="wider_details",
        )
    asked = _loaded(request.authorization_details)
    for detail in _loaded(granted or ""):
        if not any(_covers(one, detail) for one in asked):
            raise UnacceptableTokenError(
                f"the token broker granted authorization details that were not asked for, of type "
                f"{scrub(detail['type'])!r}",
                why="wider_details",
            )
    return granted or ""


def _loaded(details: str) -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = json.loads(details) if details else []
    return loaded


def _covers(asked: Any, granted: Any) -> bool:
    """Whether what was granted is within what was asked for.

    Members that were not asked for are fine, the token broker may fill in what it decided on (RFC 9396
    §7.1); one that was asked for and is gone may have been a limit.
    """
    if isinstance(asked, dict):
        return isinstance(granted, dict) and all(
            name in granted and _covers(value, granted[name]) for name, value in asked.items()
        )
    if isinstance(asked, list):
        return isinstance(granted, list) and all(any(_covers(a, g) for a in asked) for g in granted)
    return type(asked) is type(granted) and bool(asked == granted)


def _fewer(asked: str, granted: str) -> bool:
    """Whether something that was asked for was not granted in full."""
    return not all(any(_holds(one, detail) for one in _loaded(granted)) for detail in _loaded(asked))


def _holds(granted: Any, asked: Any) -> bool:
    """Whether all of what was asked for was granted."""
    if isinstance(asked, dict):
        return isinstance(granted, dict) and all(
            name in granted and _holds(granted[name], value) for name, value in asked.items()
        )
    if isinstance(asked, list):
        return isinstance(granted, list) and all(any(_holds(g, a) for g in granted) for a in asked)
    return type(asked) is type(granted) and bool(asked == granted)


def _confirmation(issued: Issued) -> dict[str, object] | None:
    """Return the `cnf` of a JWT (RFC 7800 §3.1), None of anything else."""
    token = issued.token.reveal()
    if token.count(".") != 2:
        return None
    try:
        claims = parse_compact(token, error=TokenError).claims
    except TokenError:
        return None
    confirmation = claims.get("cnf")
    return confirmation if isinstance(confirmation, dict) else {}


def _listed(names: Iterable[str]) -> str:
    return scrub(", ".join(sorted(names)))

"""Identity assertion authorization grants (draft-ietf-oauth-identity-assertion-authz-grant)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from spiffe_client._frames import border
from spiffe_client._jose import parse_compact
from spiffe_client.errors import TokenError, UnacceptableTokenError
from spiffe_client.tokens._chaining import require
from spiffe_client.tokens._urns import ID_JAG

if TYPE_CHECKING:
    from spiffe_client.tokens._broker import TokenBroker
    from spiffe_client.tokens._metadata import Metadata
    from spiffe_client.tokens._tokens import SecurityToken

__all__ = ["IdJag"]

_PROFILE: Final = "urn:ietf:params:oauth:grant-profile:id-jag"


@dataclass(frozen=True, slots=True)
class IdJag:
    """An identity assertion authorization grant, as the profile of `ChainedTokens`.

    The identity provider (the first token broker) issues it for one client of one resource's
    authorization server (the second), for one resource.
    """

    token_type: str = ID_JAG
    names_resource: bool = True

    def check_support(self, first: Metadata, second: Metadata | None) -> None:
        """See `Profile.check_support`."""
        known = first.identity_chaining_requested_token_types_supported
        require(first, self.token_type, known, feature="id_jag")
        if second is not None:
            require(second, _PROFILE, second.authorization_grant_profiles_supported, feature="id_jag")

    @border
    def check(self, grant: SecurityToken, first: TokenBroker, second: TokenBroker) -> None:
        """See `Profile.check`.

        `N_A` does not show whether a grant is bound to a key, so its `cnf.jkt` is looked at: with one
        key for both (`TokenBroker(binding=first.dpop)`) it has to be there, and one of another key
        could not be redeemed.
        """
        try:
            jws = parse_compact(grant.token.reveal(), error=TokenError)
        except TokenError as error:
            raise UnacceptableTokenError(
                f"the ID-JAG is malformed: {error}", why="issued_token_type"
            ) from None
        if jws.header.get("typ") != "oauth-id-jag+jwt":
            raise UnacceptableTokenError(
                "the ID-JAG is a JWT of another type (`typ`)", why="issued_token_type"
            )
        if jws.claims.get("aud") not in (second.issuer, [second.issuer]):
            raise UnacceptableTokenError(f"the ID-JAG is not for {second.issuer} alone", why="audience")
        cnf = jws.claims.get("cnf")
        jkt = cnf.get("jkt") if isinstance(cnf, Mapping) else None
        own = None if second.dpop is None else second.dpop.jkt
        if jkt is None and own is not None and second.dpop is first.dpop:
            raise UnacceptableTokenError(
                "the ID-JAG is not bound to the key that it was asked for with", why="unbound"
            )
        if jkt not in (None, own):
            raise UnacceptableTokenError(
                "the ID-JAG is bound to a key that the second token broker's client does not have: make that "
                "one with binding=first.dpop",
                why="wrong_binding",
            )

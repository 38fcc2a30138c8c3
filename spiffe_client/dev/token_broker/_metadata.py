"""What the authorization server says of itself (RFC 8414)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

from spiffe_client.dev.token_broker import _names as names
from spiffe_client.dev.token_broker._authentication import METHODS
from spiffe_client.dev.token_broker._jwt import ALGORITHMS
from spiffe_client.dev.token_broker._rules import Rules

__all__ = ["OAUTH_ONLY", "Endpoints", "Feature", "Offer", "WellKnown", "metadata"]

#: What can be left out, to see how clients take that.
Feature: TypeAlias = Literal["dpop", "mtls", "introspection", "revocation", "rar", "ssf"]
#: Where metadata can be found: as RFC 8414 §3.1 says, or as others put it.
WellKnown: TypeAlias = Literal["oauth", "openid", "openid_appended", "oauth_appended"]

#: As RFC 8414 §3.1 says, and nowhere else.
OAUTH_ONLY: tuple[WellKnown, ...] = ("oauth",)

_OAUTH = "/.well-known/oauth-authorization-server"
_OPENID = "/.well-known/openid-configuration"


@dataclass(frozen=True, slots=True)
class Offer:
    """What is offered, and where that is said.

    Attributes:
        well_known: Where metadata is found.
        without: What is not offered.
    """

    well_known: tuple[WellKnown, ...] = OAUTH_ONLY
    without: frozenset[Feature] = frozenset()


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where everything is.

    Attributes:
        issuer: The issuer identifier.
        aliases: The origin where clients that show a certificate go (RFC 8705 §5).
    """

    issuer: str
    aliases: str

    @property
    def path(self) -> str:
        """The path of the issuer identifier; empty if it has none."""
        return urlsplit(self.issuer).path

    def alias(self, name: str) -> str:
        """Return the mTLS alias of an endpoint."""
        return f"{self.aliases}{self.path}/{name}"

    def well_known(self, name: str) -> str:
        """Return the path of a document about this issuer, its own path behind (RFC 8414 §3.1)."""
        return f"{name}{self.path}"

    def metadata_paths(self, kinds: Collection[WellKnown]) -> tuple[str, ...]:
        """Return the paths under which metadata is found."""
        paths: dict[WellKnown, str] = {
            "oauth": self.well_known(_OAUTH),
            "openid": self.well_known(_OPENID),
            "openid_appended": self.path + _OPENID,
            "oauth_appended": self.path + _OAUTH,
        }
        return tuple(dict.fromkeys(paths[kind] for kind in kinds))


def metadata(endpoints: Endpoints, offer: Offer, rules: Rules) -> dict[str, object]:
    """Return the metadata document.

    Args:
        endpoints: Where everything is.
        offer: What is offered.
        rules: Who may have what.
    """
    issuer, without = endpoints.issuer, offer.without
    offered = [n for n in ("introspection", "revocation") if n not in without]
    document: dict[str, object] = {
        "issuer": issuer,
        "token_endpoint": f"{issuer}/token",
        "jwks_uri": f"{issuer}/jwks",
        "response_types_supported": [],
        "grant_types_supported": [names.CLIENT_CREDENTIALS, names.TOKEN_EXCHANGE, names.JWT_BEARER],
        "token_endpoint_auth_methods_supported": _methods(without),
        "token_endpoint_auth_signing_alg_values_supported": list(ALGORITHMS),
        "identity_chaining_requested_token_types_supported": [names.JWT, names.ID_JAG],
        "authorization_grant_profiles_supported": [names.PROFILE_ID_JAG],
    }
    for name in offered:
        document[f"{name}_endpoint"] = f"{issuer}/{name}"
        document[f"{name}_endpoint_auth_methods_supported"] = _methods(without)
    if "mtls" not in without:
        document["mtls_endpoint_aliases"] = {
            f"{name}_endpoint": endpoints.alias(name) for name in ("token", *offered)
        }
        document["tls_client_certificate_bound_access_tokens"] = True
    if "rar" not in without:
        types = frozenset[str]().union(*(client.details for client in rules)) - {"*"}
        document["authorization_details_types_supported"] = sorted(types)
    if "dpop" not in without:
        document["dpop_signing_alg_values_supported"] = list(ALGORITHMS)
    return document


def _methods(without: Collection[Feature]) -> list[str]:
    return [m for m in METHODS if "mtls" not in without or m not in ("spiffe_x509", "tls_client_auth")]

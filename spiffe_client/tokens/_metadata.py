"""What a token broker says of itself: where its endpoints are and what it supports (RFC 8414 §2)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Literal, Self, TypeAlias

from spiffe_client.errors import DiscoveryError, UnsupportedByBrokerError
from spiffe_client.tokens._origin import Origin, origin_of
from spiffe_client.tokens._url import check_url

__all__ = ["EndpointName", "Metadata"]

#: The endpoints that are called here, as metadata names them.
EndpointName: TypeAlias = Literal["token_endpoint", "revocation_endpoint", "introspection_endpoint"]

_ENDPOINTS: Final = ("token_endpoint", "revocation_endpoint", "introspection_endpoint", "jwks_uri")
_LISTS: Final = (
    "grant_types_supported",
    "token_endpoint_auth_methods_supported",
    "token_endpoint_auth_signing_alg_values_supported",
    "revocation_endpoint_auth_methods_supported",
    "introspection_endpoint_auth_methods_supported",
    "dpop_signing_alg_values_supported",
    "authorization_details_types_supported",
    "identity_chaining_requested_token_types_supported",
    "authorization_grant_profiles_supported",
)


@dataclass(frozen=True, slots=True)
class Metadata:
    """A token broker's endpoints and abilities; made by hand for one without discovery.

    Lists are empty where the token broker does not say.

    Attributes:
        issuer: Its issuer identifier, exactly as it names itself (RFC 8414 §2).
        token_endpoint: Where tokens are issued.
        revocation_endpoint: Where they are revoked (RFC 7009); None if nowhere.
        introspection_endpoint: Where they are looked up (RFC 7662); None if nowhere.
        jwks_uri: Its public keys; None if it does not say.
        grant_types_supported: As the token broker names them.
        token_endpoint_auth_methods_supported: Client authentications.
        token_endpoint_auth_signing_alg_values_supported: Algorithms of client assertions.
        revocation_endpoint_auth_methods_supported: Client authentications.
        introspection_endpoint_auth_methods_supported: Client authentications.
        dpop_signing_alg_values_supported: Algorithms of DPoP proofs (RFC 9449 §5.1).
        authorization_details_types_supported: Types (RFC 9396 §10).
        identity_chaining_requested_token_types_supported: URNs (draft-ietf-oauth-identity-chaining).
        authorization_grant_profiles_supported: URNs, such as ID-JAG's.
        tls_client_certificate_bound_access_tokens: Whether tokens are bound to certificates (RFC 8705 §3.3).
        mtls_endpoint_aliases: Endpoints for clients that show a certificate (RFC 8705 §5), by name.

    Raises:
        DiscoveryError: A URL is malformed, or is neither https nor of this machine.
    """

    issuer: str
    token_endpoint: str
    revocation_endpoint: str | None = None
    introspection_endpoint: str | None = None
    jwks_uri: str | None = None
    grant_types_supported: tuple[str, ...] = ()
    token_endpoint_auth_methods_supported: tuple[str, ...] = ()
    token_endpoint_auth_signing_alg_values_supported: tuple[str, ...] = ()
    revocation_endpoint_auth_methods_supported: tuple[str, ...] = ()
    introspection_endpoint_auth_methods_supported: tuple[str, ...] = ()
    dpop_signing_alg_values_supported: tuple[str, ...] = ()
    authorization_details_types_supported: tuple[str, ...] = ()
    identity_chaining_requested_token_types_supported: tuple[str, ...] = ()
    authorization_grant_profiles_supported: tuple[str, ...] = ()
    tls_client_certificate_bound_access_tokens: bool = False
    mtls_endpoint_aliases: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        check_url(self.issuer, "issuer", error=DiscoveryError)
        for name in _ENDPOINTS:
            if (url := getattr(self, name)) is not None:
                check_url(url, name, error=DiscoveryError)
        for name, url in self.mtls_endpoint_aliases.items():
            check_url(url, f"mtls_endpoint_aliases.{name}", error=DiscoveryError)
        object.__setattr__(self, "mtls_endpoint_aliases", MappingProxyType(dict(self.mtls_endpoint_aliases)))

    @classmethod
    def read(
        cls, document: Mapping[str, object], issuer: str, *, allowed_origins: Collection[str] = ()
    ) -> Self:
        """Read a metadata document.

        Args:
            document: As it came.
            issuer: Whose it must be, exactly (RFC 8414 §3.3).
            allowed_origins: Origins beside the issuer's that endpoints may have.

        Raises:
            DiscoveryError: It is somebody else's, or malformed.
        """
        if document.get("issuer") != issuer:
            raise _another(issuer, document.get("issuer"))
        urls = {name: _url(document, name) for name in _ENDPOINTS}
        token_endpoint = urls.pop("token_endpoint")
        if token_endpoint is None:
            raise DiscoveryError(f"the metadata of {issuer} has no token_endpoint")
        aliases = _aliases(document)
        allowed = {origin_of(issuer), *map(_allowed, allowed_origins)}
        for name, url in {**urls, "token_endpoint": token_endpoint}.items():
            if url is not None:
                _check_origin(url, name, allowed)
        for name, url in aliases.items():
            _check_alias(url, name, issuer, allowed)
        members: dict[str, Any] = {**urls, **{name: _list(document, name) for name in _LISTS}}
        bound = document.get("tls_client_certificate_bound_access_tokens") is True
        return cls(
            issuer=issuer,
            token_endpoint=token_endpoint,
            tls_client_certificate_bound_access_tokens=bound,
            mtls_endpoint_aliases=aliases,
            **members,
        )

    def endpoint(self, name: EndpointName, *, mtls: bool = False) -> str:
        """Return an endpoint's URL.

        Args:
            name: Which.
            mtls: Whether the client shows a certificate: it uses the alias where there is one
                (RFC 8705 §5).

        Raises:
            UnsupportedByBrokerError: The token broker has none.
        """
        url: str | None = (self.mtls_endpoint_aliases.get(name) if mtls else None) or getattr(self, name)
        if url is None:
            raise UnsupportedByBrokerError(f"the token broker {self.issuer} has no {name}", feature=name)
        return url


def _another(issuer: str, named: object) -> DiscoveryError:
    advice = ""
    with suppress(DiscoveryError):  # what cannot be an issuer is not proposed as one
        advice = f'; if it is the right one, say issuer="{check_url(named, "issuer", error=DiscoveryError)}", exactly'
    return DiscoveryError(
        f"the metadata of {issuer} says its issuer is {named!r:.200}: another token broker's answers would "
        f"be taken for this one's (RFC 8414 §3.3){advice}"
    )


def _url(document: Mapping[str, object], name: str) -> str | None:
    value = document.get(name)
    return None if value is None else check_url(value, name, error=DiscoveryError)


def _list(document: Mapping[str, object], name: str) -> tuple[str, ...]:
    value = document.get(name)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise DiscoveryError(f"the token broker's metadata: {name} is not a list of text")
    return tuple(value)


def _aliases(document: Mapping[str, object]) -> dict[str, str]:
    value = document.get("mtls_endpoint_aliases")
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise DiscoveryError("the token broker's metadata: mtls_endpoint_aliases is not an object")
    # Of endpoints that are not called here it does not matter what they are.
    return {
        name: check_url(value[name], f"mtls_endpoint_aliases.{name}", error=DiscoveryError)
        for name in _ENDPOINTS
        if value.get(name) is not None
    }


def _allowed(origin: str) -> Origin:
    return origin_of(check_url(origin, "allowed origin", error=DiscoveryError))


def _check_origin(url: str, name: str, allowed: Collection[Origin]) -> None:
    if origin_of(url) not in allowed:
        raise DiscoveryError(
            f"the token broker's {name} is at {origin_of(url)}, which is not the issuer's origin: if that "
            f"is meant, name it in allowed_origins"
        )


def _check_alias(url: str, name: str, issuer: str, allowed: Collection[Origin]) -> None:
    # Another port or a name below: TLS with client certificates is often ended by another listener.
    host, home = origin_of(url).host, origin_of(issuer).host
    if host != home and not host.endswith(f".{home}"):
        _check_origin(url, f"mtls_endpoint_aliases.{name}", allowed)

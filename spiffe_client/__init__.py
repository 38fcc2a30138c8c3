"""Async SPIFFE for Python: identities that stay fresh, and mTLS that just works.

    from spiffe_client import Workload

    async with Workload() as me, me.http(peer="spiffe://prod.example/orders") as orders:
        r = await orders.get("https://orders.internal/v1/orders")

Importing this package imports nothing else: each name below is loaded at its first use (PEP 562),
so a command-line tool or a test that needs one of them does not pay for all.
"""

from __future__ import annotations

TYPE_CHECKING = False  # what type checkers read as typing.TYPE_CHECKING, without loading typing
if TYPE_CHECKING:
    # Type checkers and editors read these, the interpreter reads the table below; a test holds
    # the two together.
    from spiffe_client._workload import Workload
    from spiffe_client.audit import Event, EventSink
    from spiffe_client.authorize import Authorizer, allow, any_of, custom, member_of, under
    from spiffe_client.bundle import BundleSet, JwtBundle, SpiffeBundle, X509Bundle
    from spiffe_client.errors import (
        AccessDeniedError,
        AudienceError,
        BundleEndpointError,
        BundleError,
        BundleNotFoundError,
        EndpointError,
        ExpiredError,
        FederationError,
        FirstUpdateTimeoutError,
        IdentityUnavailableError,
        InvalidAudienceError,
        InvalidIdError,
        InvalidRequestError,
        JwtSvidError,
        NoIdentityIssuedError,
        PeerError,
        PeerNotAllowedError,
        PeerUnverifiedError,
        ProtocolError,
        RegistrationError,
        SignatureError,
        SourceClosedError,
        SourceError,
        SpiffeError,
        StaleError,
        SvidError,
        TlsConfigurationError,
        UnavailableError,
        UnexpectedStatusError,
        UnimplementedError,
        WitSvidError,
        WorkloadApiError,
        X509SvidError,
    )
    from spiffe_client.ids import SpiffeId, TrustDomain
    from spiffe_client.sources import BundleSource, Health, JwtSource, X509Source
    from spiffe_client.svid import JwtSvid, X509Svid
    from spiffe_client.tls import Peer, peer_of
    from spiffe_client.workload_api import Endpoint, WorkloadApiClient, X509Context

    __version__: str

__all__ = [
    "AccessDeniedError",
    "AudienceError",
    "Authorizer",
    "BundleEndpointError",
    "BundleError",
    "BundleNotFoundError",
    "BundleSet",
    "BundleSource",
    "Endpoint",
    "EndpointError",
    "Event",
    "EventSink",
    "ExpiredError",
    "FederationError",
    "FirstUpdateTimeoutError",
    "Health",
    "IdentityUnavailableError",
    "InvalidAudienceError",
    "InvalidIdError",
    "InvalidRequestError",
    "JwtBundle",
    "JwtSource",
    "JwtSvid",
    "JwtSvidError",
    "NoIdentityIssuedError",
    "Peer",
    "PeerError",
    "PeerNotAllowedError",
    "PeerUnverifiedError",
    "ProtocolError",
    "RegistrationError",
    "SignatureError",
    "SourceClosedError",
    "SourceError",
    "SpiffeBundle",
    "SpiffeError",
    "SpiffeId",
    "StaleError",
    "SvidError",
    "TlsConfigurationError",
    "TrustDomain",
    "UnavailableError",
    "UnexpectedStatusError",
    "UnimplementedError",
    "WitSvidError",
    "Workload",
    "WorkloadApiClient",
    "WorkloadApiError",
    "X509Bundle",
    "X509Context",
    "X509Source",
    "X509Svid",
    "X509SvidError",
    "__version__",
    "allow",
    "any_of",
    "custom",
    "member_of",
    "peer_of",
    "under",
]

#: Where a public name lives; what is not listed here is an error of `spiffe_client.errors`.
_HOME = {
    "Authorizer": "authorize",
    "BundleSet": "bundle",
    "BundleSource": "sources",
    "Endpoint": "workload_api",
    "Event": "audit",
    "EventSink": "audit",
    "Health": "sources",
    "JwtBundle": "bundle",
    "JwtSource": "sources",
    "JwtSvid": "svid",
    "Peer": "tls",
    "SpiffeBundle": "bundle",
    "SpiffeId": "ids",
    "TrustDomain": "ids",
    "Workload": "_workload",
    "WorkloadApiClient": "workload_api",
    "X509Bundle": "bundle",
    "X509Context": "workload_api",
    "X509Source": "sources",
    "X509Svid": "svid",
    "allow": "authorize",
    "any_of": "authorize",
    "custom": "authorize",
    "member_of": "authorize",
    "peer_of": "tls",
    "under": "authorize",
}


def __getattr__(name: str) -> object:
    from importlib import import_module

    value: object
    if name == "__version__":
        from importlib.metadata import version

        value = version("spiffe-client")
    elif name in __all__:
        value = getattr(import_module(f"{__name__}.{_HOME.get(name, 'errors')}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value  # the next use is a plain attribute load
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

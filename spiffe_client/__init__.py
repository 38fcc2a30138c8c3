"""Async SPIFFE for Python: identities that stay fresh, and mTLS that just works.

    from spiffe_client import Workload

    async with Workload() as me, me.http(peer="spiffe://prod.example/orders") as orders:
        r = await orders.get("https://orders.internal/v1/orders")

    async with Workload(token_broker="https://tokens.prod.example") as me:
        auth = me.auth("orders:read", audience="https://orders.prod.example")
        async with httpx.AsyncClient(auth=auth) as http:
            r = await http.get("https://orders.prod.example/v1/orders")

    async with Workload(contract="closer.toml", environment="prod") as me:
        async with me.task("close the March books", ["invoices:read"], tenant="acme"):
            ...  # what is decorated with `guard` is decided, given credentials and recorded in here

Importing this package imports nothing else: each name below is loaded at its first use (PEP 562),
so a command-line tool or a test that needs one of them does not pay for all.
"""

from __future__ import annotations

TYPE_CHECKING = False  # what type checkers read as typing.TYPE_CHECKING, without loading typing
if TYPE_CHECKING:
    # Type checkers and editors read these, the interpreter reads the table below; a test holds
    # the two together.
    from spiffe_client._workload import Workload
    from spiffe_client.agents import AgentOptions, Call, Task, Ticket, current_task, guard
    from spiffe_client.audit import Event, EventSink, JsonlSink
    from spiffe_client.authorize import Authorizer, allow, any_of, custom, member_of, under
    from spiffe_client.bundle import BundleSet, JwtBundle, SpiffeBundle, X509Bundle
    from spiffe_client.errors import (
        AccessDeniedError,
        AttenuationError,
        AudienceError,
        AuditError,
        BundleEndpointError,
        BundleError,
        BundleNotFoundError,
        ContractError,
        DecisionUnavailableError,
        DeniedError,
        DiscoveryError,
        EndpointError,
        ExpiredError,
        FederationError,
        FirstUpdateTimeoutError,
        IdentityUnavailableError,
        InvalidAudienceError,
        InvalidAuthorizationDetailsError,
        InvalidClientError,
        InvalidGrantError,
        InvalidIdError,
        InvalidRequestError,
        InvalidScopeError,
        InvalidTargetError,
        JwtSvidError,
        NoIdentityIssuedError,
        NoTaskError,
        OAuthError,
        PeerError,
        PeerNotAllowedError,
        PeerUnverifiedError,
        PolicyError,
        ProtocolError,
        RegistrationError,
        ResourceError,
        SecretSourceError,
        SecurityEventError,
        SignatureError,
        SourceClosedError,
        SourceError,
        SpiffeError,
        StaleError,
        StoppedError,
        SvidError,
        TaskEndedError,
        TaskError,
        TicketError,
        TlsConfigurationError,
        TokenBrokerClosedError,
        TokenBrokerUnavailableError,
        TokenError,
        TokenOriginError,
        TokenProtocolError,
        TokenRequestError,
        UnacceptableTokenError,
        UnavailableError,
        UnexpectedStatusError,
        UnimplementedError,
        UnsupportedByBrokerError,
        WitSvidError,
        WorkloadApiError,
        X509SvidError,
    )
    from spiffe_client.http import JwtSvidAuth, TokenAuth
    from spiffe_client.ids import SpiffeId, TrustDomain
    from spiffe_client.policy import Contract
    from spiffe_client.sources import BundleSource, Health, JwtSource, X509Source
    from spiffe_client.svid import JwtSvid, X509Svid
    from spiffe_client.tls import Peer, peer_of
    from spiffe_client.tokens import (
        AccessToken,
        ForeignToken,
        OwnSvid,
        SecurityToken,
        TokenBroker,
        TokenBrokerOptions,
        TokenRequest,
    )
    from spiffe_client.workload_api import Endpoint, WorkloadApiClient, X509Context

    __version__: str

__all__ = [
    "AccessDeniedError",
    "AccessToken",
    "AgentOptions",
    "AttenuationError",
    "AudienceError",
    "AuditError",
    "Authorizer",
    "BundleEndpointError",
    "BundleError",
    "BundleNotFoundError",
    "BundleSet",
    "BundleSource",
    "Call",
    "Contract",
    "ContractError",
    "DecisionUnavailableError",
    "DeniedError",
    "DiscoveryError",
    "Endpoint",
    "EndpointError",
    "Event",
    "EventSink",
    "ExpiredError",
    "FederationError",
    "FirstUpdateTimeoutError",
    "ForeignToken",
    "Health",
    "IdentityUnavailableError",
    "InvalidAudienceError",
    "InvalidAuthorizationDetailsError",
    "InvalidClientError",
    "InvalidGrantError",
    "InvalidIdError",
    "InvalidRequestError",
    "InvalidScopeError",
    "InvalidTargetError",
    "JsonlSink",
    "JwtBundle",
    "JwtSource",
    "JwtSvid",
    "JwtSvidAuth",
    "JwtSvidError",
    "NoIdentityIssuedError",
    "NoTaskError",
    "OAuthError",
    "OwnSvid",
    "Peer",
    "PeerError",
    "PeerNotAllowedError",
    "PeerUnverifiedError",
    "PolicyError",
    "ProtocolError",
    "RegistrationError",
    "ResourceError",
    "SecretSourceError",
    "SecurityEventError",
    "SecurityToken",
    "SignatureError",
    "SourceClosedError",
    "SourceError",
    "SpiffeBundle",
    "SpiffeError",
    "SpiffeId",
    "StaleError",
    "StoppedError",
    "SvidError",
    "Task",
    "TaskEndedError",
    "TaskError",
    "Ticket",
    "TicketError",
    "TlsConfigurationError",
    "TokenAuth",
    "TokenBroker",
    "TokenBrokerClosedError",
    "TokenBrokerOptions",
    "TokenBrokerUnavailableError",
    "TokenError",
    "TokenOriginError",
    "TokenProtocolError",
    "TokenRequest",
    "TokenRequestError",
    "TrustDomain",
    "UnacceptableTokenError",
    "UnavailableError",
    "UnexpectedStatusError",
    "UnimplementedError",
    "UnsupportedByBrokerError",
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
    "current_task",
    "custom",
    "guard",
    "member_of",
    "peer_of",
    "under",
]

#: Where a public name lives; what is not listed here is an error of `spiffe_client.errors`.
_HOME = {
    "AccessToken": "tokens",
    "AgentOptions": "agents",
    "Authorizer": "authorize",
    "BundleSet": "bundle",
    "BundleSource": "sources",
    "Call": "agents",
    "Contract": "policy",
    "Endpoint": "workload_api",
    "Event": "audit",
    "EventSink": "audit",
    "ForeignToken": "tokens",
    "Health": "sources",
    "JsonlSink": "audit",
    "JwtBundle": "bundle",
    "JwtSource": "sources",
    "JwtSvid": "svid",
    "JwtSvidAuth": "http",
    "OwnSvid": "tokens",
    "Peer": "tls",
    "SecurityToken": "tokens",
    "SpiffeBundle": "bundle",
    "SpiffeId": "ids",
    "Task": "agents",
    "Ticket": "agents",
    "TokenAuth": "http",
    "TokenBroker": "tokens",
    "TokenBrokerOptions": "tokens",
    "TokenRequest": "tokens",
    "TrustDomain": "ids",
    "Workload": "_workload",
    "WorkloadApiClient": "workload_api",
    "X509Bundle": "bundle",
    "X509Context": "workload_api",
    "X509Source": "sources",
    "X509Svid": "svid",
    "allow": "authorize",
    "any_of": "authorize",
    "current_task": "agents",
    "custom": "authorize",
    "guard": "agents",
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

"""Scoped tokens from a token broker: asked for with this workload's identity, kept fresh in memory.

| what | modules, from the user's end to the wire |
|---|---|
| the client | `_broker`, `_options`, `_session`, `_open`, `_home`, `_health`, `_reports`, `_kill_switch` |
| asked for and given | `_request`, `_parties`, `_subject`, `_form`, `_urns`, `_tokens`, `_granted`, `_reply`, `_lineage` |
| kept fresh | `_cache`, `_entries`, `_lifetime`, `_flights`, `_flight`, `_landing`, `_purging`, `_rotation`, `_lock` |
| tried again | `_retries`, `_gates`, `_refusals`, `_calls` |
| who asks | `_identity`, `_in_time`, `_authentication` and its kinds, `_secret_source`, `_secret_sources` and theirs |
| bound | `_dpop`, `_nonces`, `_origin` |
| taken back, looked up | `_revocation`, `_introspection` |
| other token brokers | `_chaining`, `_id_jag`, `experimental` |
| security events | `_caep`, `_ssf`, `_access`, `_poll`, `_inbox`, `_security_events`, `_affected` |
| the wire | `_discovery`, `_metadata`, `_endpoint`, `_channel`, `_route`, `_http`, `_wire`, `_url` |
| shown nowhere | `_unprinted`, `_scrub` |
"""

from __future__ import annotations

from spiffe_client._lazy import load_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spiffe_client._redact import Secret
    from spiffe_client.tokens._authentication import ClientAuthentication, ClientFacts, Credentials
    from spiffe_client.tokens._broker import TokenBroker
    from spiffe_client.tokens._caep import CaepPoll
    from spiffe_client.tokens._chaining import ChainedTokens, Chaining
    from spiffe_client.tokens._channel import ServerTrust, SpiffePeer, WebPki
    from spiffe_client.tokens._client_secret import ClientSecret, NoAuthentication
    from spiffe_client.tokens._health import TokenHealth
    from spiffe_client.tokens._id_jag import IdJag
    from spiffe_client.tokens._identity import Identity
    from spiffe_client.tokens._introspection import Introspection
    from spiffe_client.tokens._metadata import Metadata
    from spiffe_client.tokens._options import TokenBrokerOptions, TokenTerms, new_token_broker
    from spiffe_client.tokens._parties import ForeignToken, OwnSvid, Subject
    from spiffe_client.tokens._private_key_jwt import PrivateKeyJwt
    from spiffe_client.tokens._request import TokenRequest
    from spiffe_client.tokens._revocation import Revocation, RevocationOutcome
    from spiffe_client.tokens._secret_command import SecretCommand
    from spiffe_client.tokens._secret_source import SecretSource
    from spiffe_client.tokens._secret_sources import SecretCall, SecretFile, SecretVariable
    from spiffe_client.tokens._spiffe_authentication import JwtSpiffe, X509SvidTls
    from spiffe_client.tokens._tokens import AccessToken, Binding, BindingMethod, SecurityToken

__all__ = [
    "AccessToken",
    "Binding",
    "BindingMethod",
    "CaepPoll",
    "ChainedTokens",
    "Chaining",
    "ClientAuthentication",
    "ClientFacts",
    "ClientSecret",
    "Credentials",
    "ForeignToken",
    "IdJag",
    "Identity",
    "Introspection",
    "JwtSpiffe",
    "Metadata",
    "NoAuthentication",
    "OwnSvid",
    "PrivateKeyJwt",
    "Revocation",
    "RevocationOutcome",
    "Secret",
    "SecretCall",
    "SecretCommand",
    "SecretFile",
    "SecretSource",
    "SecretVariable",
    "SecurityToken",
    "ServerTrust",
    "SpiffePeer",
    "Subject",
    "TokenBroker",
    "TokenBrokerOptions",
    "TokenHealth",
    "TokenRequest",
    "TokenTerms",
    "WebPki",
    "X509SvidTls",
    "new_token_broker",
]

_HOMES = {
    "AccessToken": "spiffe_client.tokens._tokens",
    "Binding": "spiffe_client.tokens._tokens",
    "BindingMethod": "spiffe_client.tokens._tokens",
    "CaepPoll": "spiffe_client.tokens._caep",
    "ChainedTokens": "spiffe_client.tokens._chaining",
    "Chaining": "spiffe_client.tokens._chaining",
    "ClientAuthentication": "spiffe_client.tokens._authentication",
    "ClientFacts": "spiffe_client.tokens._authentication",
    "ClientSecret": "spiffe_client.tokens._client_secret",
    "Credentials": "spiffe_client.tokens._authentication",
    "ForeignToken": "spiffe_client.tokens._parties",
    "IdJag": "spiffe_client.tokens._id_jag",
    "Identity": "spiffe_client.tokens._identity",
    "Introspection": "spiffe_client.tokens._introspection",
    "JwtSpiffe": "spiffe_client.tokens._spiffe_authentication",
    "Metadata": "spiffe_client.tokens._metadata",
    "NoAuthentication": "spiffe_client.tokens._client_secret",
    "OwnSvid": "spiffe_client.tokens._parties",
    "PrivateKeyJwt": "spiffe_client.tokens._private_key_jwt",
    "Revocation": "spiffe_client.tokens._revocation",
    "RevocationOutcome": "spiffe_client.tokens._revocation",
    "Secret": "spiffe_client._redact",
    "SecretCall": "spiffe_client.tokens._secret_sources",
    "SecretCommand": "spiffe_client.tokens._secret_command",
    "SecretFile": "spiffe_client.tokens._secret_sources",
    "SecretSource": "spiffe_client.tokens._secret_source",
    "SecretVariable": "spiffe_client.tokens._secret_sources",
    "SecurityToken": "spiffe_client.tokens._tokens",
    "ServerTrust": "spiffe_client.tokens._channel",
    "SpiffePeer": "spiffe_client.tokens._channel",
    "Subject": "spiffe_client.tokens._parties",
    "TokenBroker": "spiffe_client.tokens._broker",
    "TokenBrokerOptions": "spiffe_client.tokens._options",
    "TokenHealth": "spiffe_client.tokens._health",
    "TokenRequest": "spiffe_client.tokens._request",
    "TokenTerms": "spiffe_client.tokens._options",
    "WebPki": "spiffe_client.tokens._channel",
    "X509SvidTls": "spiffe_client.tokens._spiffe_authentication",
    "new_token_broker": "spiffe_client.tokens._options",
}


def __getattr__(name: str) -> object:
    return load_name(__name__, _HOMES, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""A small real token broker to develop against: an OAuth 2 authorization server on loopback.

    async with DevTrustDomain("dev.example") as dev:
        me = Client.of("spiffe://dev.example/agent", audiences=["*"], scopes="orders:read")
        async with DevTokenBroker(dev, rules=[me]) as tokens:
            ...  # tokens.issuer

It verifies what it is given as a real one would, and answers errors as the RFCs say. It is for
development: it listens on 127.0.0.1 only, and all it knows is in this process. Needs the extra `dev`.
"""

from __future__ import annotations

from spiffe_client._lazy import load_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spiffe_client.dev.token_broker._broker import DevTokenBroker, require_extra
    from spiffe_client.dev.token_broker._rules import Client, ForeignIssuer, Rules

__all__ = ["Client", "DevTokenBroker", "ForeignIssuer", "Rules", "require_extra"]

_HOMES = {
    "Client": "spiffe_client.dev.token_broker._rules",
    "DevTokenBroker": "spiffe_client.dev.token_broker._broker",
    "ForeignIssuer": "spiffe_client.dev.token_broker._rules",
    "Rules": "spiffe_client.dev.token_broker._rules",
    "require_extra": "spiffe_client.dev.token_broker._broker",
}


def __getattr__(name: str) -> object:
    return load_name(__name__, _HOMES, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})

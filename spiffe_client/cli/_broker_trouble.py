"""Why a token broker cannot be reached, told apart by what is behind the error."""

from __future__ import annotations

import socket
import ssl
from typing import Final

from spiffe_client.errors import PeerError, TokenBrokerUnavailableError, find

__all__ = ["trouble_with"]

#: Kinds of causes, the narrower first; the name of the trouble, and what to do.
_TROUBLE: Final[tuple[tuple[type[Exception], str, str], ...]] = (
    (PeerError, "tls_peer", "is that the token broker's SPIFFE ID? say the right one with --broker-id"),
    (
        ssl.SSLCertVerificationError,
        "tls_untrusted",
        "trust its authority with --ca FILE; if it is a SPIFFE workload, say which with --broker-id",
    ),
    (ssl.SSLError, "tls_failed", "is that the port of a server with TLS? does it demand a certificate?"),
    (socket.gaierror, "name_unknown", "is the name spelled right, and known to this machine's resolver?"),
    (ConnectionRefusedError, "refused", "nobody listens there: is it running, and is that its port?"),
)


def trouble_with(error: TokenBrokerUnavailableError) -> tuple[str, str] | None:
    """Return a stable name for the trouble and what to do about it; None where nothing tells."""
    for kind, name, advice in _TROUBLE:
        if find(error.__cause__, kind) is not None:
            return name, advice
    return None

"""A workload in a few words, for its `repr`."""

from __future__ import annotations

from spiffe_client.errors import SpiffeError
from spiffe_client.sources._x509 import X509Source

__all__ = ["described"]


def described(source: X509Source) -> str:
    """Return whose identity it is, if there is one now, and how it is doing; never raises.

    Args:
        source: Of its identity.
    """
    try:
        who = str(source.svid.id)
    except SpiffeError:
        who = "no identity"
    return f"{who}, {source.health.state}"

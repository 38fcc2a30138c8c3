"""The steps of `doctor` to an identity, in the order in which one needs the other."""

from __future__ import annotations

from spiffe_client.cli._doctor._identity import (
    look_at_chain,
    look_at_clock,
    look_at_expiry,
    look_at_issuance,
    who_asks,
)
from spiffe_client.cli._doctor._patient import Examination
from spiffe_client.cli._doctor._reach import look_at_endpoint, look_at_header, look_at_socket
from spiffe_client.cli._doctor._tls import look_at_tls

__all__ = ["STEPS"]


STEPS = (
    Examination("endpoint", look_at_endpoint),
    Examination("socket", look_at_socket),
    # A server that forgets to ask for the header is a danger, and still gives identities.
    Examination("header", look_at_header, vital=False),
    Examination("issuance", look_at_issuance, about=who_asks),
    Examination("clock", look_at_clock),
    Examination("expiry", look_at_expiry),
    Examination("chain", look_at_chain),
    Examination("tls", look_at_tls),
)

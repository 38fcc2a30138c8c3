"""What every adapter to an agent framework holds."""

from __future__ import annotations

from spiffe_client.testing._checks_calls import CallChecks
from spiffe_client.testing._checks_credentials import CredentialChecks
from spiffe_client.testing._checks_people import PeopleChecks

__all__ = ["AdapterContract"]


class AdapterContract(CallChecks, CredentialChecks, PeopleChecks):
    """The checks that an adapter passes, run by pytest with anyio's plugin.

    A subclass says how its framework runs a script, in `run` and `run_blocking`, and what it cannot do,
    in `ways`, `has_call_ids`, `has_gate` and `pauses`. Around each check there is a trust domain, a
    token broker and two services, all real, on loopback. After each check all that the model was
    shown, that the framework kept and traced, that was logged, raised or audited is searched for the
    tokens and keys that were in use.
    """

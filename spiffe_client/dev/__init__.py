"""A development trust domain in one process: authority, Workload API, federation, token broker.

    async with DevTrustDomain("dev.example") as dev:
        dev.register("spiffe://dev.example/orders", any=True)
        async with Workload(dev.endpoint) as me:
            ...

For tests, demos and work at a desk. Nothing here belongs into production: keys live in the process
that uses them, and whoever may open the socket is whom the registrations say.
"""

from __future__ import annotations

from spiffe_client.dev._authority import CertificateAuthority
from spiffe_client.dev._domain import DevTrustDomain
from spiffe_client.dev._issuer import Issuer
from spiffe_client.dev._protected_service import ProtectedService
from spiffe_client.dev._registration import Registration, Selectors
from spiffe_client.dev._registrations import Registrations
from spiffe_client.dev._server import WorkloadApiServer
from spiffe_client.dev.token_broker import DevTokenBroker

__all__ = [
    "CertificateAuthority",
    "DevTokenBroker",
    "DevTrustDomain",
    "Issuer",
    "ProtectedService",
    "Registration",
    "Registrations",
    "Selectors",
    "WorkloadApiServer",
]

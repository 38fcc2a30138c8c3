"""A development trust domain in one process: authority, Workload API, registrations, federation.

For tests, demos and work at a desk. Nothing here belongs into production: keys live in the process
that uses them and whoever may open the socket is whom the registrations say.
"""

from spiffe_client.dev._authority import CertificateAuthority

__all__ = ["CertificateAuthority"]

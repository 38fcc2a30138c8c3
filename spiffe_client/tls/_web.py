"""TLS to a server of the web PKI: its certificate and host name are verified as a browser does.

For token brokers that authenticate clients by their X509-SVID and have a certificate like any web
site (RFC 8705, draft-ietf-oauth-spiffe-client-auth). The SPIFFE bundle has no say here: whoever may
issue SVIDs must not be able to pose as the web site, and the other way round.
"""

from __future__ import annotations

import ssl

from spiffe_client.bundle import parse_certificates_pem
from spiffe_client.errors import TlsConfigurationError
from spiffe_client.tls._material import load_svid
from spiffe_client.workload_api import X509Context

__all__ = ["web_client_context"]

_OPTIONS = ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
#: A root that is given may itself be signed by another one that is not.
_FLAGS = ssl.VERIFY_X509_TRUSTED_FIRST | ssl.VERIFY_X509_PARTIAL_CHAIN


def web_client_context(context: X509Context | None, *, roots: str | None = None) -> ssl.SSLContext:
    """Make a context that shows an X509-SVID to servers of the web PKI, TLS 1.2 or later.

    It belongs to this snapshot of the identity: a new one needs a new context. Nothing of the
    environment logs its keys.

    Args:
        context: Whose default SVID is shown to servers that ask for a certificate; None shows none.
        roots: Authorities to trust, as PEM text, and no others; None for the system's, as OpenSSL
            finds them.

    Raises:
        TlsConfigurationError: `roots` holds no certificates, or broken ones.
        IdentityUnavailableError: OpenSSL refuses the SVID.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies certificate and host name
    made.minimum_version = max(ssl.TLSVersion.TLSv1_2, made.minimum_version)
    made.options |= _OPTIONS
    made.hostname_checks_common_name = False  # RFC 9525 §2: a name is in the subjectAltName
    if roots is None:
        made.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        made.verify_flags |= _FLAGS
        _trust(made, roots)
    if context is not None:
        load_svid(made, context.svid)
    return made


def _trust(context: ssl.SSLContext, roots: str) -> None:
    # Parsed by us first: OpenSSL stops at a block that it cannot read, and says nothing.
    parsed = parse_certificates_pem(roots.encode(), error=TlsConfigurationError)
    try:
        context.load_verify_locations(cadata=b"".join(root.der for root in parsed))
    except ssl.SSLError as error:
        raise TlsConfigurationError(f"OpenSSL refuses a certificate of roots=: {error.reason}") from error

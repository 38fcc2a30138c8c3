"""Verifying the server of an `https_spiffe` endpoint without an identity of one's own.

A bundle endpoint asks nobody who they are (SPIFFE Federation §5.2.2.3), and whoever fetches its
first bundle may have no SVID yet, so this is TLS in one direction. OpenSSL is given the
authorities of the server's trust domain and no others: a chain it accepts is anchored there.
"""

from __future__ import annotations

import contextlib
import ssl
from typing import Any, ClassVar

from cryptography import x509

from spiffe_client.authorize import Authorizer, allow
from spiffe_client.bundle import X509Bundle
from spiffe_client.errors import PeerUnverifiedError
from spiffe_client.ids import SpiffeId
from spiffe_client.svid import check_leaf
from spiffe_client.tls._settings import Settings  # one place says how our contexts are hardened

__all__ = ["server_verifying_context"]


class _EndpointObject(ssl.SSLObject):
    """Judges the server within the handshake; nothing flows before."""

    _authorize: ClassVar[Authorizer]
    _proven = False

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except ssl.SSLCertVerificationError as error:
            raise PeerUnverifiedError(
                f"the bundle endpoint's certificate does not verify: {error.verify_message}",
                why="certificate_invalid",
            ) from error
        self._authorize(_id_of(self))
        self._proven = True

    def read(self, len: int = 1024, buffer: Any = None) -> Any:  # noqa: A002 - the ssl module's name
        self._require_proven()
        return super().read(len, buffer)

    def write(self, data: Any) -> int:
        self._require_proven()
        return super().write(data)

    def _require_proven(self) -> None:
        # OpenSSL would handshake inside of a read or write, and nobody would have judged.
        if not self._proven:
            raise PeerUnverifiedError("the bundle endpoint has not been verified")


def _id_of(connection: ssl.SSLObject) -> SpiffeId:
    try:
        leaf = x509.load_der_x509_certificate(connection.getpeercert(binary_form=True) or b"")
        return check_leaf(leaf, role="server")
    except Exception as error:  # border: besides rules that are broken, the parser's many errors
        raise PeerUnverifiedError(
            f"the bundle endpoint's certificate is no X509-SVID: {error}", why="not_an_svid"
        ) from error


def server_verifying_context(server_id: SpiffeId, bundle: X509Bundle) -> ssl.SSLContext:
    """Make a context that connects to one SPIFFE ID and presents nothing.

    For asynchronous connections only (`wrap_bio`), which is what `httpx.AsyncClient` makes.

    Args:
        server_id: Who must be there, exactly.
        bundle: The latest one of its trust domain.

    Raises:
        PeerUnverifiedError: The bundle holds no authority, so that nobody can be verified.
    """
    context = Settings(ssl.TLSVersion.TLSv1_2, None).new_context(server=False)
    for authority in bundle.ders:
        with contextlib.suppress(ssl.SSLError):  # one that OpenSSL cannot read costs only itself
            context.load_verify_locations(cadata=authority)
    if not context.cert_store_stats()["x509"]:
        raise PeerUnverifiedError(
            f"{server_id} cannot be verified: the bundle of {bundle.trust_domain} holds no authority",
            peer=server_id,
            why="no_bundle",
        )
    attributes = {"_authorize": allow(server_id), "__module__": __name__}
    context.sslobject_class = type("EndpointSSLObject", (_EndpointObject,), attributes)
    return context

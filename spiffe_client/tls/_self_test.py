"""Three handshakes in memory: does TLS here refuse what it must?

The checks stand on how Python and OpenSSL work together, and both differ between platforms. This
asks them instead of trusting them: a good peer, one forged by a federated trust domain, and one
that is real and not allowed. Everything is made for it and thrown away.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from spiffe_client._clock import SYSTEM_CLOCK, Clock
from spiffe_client.authorize import Authorizer, custom
from spiffe_client.bundle import BundleSet, X509Bundle
from spiffe_client.errors import PeerError, PeerNotAllowedError, PeerUnverifiedError
from spiffe_client.ids import SpiffeId, TrustDomain
from spiffe_client.svid import X509Svid
from spiffe_client.tls._context import SpiffeTls
from spiffe_client.workload_api import X509Context

__all__ = ["SelfTestResult", "self_test"]

_HERE, _THERE = TrustDomain("here.test"), TrustDomain("there.test")
_CLIENT, _SERVER, _OTHER = (SpiffeId(_HERE, path) for path in ("/client", "/server", "/other"))
#: Loads all bundles, so that the forger's authority is known and can only fail for being foreign.
_ONLY_SERVER = custom("the self-test's server", lambda peer: peer == _SERVER)
_ANYBODY = custom("anybody", lambda _: True)


@dataclass(frozen=True, slots=True)
class SelfTestResult:
    """What came of one handshake.

    Attributes:
        name: `good`, `forged` or `unauthorised`.
        ok: Whether it ended as it must.
        detail: How it ended, in words.
    """

    name: Literal["good", "forged", "unauthorised"]
    ok: bool
    detail: str


class _Authority:
    def __init__(self, trust_domain: TrustDomain, now: datetime) -> None:
        self.trust_domain = trust_domain
        self._now = now
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, trust_domain.name)])
        self.certificate = self._sign(self._name, self._key.public_key(), trust_domain.id, ca=True)

    @property
    def bundle(self) -> X509Bundle:
        return X509Bundle(self.trust_domain, (self.certificate,))

    def issue(self, spiffe_id: SpiffeId) -> X509Svid:
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = self._sign(x509.Name([]), key.public_key(), spiffe_id, ca=False)
        return X509Svid.parse_der(
            leaf.public_bytes(Encoding.DER),
            key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
        )

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, spiffe_id: SpiffeId, *, ca: bool
    ) -> x509.Certificate:
        usage = x509.KeyUsage(
            digital_signature=not ca,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=ca,
            crl_sign=False,
            encipher_only=False,
            decipher_only=False,
        )
        san = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(spiffe_id))])
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._now - timedelta(hours=1))
            .not_valid_after(self._now + timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(san, critical=not ca)
            .sign(self._key, hashes.SHA256())
        )


def self_test(clock: Clock = SYSTEM_CLOCK) -> tuple[SelfTestResult, ...]:
    """Make the three handshakes.

    Args:
        clock: Tells the time, for the certificates.

    Returns:
        One result for each, also where it did not end as it must: this reports, it does not raise.
    """
    here, there = (_Authority(trust_domain, clock.now()) for trust_domain in (_HERE, _THERE))
    bundles = BundleSet([here.bundle, there.bundle])
    client = _tls(here.issue(_CLIENT), bundles, _ONLY_SERVER)
    forged = _tls(there.issue(_SERVER), bundles, _ANYBODY)
    return (
        _result("good", client, _tls(here.issue(_SERVER), bundles, _ANYBODY), None),
        _result("forged", client, forged, PeerUnverifiedError),
        _result("unauthorised", client, _tls(here.issue(_OTHER), bundles, _ANYBODY), PeerNotAllowedError),
    )


def _tls(svid: X509Svid, bundles: BundleSet[X509Bundle], authorize: Authorizer) -> SpiffeTls:
    return SpiffeTls(X509Context((svid,), bundles, svid), authorize, on_event=lambda _: None)


def _result(
    name: Literal["good", "forged", "unauthorised"],
    client: SpiffeTls,
    server: SpiffeTls,
    expected: type[PeerError] | None,
) -> SelfTestResult:
    try:
        _converse(client.client_context(), server.server_context())
    except Exception as error:  # noqa: BLE001 - border: any failure is a finding, not a crash
        ok = expected is not None and isinstance(error, expected)
        return SelfTestResult(name, ok, f"refused: {error}" if ok else f"failed: {error!r}")
    return SelfTestResult(name, expected is None, "connected")


def _converse(client_context: ssl.SSLContext, server_context: ssl.SSLContext) -> None:
    """Handshake over two buffers and send one word."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    pending = [client, server]
    for _ in range(10):  # far more turns than any handshake has
        for end in list(pending):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            pending.remove(end)
    client.write(b"hello")
    if server.read() != b"hello":
        raise ssl.SSLError("what was sent did not arrive")

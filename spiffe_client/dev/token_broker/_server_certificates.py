"""The certificates of the TLS ports: of the trust domain, and of an authority as the web has them."""

from __future__ import annotations

import ssl
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from spiffe_client._clock import SYSTEM_CLOCK
from spiffe_client.dev._authority import CertificateAuthority
from spiffe_client.dev._certificates import new_key

__all__ = ["WebCertificate", "WebServer"]

_LIFE = timedelta(days=30)


class WebCertificate:
    """A certificate for 127.0.0.1 and localhost below an authority that nobody else has.

    Issued by the machine's clock, whatever the trust domain's says: OpenSSL looks at no other.
    """

    def __init__(self) -> None:
        now = SYSTEM_CLOCK.now()
        self._authority_key, self._key = new_key(), new_key()
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "spiffe-client dev web root")])
        self._builder = (
            x509.CertificateBuilder()
            .issuer_name(name)
            .not_valid_before(now - timedelta(minutes=1))
            .not_valid_after(now + _LIFE)
        )
        self._authority = self._sign_authority(name)
        self._leaf = self._sign_leaf()

    @property
    def roots(self) -> str:
        """The authority, PEM: what clients have to trust."""
        return self._authority.public_bytes(Encoding.PEM).decode()

    def load_into(self, context: ssl.SSLContext) -> None:
        """Have a context show this certificate."""
        key = self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        # The ssl module reads keys from files only; this one is gone again at once.
        with TemporaryDirectory(prefix="spiffe-dev-") as directory:
            path = Path(directory, "web.pem")
            path.touch(mode=0o600)
            path.write_bytes(key + self._leaf.public_bytes(Encoding.PEM))
            context.load_cert_chain(path)

    def _sign_authority(self, name: x509.Name) -> x509.Certificate:
        key = self._authority_key.public_key()
        usage = x509.KeyUsage(
            *(False,) * 5, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False
        )
        return (
            self._signed(name, key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(self._authority_key, hashes.SHA256())
        )

    def _sign_leaf(self) -> x509.Certificate:
        names = [x509.IPAddress(ip_address("127.0.0.1")), x509.DNSName("localhost")]
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._authority_key.public_key())
        return (
            self._signed(subject, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(authority, critical=False)
            .sign(self._authority_key, hashes.SHA256())
        )

    def _signed(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            self._builder.subject_name(subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        )


class WebServer:
    """TLS as on the web, that asks for a client certificate and takes X509-SVIDs of one domain only.

    Roots of other trust domains are not loaded: OpenSSL keeps one store for all, and any of them
    could vouch for identities of this one.

    Args:
        certificate: What it shows.
        ca: The trust domain's authority.
    """

    def __init__(self, certificate: WebCertificate, ca: CertificateAuthority) -> None:
        self._certificate = certificate
        self._ca = ca
        self._made: tuple[frozenset[bytes], ssl.SSLContext] | None = None

    def context(self) -> ssl.SSLContext:
        """Return a context with the bundle of this moment; none is changed once it is in use."""
        bundle = self._ca.x509_bundle
        if self._made is None or self._made[0] != bundle.ders:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            self._certificate.load_into(context)
            context.load_verify_locations(cadata=b"".join(sorted(bundle.ders)))
            context.verify_mode = ssl.CERT_OPTIONAL
            # A session would be resumed without looking at the certificate again.
            context.options |= ssl.OP_NO_TICKET
            context.num_tickets = 0
            self._made = (bundle.ders, context)
        return self._made[1]

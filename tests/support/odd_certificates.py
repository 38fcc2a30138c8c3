"""Certificates with any extension, name, date and signature, for tests of single rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from spiffe_client.bundle import BundleSet, X509Bundle
from spiffe_client.ids import TrustDomain

__all__ = [
    "AT",
    "HOUR",
    "Signed",
    "bundle_of",
    "distinguished",
    "key_usage",
    "patched",
    "patched_der",
    "private_der",
    "raw_extension",
    "sans",
    "sign_ca",
    "sign_certificate",
    "sign_leaf",
    "uri_sans",
]

#: When everything here is verified; certificates are valid for an hour either side of it.
AT = datetime(2030, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)

Extensions = Sequence[tuple[x509.ExtensionType, bool]]
_USES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)
_FROM_KEY = hashes.SHA256()


@dataclass(frozen=True)
class Signed:
    """A certificate and its key."""

    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)


def distinguished(common_name: str | None) -> x509.Name:
    if common_name is None:
        return x509.Name([])
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])


def key_usage(*uses: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{use: use in uses for use in _USES})


def uri_sans(*uris: str) -> x509.SubjectAlternativeName:
    return sans(*map(x509.UniformResourceIdentifier, uris))


def sans(*names: x509.GeneralName) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName(names)


def private_der(key: object) -> bytes:
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def sign_certificate(
    extensions: Extensions,
    *,
    issuer: Signed | None = None,
    subject: x509.Name | None = None,
    key: object | None = None,
    begin: datetime = AT - HOUR,
    end: datetime = AT + HOUR,
    digest: hashes.HashAlgorithm | None = _FROM_KEY,
) -> Signed:
    """Sign a certificate with exactly these extensions; self-signed without an issuer."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = subject if subject is not None else distinguished("someone")
    signer = issuer.key if issuer else key
    if isinstance(signer, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey):
        digest = None
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return Signed(key, builder.sign(signer, digest))


def sign_ca(
    issuer: Signed | None = None,
    *,
    cn: str = "root",
    pathlen: int | None = None,
    extra: Extensions = (),
    **options,
) -> Signed:
    """Sign a CA as it should be, and more extensions."""
    rules = (
        (x509.BasicConstraints(ca=True, path_length=pathlen), True),
        (key_usage("key_cert_sign", "crl_sign"), True),
        *extra,
    )
    return sign_certificate(rules, issuer=issuer, subject=distinguished(cn), **options)


def sign_leaf(
    issuer: Signed | None, *uris: str, extra: Extensions = (), cn: str | None = "leaf", **options
) -> Signed:
    """Sign a leaf as it should be, and more extensions."""
    rules = (
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (key_usage("digital_signature"), True),
        (uri_sans(*(uris or ("spiffe://a.test/peer",))), False),
        *extra,
    )
    return sign_certificate(rules, issuer=issuer, subject=distinguished(cn), **options)


def bundle_of(*authorities: Signed, trust_domain: str = "a.test") -> BundleSet[X509Bundle]:
    return BundleSet([X509Bundle(TrustDomain(trust_domain), tuple(a.certificate for a in authorities))])


def raw_extension(oid: str, value: bytes = b"nonsense") -> x509.UnrecognizedExtension:
    """An extension of any kind with any content."""
    return x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value)


def patched(certificate: x509.Certificate, old: bytes, new: bytes, issuer: Signed) -> x509.Certificate:
    """What no builder makes: a certificate with some bytes replaced by as many, and signed again."""
    return x509.load_der_x509_certificate(patched_der(certificate, old, new, issuer))


def patched_der(certificate: x509.Certificate, old: bytes, new: bytes, issuer: Signed) -> bytes:
    """The same, where `cryptography` may not be able to read it."""
    body = certificate.tbs_certificate_bytes
    assert old in body
    assert len(old) == len(new)
    body = body.replace(old, new)
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")  # ecdsa-with-SHA256
    signature = b"\0" + issuer.key.sign(body, ec.ECDSA(hashes.SHA256()))
    inner = body + algorithm + bytes([0x03, len(signature)]) + signature
    return b"\x30\x82" + len(inner).to_bytes(2, "big") + inner

"""Certificates of every shape, right and wrong, for tests."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from spiffe_client.bundle import BundleSet, X509Bundle
from spiffe_client.ids import TrustDomain
from spiffe_client.svid import X509Svid

__all__ = ["Authority", "Identity", "bundle_set", "days", "name", "new_authority"]

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

SERVER_AUTH = x509.ExtendedKeyUsageOID.SERVER_AUTH
CLIENT_AUTH = x509.ExtendedKeyUsageOID.CLIENT_AUTH

_NOW = datetime.now(UTC).replace(microsecond=0)
_FROM_ISSUER = object()


def days(n: float) -> datetime:
    """This many days from now."""
    return _NOW + timedelta(days=n)


def name(common_name: str | None = None) -> x509.Name:
    """A subject of one common name, or the empty one."""
    if common_name is None:
        return x509.Name([])
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])


@lru_cache
def RSA_KEY() -> rsa.RSAPrivateKey:
    """One RSA key for all: making one is slow."""
    return rsa.generate_private_key(65537, 2048)


def _new_key() -> Key:
    return ec.generate_private_key(ec.SECP256R1())


@dataclass(frozen=True)
class Identity:
    """A leaf with its key, and the certificates sent along with it."""

    key: Key
    leaf: x509.Certificate
    along: tuple[x509.Certificate, ...]

    def sending(self, *along: x509.Certificate) -> Identity:
        """The same, with other certificates sent along."""
        return replace(self, along=along)

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        return (self.leaf, *self.along)

    @property
    def ders(self) -> tuple[bytes, ...]:
        return tuple(c.public_bytes(Encoding.DER) for c in self.chain)

    @property
    def chain_pem(self) -> bytes:
        return b"".join(c.public_bytes(Encoding.PEM) for c in self.chain)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    @property
    def key_der(self) -> bytes:
        return self.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())

    @property
    def svid(self) -> X509Svid:
        """The same as our own code sees it."""
        return X509Svid.parse_der(b"".join(self.ders), self.key_der)


@dataclass(frozen=True)
class Authority:
    """A certificate that signs others, and the certificates between it and its root."""

    trust_domain: str
    key: Key
    certificate: x509.Certificate
    along: tuple[x509.Certificate, ...] = ()
    is_root: bool = True

    def leaf(
        self,
        *uris: str,
        dns: Collection[str] = (),
        ips: Collection[str] = (),
        key: Key | None = None,
        subject: x509.Name | None = None,
        san_critical: bool = False,
        eku: Collection[x509.ObjectIdentifier] | None = (SERVER_AUTH, CLIENT_AUTH),
        ca: bool | None = False,
        usage: Collection[str] | None = ("digital_signature",),
        aki: bool = True,
        not_before: datetime | None = None,
        not_after: datetime | None = None,
    ) -> Identity:
        """Sign a leaf; each argument breaks or bends one rule."""
        key = key or _new_key()
        builder = _builder(
            subject or name("leaf"),
            key,
            self.certificate.subject,
            not_before or days(-1),
            not_after or days(1),
        )
        sans = [*map(x509.UniformResourceIdentifier, uris), *map(x509.DNSName, dns)]
        sans += [x509.IPAddress(ip_address(ip)) for ip in ips]
        builder = builder.add_extension(x509.SubjectAlternativeName(sans), critical=san_critical)
        if eku is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage(eku), critical=False)
        builder = _with_rules(builder, ca, None, usage)
        if aki:
            builder = builder.add_extension(self._aki(), critical=False)
        return Identity(key, builder.sign(self.key, _hash(self.key)), self._sent())

    def intermediate(
        self,
        *,
        key: Key | None = None,
        subject: x509.Name | None = None,
        ca: bool | None = True,
        pathlen: int | None = None,
        usage: Collection[str] | None = ("key_cert_sign", "crl_sign"),
        permitted_uris: Collection[str] = (),
        ski: bytes | None = None,
        uri: str | None = None,
    ) -> Authority:
        """Sign an authority below this one."""
        key = key or _new_key()
        builder = _builder(
            subject or name(f"intermediate of {self.trust_domain}"), key, self.certificate.subject
        )
        builder = _with_rules(builder, ca, pathlen, usage)
        builder = _with_uri(builder, uri or f"spiffe://{self.trust_domain}")
        builder = builder.add_extension(self._aki(), critical=False)
        builder = builder.add_extension(_ski(key, ski), critical=False)
        if permitted_uris:
            permitted = [x509.UniformResourceIdentifier(u) for u in permitted_uris]
            builder = builder.add_extension(x509.NameConstraints(permitted, None), critical=True)
        certificate = builder.sign(self.key, _hash(self.key))
        return Authority(self.trust_domain, key, certificate, self._sent(), is_root=False)

    def cloned_by(self, trust_domain: str) -> Authority:
        """A root of somebody else with the DN and SKI of this one."""
        ski = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
        return new_authority(trust_domain, subject=self.certificate.subject, ski=ski)

    def bundle(self, *more: Authority) -> X509Bundle:
        """The bundle of its trust domain: this one and some more."""
        return X509Bundle(TrustDomain(self.trust_domain), (self.certificate, *(a.certificate for a in more)))

    def _sent(self) -> tuple[x509.Certificate, ...]:
        return () if self.is_root else (self.certificate, *self.along)

    def _aki(self) -> x509.AuthorityKeyIdentifier:
        try:
            ski = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        except x509.ExtensionNotFound:
            return x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ski)


def new_authority(
    trust_domain: str,
    *,
    key: Key | None = None,
    subject: x509.Name | None = None,
    uri: str | None = "own",
    ski: bytes | None = b"",
    not_before: datetime | None = None,
    not_after: datetime | None = None,
) -> Authority:
    """Make a root.

    `ski` is the identifier, empty for the usual hash, None for no such extension.
    """
    key = key or _new_key()
    subject = subject or name(f"root of {trust_domain}")
    builder = _builder(subject, key, subject, not_before or days(-9), not_after or days(9))
    builder = _with_rules(builder, True, None, ("key_cert_sign", "crl_sign"))
    if uri is not None:
        builder = _with_uri(builder, f"spiffe://{trust_domain}")
    if ski is not None:
        builder = builder.add_extension(_ski(key, ski), critical=False)
    return Authority(trust_domain, key, builder.sign(key, _hash(key)))


def bundle_set(*authorities: Authority) -> BundleSet[X509Bundle]:
    """One bundle of one authority for each."""
    return BundleSet(a.bundle() for a in authorities)


def _hash(key: Key) -> hashes.SHA256 | None:
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()


def _ski(key: Key, digest: bytes | None) -> x509.SubjectKeyIdentifier:
    return (
        x509.SubjectKeyIdentifier(digest)
        if digest
        else x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    )


def _builder(
    subject: x509.Name,
    key: Key,
    issuer: x509.Name,
    not_before: datetime | None = None,
    not_after: datetime | None = None,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before or days(-5))
        .not_valid_after(not_after or days(5))
    )


def _with_rules(
    builder: x509.CertificateBuilder, ca: bool | None, pathlen: int | None, usage: Collection[str] | None
) -> x509.CertificateBuilder:
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca, pathlen), critical=True)
    if usage is not None:
        builder = builder.add_extension(_key_usage(usage), critical=True)
    return builder


def _with_uri(builder: x509.CertificateBuilder, uri: str) -> x509.CertificateBuilder:
    return builder.add_extension(
        x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), critical=False
    )


def _key_usage(usage: Collection[str]) -> x509.KeyUsage:
    bits = (
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
    return x509.KeyUsage(**{b: b in usage for b in bits})

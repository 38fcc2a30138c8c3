"""Certificates that keep every rule of X509-SVID, made from a key, a name and a time.

Pure: the time is an argument and nothing is remembered. What a certificate authority remembers
is in `_authority`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from spiffe_client.errors import X509SvidError
from spiffe_client.ids import SpiffeId, TrustDomain

__all__ = ["X509Authority", "issue_leaf", "make_authority", "new_key"]

#: How long before its issuance a certificate is already valid: clocks of two machines differ.
BACKDATE = timedelta(seconds=10)

_ORGANIZATION = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "spiffe-client dev")


@dataclass(frozen=True, slots=True)
class X509Authority:
    """A root, and the CA certificate whose key signs SVIDs: an intermediate or the root itself.

    Attributes:
        root: What bundles hold.
        issuer: Whose key signs leaves.
        key: The private key of `issuer`.
        chain: What is sent behind a leaf: the intermediate, or nothing.
    """

    root: x509.Certificate
    issuer: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)
    chain: tuple[x509.Certificate, ...]


def new_key() -> ec.EllipticCurvePrivateKey:
    """Make a P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def _expiry(at: datetime, ttl: timedelta) -> datetime:
    """When it ends: certificates count whole seconds, and a short life must not round down to none."""
    end = at + ttl
    return end if end.microsecond == 0 else end.replace(microsecond=0) + timedelta(seconds=1)


def _key_usage(*, leaf: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=leaf,
        key_cert_sign=not leaf,
        crl_sign=not leaf,
        # Only RSA key exchange and static (EC)DH ask for these; X509-SVID §4.3 leaves them open.
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    *,
    not_before: datetime,
    not_after: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _authority_key_id(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    ski = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ski)


def _ca_certificate(
    name: str,
    trust_domain: TrustDomain,
    public_key: ec.EllipticCurvePublicKey,
    *,
    signer: ec.EllipticCurvePrivateKey,
    issuer: x509.Certificate | None,
    not_before: datetime,
    not_after: datetime,
) -> x509.Certificate:
    """Sign a CA certificate (X509-SVID §3.2, §4); a root where there is no issuer."""
    subject = x509.Name([_ORGANIZATION, x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = _builder(
        subject,
        subject if issuer is None else issuer.subject,
        public_key,
        not_before=not_before,
        not_after=not_after,
    )
    if issuer is not None:
        builder = builder.add_extension(_authority_key_id(issuer), critical=False)
    uri = x509.UniformResourceIdentifier(str(trust_domain.id))
    return (
        builder.add_extension(
            x509.BasicConstraints(ca=True, path_length=None if issuer is None else 0), critical=True
        )
        .add_extension(_key_usage(leaf=False), critical=True)
        .add_extension(x509.SubjectAlternativeName([uri]), critical=False)
        .sign(signer, hashes.SHA256())
    )


def make_authority(
    trust_domain: TrustDomain, *, intermediate: bool, at: datetime, ttl: timedelta
) -> X509Authority:
    """Make a new root, and below it an intermediate that signs SVIDs.

    Args:
        trust_domain: Whose authority this is; its ID is the URI SAN of every CA certificate.
        intermediate: False lets the root sign SVIDs itself.
        at: The time of issuance.
        ttl: Lifetime of both certificates.
    """
    not_before, not_after = at - BACKDATE, _expiry(at, ttl)
    root_key = new_key()
    root = _ca_certificate(
        f"{trust_domain.name[:48]} root",  # a common name has at most 64 characters
        trust_domain,
        root_key.public_key(),
        signer=root_key,
        issuer=None,
        not_before=not_before,
        not_after=not_after,
    )
    if not intermediate:
        return X509Authority(root, root, root_key, ())
    key = new_key()
    certificate = _ca_certificate(
        f"{trust_domain.name[:48]} intermediate",
        trust_domain,
        key.public_key(),
        signer=root_key,
        issuer=root,
        not_before=not_before,
        not_after=not_after,
    )
    return X509Authority(root, certificate, key, (certificate,))


def _dns_name(name: str) -> x509.DNSName:
    try:
        return x509.DNSName(name)
    except (TypeError, ValueError) as error:
        raise X509SvidError(f"not a DNS name: {name!r}: {error}") from error


def issue_leaf(
    authority: X509Authority,
    spiffe_id: SpiffeId,
    key: ec.EllipticCurvePrivateKey,
    *,
    at: datetime,
    ttl: timedelta,
    dns_names: Sequence[str] = (),
) -> x509.Certificate:
    """Sign the certificate of a workload (X509-SVID §2-4).

    Args:
        authority: Who signs; the certificate does not outlive it.
        spiffe_id: The one URI SAN.
        key: The workload's key.
        at: The time of issuance.
        ttl: Lifetime from `at` on.
        dns_names: DNS SANs, for clients that also compare a host name.

    Raises:
        X509SvidError: One of `dns_names` is not one.
    """
    subject = [_ORGANIZATION]
    if dns_names and len(dns_names[0]) <= 64:
        subject.append(x509.NameAttribute(NameOID.COMMON_NAME, dns_names[0]))
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(str(spiffe_id))]
    names += map(_dns_name, dns_names)
    return (
        _builder(
            x509.Name(subject),
            authority.issuer.subject,
            key.public_key(),
            not_before=at - BACKDATE,
            not_after=min(_expiry(at, ttl), authority.issuer.not_valid_after_utc),
        )
        .add_extension(_authority_key_id(authority.issuer), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(leaf=True), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
            critical=False,
        )
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(authority.key, hashes.SHA256())
    )

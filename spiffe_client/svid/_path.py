"""What a certification path must keep to (RFC 5280 §6, X509-SVID §3.2, §4), rule by rule.

Why not OpenSSL: it cannot be asked outside of a handshake. Why not `cryptography`'s verifier: it
refuses every CA with a URI name constraint, the one kind that SPIFFE uses (X509-SVID §4.2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from spiffe_client.errors import InvalidIdError, X509SvidError
from spiffe_client.ids import SpiffeId, TrustDomain
from spiffe_client.svid._constraints import check_names
from spiffe_client.svid._extensions import extensions_of, find_extension
from spiffe_client.svid._rules import Rule

__all__ = ["PATH_RULES", "Path", "check_key", "check_signer"]

_UNDERSTOOD = (
    x509.BasicConstraints,
    x509.CertificatePolicies,  # any policy will do for an SVID
    x509.ExtendedKeyUsage,
    x509.KeyUsage,
    x509.NameConstraints,
    x509.SubjectAlternativeName,
)
_HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
_CURVES = frozenset({"secp256r1", "secp384r1", "secp521r1"})
_LEAST_RSA_BITS = 2048


@dataclass(frozen=True, slots=True)
class Path:
    """Certificates of which each is signed by the next: leaf, intermediates, anchor.

    Attributes:
        certificates: At least two.
        at: The time to judge for.
        trust_domain: Of the leaf.
    """

    certificates: tuple[x509.Certificate, ...]
    at: datetime
    trust_domain: TrustDomain

    def named(self) -> list[tuple[str, x509.Certificate]]:
        """Each certificate with how an error calls it."""
        between = (f"intermediate {n}" for n in range(1, len(self.certificates) - 1))
        return list(zip(("the leaf", *between, "the authority"), self.certificates, strict=True))


def check_signer(
    certificate: x509.Certificate, *, anchor: bool = False, trust_domain: TrustDomain | None = None
) -> None:
    """Check what X509-SVID §3.2 and §4 demand of a signing certificate.

    Args:
        certificate: One that issued another.
        anchor: Whether it is an authority of the bundle, which may lack key usage altogether.
        trust_domain: Of the leaf, if it is the one that issued the leaf; None does not look at that.

    Raises:
        X509SvidError: It is no CA, may not sign certificates, or has the SPIFFE ID of a workload or
            of another trust domain.
    """
    _check_ca(certificate)
    _check_may_sign(certificate, anchor=anchor)
    _check_authority_id(certificate, trust_domain)


def check_key(key: object) -> None:
    """Check that a key is of a kind and size that an X509-SVID or its CA may have.

    EC on P-256, P-384 or P-521, RSA of at least 2048 bits, Ed25519.

    Raises:
        X509SvidError: It is not.
    """
    if isinstance(key, EllipticCurvePublicKey):
        if key.curve.name not in _CURVES:
            raise X509SvidError(f"the curve {key.curve.name} is none of P-256, P-384, P-521")
    elif isinstance(key, RSAPublicKey):
        if key.key_size < _LEAST_RSA_BITS:
            raise X509SvidError(f"the RSA key has {key.key_size} bits, fewer than {_LEAST_RSA_BITS}")
    elif not isinstance(key, Ed25519PublicKey):
        raise X509SvidError(f"the key is neither EC, RSA nor Ed25519 but {type(key).__name__}")


def _check_ca(certificate: x509.Certificate) -> None:
    constraints = find_extension(certificate, x509.BasicConstraints)
    if constraints is None or not constraints.ca:
        raise X509SvidError("it issued a certificate and is no CA")


def _check_may_sign(certificate: x509.Certificate, *, anchor: bool = False) -> None:
    usage = find_extension(certificate, x509.KeyUsage)
    # Roots made by hand often have no key usage. They are trusted for being in the bundle, and
    # neither RFC 5280 (§6.1.1(d), §6.1.4(n)) nor OpenSSL asks one for it.
    if usage is None and anchor:
        return
    if usage is None or not usage.key_cert_sign:
        raise X509SvidError("it issued a certificate without keyCertSign in its key usage")


def _check_authority_id(certificate: x509.Certificate, trust_domain: TrustDomain | None) -> None:
    # X509-SVID §3.2: a signing certificate need not have a SPIFFE ID; one that is there MUST NOT
    # have a path, and SHOULD reside in the trust domain of any leaf that it issues. Here it must:
    # one that does not is another domain's key that got into a bundle. Farther up it MAY be of
    # another trust domain, so that domains can share a root.
    names = find_extension(certificate, x509.SubjectAlternativeName)
    for uri in () if names is None else names.get_values_for_type(x509.UniformResourceIdentifier):
        if uri.lower().startswith("spiffe:"):
            try:
                spiffe_id = SpiffeId.parse(uri)
            except InvalidIdError as error:
                raise X509SvidError(f"a signing certificate's URI is no SPIFFE ID: {error}") from error
            if spiffe_id.path:
                raise X509SvidError(f"a signing certificate has the SPIFFE ID of a workload: {uri[:120]}")
            if trust_domain not in (None, spiffe_id.trust_domain):
                raise X509SvidError(f"the certificate of {spiffe_id} issued a leaf of {trust_domain}")


def _each(
    certificates: Iterable[tuple[str, x509.Certificate]], check: Callable[[x509.Certificate], None]
) -> None:
    for name, certificate in certificates:
        try:
            check(certificate)
        except X509SvidError as error:
            raise X509SvidError(f"{name}: {error}") from error


def _readable(path: Path) -> None:
    def check(certificate: x509.Certificate) -> None:
        extensions_of(certificate)
        try:
            _ = certificate.subject, certificate.issuer, certificate.signature_hash_algorithm
            certificate.public_key()
        except Exception as error:  # border: the parser's errors have no common base
            raise X509SvidError(f"cannot be read: {error}") from error

    _each(path.named(), check)


def _dates(path: Path) -> None:
    def check(certificate: x509.Certificate) -> None:
        if path.at < certificate.not_valid_before_utc:
            raise X509SvidError(f"not valid before {certificate.not_valid_before_utc:%Y-%m-%dT%H:%M:%SZ}")
        if path.at > certificate.not_valid_after_utc:
            raise X509SvidError(f"expired on {certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}")

    _each(path.named(), check)


def _critical(path: Path) -> None:
    def check(certificate: x509.Certificate) -> None:
        for extension in extensions_of(certificate):
            if extension.critical and not isinstance(extension.value, _UNDERSTOOD):
                raise X509SvidError(f"the critical extension {extension.oid.dotted_string} is not understood")

    _each(path.named(), check)


def _keys(path: Path) -> None:
    _each(path.named(), lambda certificate: check_key(certificate.public_key()))


def _signatures(path: Path) -> None:
    def check(certificate: x509.Certificate) -> None:
        algorithm = certificate.signature_hash_algorithm
        if algorithm is not None and not isinstance(algorithm, _HASHES):  # None: Ed25519 has its own
            raise X509SvidError(f"signed with {algorithm.name}")

    # The authority is trusted for being in the bundle, not for how it signed itself.
    _each(path.named()[:-1], check)


def _signers_key_usage(path: Path) -> None:
    *intermediates, anchor = path.named()[1:]
    _each(intermediates, _check_may_sign)
    _each([anchor], partial(_check_may_sign, anchor=True))


def _signers_ids(path: Path) -> None:
    issuer, *above = path.named()[1:]
    _each([issuer], partial(_check_authority_id, trust_domain=path.trust_domain))
    _each(above, partial(_check_authority_id, trust_domain=None))


def _length(path: Path) -> None:
    below = 0  # intermediates so far; self-issued ones do not count (RFC 5280 §4.2.1.9)
    for name, certificate in path.named()[1:]:
        constraints = find_extension(certificate, x509.BasicConstraints)
        limit = None if constraints is None else constraints.path_length
        if limit is not None and below > limit:
            raise X509SvidError(
                f"{name}: {below} intermediates below it where its path length allows {limit}"
            )
        below += not _self_issued(certificate)


def _constraints(path: Path) -> None:
    for number, authority in enumerate(path.certificates):
        constraints = find_extension(authority, x509.NameConstraints) if number else None
        if constraints is not None:
            # Self-issued intermediates only renew a key; the leaf always counts (§6.1.3).
            below = [(n, c) for i, (n, c) in enumerate(path.named()[:number]) if not i or not _self_issued(c)]
            _each(below, partial(check_names, constraints=constraints))


def _self_issued(certificate: x509.Certificate) -> bool:
    return certificate.subject == certificate.issuer


_READ = frozenset({"certificates"})

PATH_RULES: tuple[Rule[Path], ...] = (
    Rule("certificates", "RFC 5280 §4.1", "each certificate on the path can be read", _readable),
    Rule("dates", "RFC 5280 §6.1.3(a)(2)", "each certificate on the path is in its validity period", _dates),
    Rule(
        "critical_extensions",
        "RFC 5280 §6.1.4(o)",
        "each critical extension on the path is understood",
        _critical,
        _READ,
    ),
    Rule(
        "signers_are_cas",
        "X509-SVID §4.1",
        "each issuer on the path is a CA by its basic constraints",
        lambda path: _each(path.named()[1:], _check_ca),
        _READ,
    ),
    Rule(
        "signers_key_usage",
        "X509-SVID §4.3",
        "each issuer on the path has keyCertSign",
        _signers_key_usage,
        _READ,
    ),
    Rule(
        "signers_ids",
        "X509-SVID §3.2",
        "no issuer has the SPIFFE ID of a workload, nor the leaf's of another trust domain",
        _signers_ids,
        _READ,
    ),
    Rule("path_length", "RFC 5280 §6.1.4(m)", "each issuer's path length is kept", _length, _READ),
    Rule(
        "name_constraints", "X509-SVID §4.2", "each issuer's name constraints are kept", _constraints, _READ
    ),
    Rule("keys", "NIST SP 800-57", "each key on the path is of a kind and size in use", _keys, _READ),
    Rule(
        "signatures",
        "NIST SP 800-57",
        "no signature on the path is made with a weak hash",
        _signatures,
        _READ,
    ),
)

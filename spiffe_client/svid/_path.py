"""What a certification path must keep to (RFC 5280 §6, X509-SVID §3.2, §4), rule by rule.

Why not OpenSSL: it cannot be asked outside of a handshake. Why not `cryptography`'s verifier: it
refuses every CA with a URI name constraint, the one kind that SPIFFE uses (X509-SVID §4.2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import field
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from spiffe_client._values import dataclass
from spiffe_client.bundle import Certificate
from spiffe_client.errors import InvalidIdError, X509SvidError
from spiffe_client.ids import SpiffeId, TrustDomain
from spiffe_client.svid._extensions import extensions_of, public_key_of, read_certificate
from spiffe_client.svid._rules import Rule
from spiffe_client.svid._signature import weak_hash

if TYPE_CHECKING:
    from cryptography import x509

__all__ = ["PATH_RULES", "Budget", "Path", "check_key", "check_signer"]

_CURVES = frozenset({"secp256r1", "secp384r1", "secp521r1"})
_LEAST_RSA_BITS = 2048


class Budget:
    """How much may be compared for one leaf, over all its paths; forged chains must not buy unlimited work.

    Attributes:
        left: Comparisons of a name with a constraint.
    """

    __slots__ = ("left",)

    def __init__(self, most: int = 1 << 14) -> None:
        self.left = most

    def spend(self, comparisons: int) -> None:
        """Take some.

        Raises:
            X509SvidError: There are not as many left, nor any from now on.
        """
        self.left -= comparisons
        if self.left < 0:
            raise X509SvidError("too many names and name constraints to compare")


@dataclass(frozen=True, slots=True)
class Path:
    """Certificates of which each is signed by the next: leaf, intermediates, anchor.

    Attributes:
        certificates: At least two.
        at: The time to judge for.
        trust_domain: Of the leaf.
        budget: What may be spent on it and other paths of the leaf.
    """

    certificates: tuple[Certificate, ...]
    at: datetime
    trust_domain: TrustDomain
    budget: Budget = field(compare=False)

    def named(self) -> list[tuple[str, Certificate]]:
        """Each certificate with how an error calls it."""
        between = (f"intermediate {n}" for n in range(1, len(self.certificates) - 1))
        return list(zip(("the leaf", *between, "the authority"), self.certificates, strict=True))


def check_signer(
    certificate: Certificate | x509.Certificate,
    *,
    anchor: bool = False,
    trust_domain: TrustDomain | None = None,
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
    read = read_certificate(certificate)
    _check_ca(read)
    _check_may_sign(read, anchor=anchor)
    _check_authority_id(read, trust_domain)


def check_key(key: object) -> None:
    """Check that a key is of a kind and size that an X509-SVID or its CA may have.

    EC on P-256, P-384 or P-521, RSA of at least 2048 bits, Ed25519.

    Raises:
        X509SvidError: It is not.
    """
    if isinstance(key, EllipticCurvePublicKey):
        if key.curve.name not in _CURVES:
            raise X509SvidError(f"the curve {key.curve.name} is none of P-256, P-384, P-521")
        return
    # Loaded where one is met: the usual start saves 2 ms.
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    if isinstance(key, RSAPublicKey):
        if key.key_size < _LEAST_RSA_BITS:
            raise X509SvidError(f"the RSA key has {key.key_size} bits, fewer than {_LEAST_RSA_BITS}")
    elif not isinstance(key, Ed25519PublicKey):
        raise X509SvidError(f"the key is neither EC, RSA nor Ed25519 but {type(key).__name__}")


def _check_ca(certificate: Certificate) -> None:
    constraints = extensions_of(certificate).basic_constraints
    if constraints is None or not constraints.ca:
        raise X509SvidError("it issued a certificate and is no CA")


def _check_may_sign(certificate: Certificate, *, anchor: bool = False) -> None:
    usage = extensions_of(certificate).key_usage
    # Roots made by hand often have no key usage. They are trusted for being in the bundle, and
    # neither RFC 5280 (§6.1.1(d), §6.1.4(n)) nor OpenSSL asks one for it.
    if usage is None and anchor:
        return
    if usage is None or not usage.key_cert_sign:
        raise X509SvidError("it issued a certificate without keyCertSign in its key usage")


def _check_authority_id(certificate: Certificate, trust_domain: TrustDomain | None) -> None:
    # X509-SVID §3.2: a signing certificate need not have a SPIFFE ID; one that is there MUST NOT
    # have a path, and SHOULD reside in the trust domain of any leaf that it issues. Here it must:
    # one that does not is another domain's key that got into a bundle. Farther up it MAY be of
    # another trust domain, so that domains can share a root.
    for uri in extensions_of(certificate).uris:
        if uri.lower().startswith("spiffe:"):
            try:
                spiffe_id = SpiffeId.parse(uri)
            except InvalidIdError as error:
                raise X509SvidError(f"a signing certificate's URI is no SPIFFE ID: {error}") from error
            if spiffe_id.path:
                raise X509SvidError(f"a signing certificate has the SPIFFE ID of a workload: {uri[:120]}")
            if trust_domain not in (None, spiffe_id.trust_domain):
                raise X509SvidError(f"the certificate of {spiffe_id} issued a leaf of {trust_domain}")


def _each(certificates: Iterable[tuple[str, Certificate]], check: Callable[[Certificate], None]) -> None:
    for name, certificate in certificates:
        try:
            check(certificate)
        except X509SvidError as error:
            raise X509SvidError(f"{name}: {error}") from error


def _readable(path: Path) -> None:
    def check(certificate: Certificate) -> None:
        extensions_of(certificate)
        public_key_of(certificate)
        try:
            weak_hash(certificate)
        except Exception as error:  # border: the parser's errors have no common base
            raise X509SvidError(f"cannot be read: {error}") from error

    _each(path.named(), check)


def _dates(path: Path) -> None:
    def check(certificate: Certificate) -> None:
        if path.at < certificate.not_before:
            raise X509SvidError(f"not valid before {certificate.not_before:%Y-%m-%dT%H:%M:%SZ}")
        if path.at > certificate.not_after:
            raise X509SvidError(f"expired on {certificate.not_after:%Y-%m-%dT%H:%M:%SZ}")

    _each(path.named(), check)


def _critical(path: Path) -> None:
    def check(certificate: Certificate) -> None:
        for oid in extensions_of(certificate).not_understood:
            raise X509SvidError(f"the critical extension {oid} is not understood")

    _each(path.named(), check)


def _keys(path: Path) -> None:
    _each(path.named(), lambda certificate: check_key(public_key_of(certificate)))


def _signatures(path: Path) -> None:
    def check(certificate: Certificate) -> None:
        weak = weak_hash(certificate)
        if weak is not None:
            raise X509SvidError(f"signed with {weak}")

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
        constraints = extensions_of(certificate).basic_constraints
        limit = None if constraints is None else constraints.path_length
        if limit is not None and below > limit:
            raise X509SvidError(
                f"{name}: {below} intermediates below it where its path length allows {limit}"
            )
        below += not _self_issued(certificate)


def _constraints(path: Path) -> None:
    for number, authority in enumerate(path.certificates):
        if number and extensions_of(authority).name_constraints:
            from spiffe_client.svid._constraints import check_names

            # Self-issued intermediates only renew a key; the leaf always counts (§6.1.3).
            below = [(n, c) for i, (n, c) in enumerate(path.named()[:number]) if not i or not _self_issued(c)]
            _each(below, partial(check_names, authority=authority, spend=path.budget.spend))


def _self_issued(certificate: Certificate) -> bool:
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

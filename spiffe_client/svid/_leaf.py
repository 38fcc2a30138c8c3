"""What makes a certificate an X509-SVID that may authenticate somebody (X509-SVID §2-4).

Runs in every TLS handshake with a leaf not seen before: one pass over the extensions, then rules
that only look at what it found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from spiffe_client.bundle import Certificate
from spiffe_client.errors import InvalidIdError, X509SvidError
from spiffe_client.ids import SpiffeId
from spiffe_client.svid._extensions import extensions_of, read_certificate
from spiffe_client.svid._rules import Rule

if TYPE_CHECKING:
    from cryptography import x509

    from spiffe_client.bundle._extensions import Extensions

__all__ = ["LEAF_RULES", "Leaf", "Role", "check_leaf", "leaf_id"]

#: The end of a connection that a certificate is judged for.
Role: TypeAlias = Literal["server", "client"]


class Leaf:
    """What the rules look at, filled in by the first of them.

    Args:
        certificate: The leaf.
        role: The end of the connection it is judged for, if it is one.
    """

    __slots__ = ("_id", "certificate", "extensions", "role")

    extensions: Extensions

    def __init__(self, certificate: Certificate, role: Role | None = None) -> None:
        self.certificate = certificate
        self.role = role
        self._id: SpiffeId | None = None

    def read(self) -> None:
        """Go through the extensions once."""
        self.extensions = extensions_of(self.certificate)

    @property
    def id(self) -> SpiffeId:
        """Whose certificate it is; to be asked for once there is one URI (§2)."""
        if self._id is None:
            try:
                self._id = SpiffeId.parse(self.extensions.uris[0])
            except InvalidIdError as error:
                raise X509SvidError(f"the leaf's URI is not a SPIFFE ID: {error}") from error
        return self._id


def _one_uri(leaf: Leaf) -> None:
    found = len(leaf.extensions.uris)
    if found != 1:
        raise X509SvidError(f"the leaf has {found} URI SANs, an X509-SVID has exactly one")


def _workload_id(leaf: Leaf) -> None:
    if not leaf.id.path:
        raise X509SvidError(f"the leaf's SPIFFE ID {leaf.id} has no path: it names no workload")


def _no_ca(leaf: Leaf) -> None:
    constraints = leaf.extensions.basic_constraints
    if constraints is not None and constraints.ca:
        raise X509SvidError("the leaf is a CA certificate; a signing certificate authenticates nobody")


def _key_usage(leaf: Leaf) -> None:
    usage = leaf.extensions.key_usage
    if usage is None:
        raise X509SvidError("the leaf has no key usage extension")
    if not leaf.extensions.key_usage_critical:
        raise X509SvidError("the leaf's key usage extension is not critical")
    if not usage.digital_signature:
        raise X509SvidError("the leaf's key usage lacks digitalSignature")


def _no_signing(leaf: Leaf) -> None:
    usage = leaf.extensions.key_usage
    if usage is not None and (usage.key_cert_sign or usage.crl_sign):
        raise X509SvidError("the leaf's key usage allows signing certificates or revocation lists")


def _purposes(leaf: Leaf) -> None:
    purposes = leaf.extensions.purposes
    if purposes is None:
        return
    # Both, whatever the role: each workload is a server to some and a client to others (§4.4).
    missing = [name for name, oid in _BOTH if oid not in purposes]
    if missing:
        role = "" if leaf.role is None else f", presented by a {leaf.role},"
        raise X509SvidError(f"the leaf's extended key usage{role} lacks {' and '.join(missing)}")


#: RFC 5280 §4.2.1.12.
_BOTH = (("serverAuth", "1.3.6.1.5.5.7.3.1"), ("clientAuth", "1.3.6.1.5.5.7.3.2"))
_READ = frozenset({"extensions"})

LEAF_RULES: tuple[Rule[Leaf], ...] = (
    Rule("extensions", "RFC 5280 §4.2", "the leaf's extensions are well-formed, none is repeated", Leaf.read),
    Rule("uri_san", "X509-SVID §2", "the leaf has exactly one URI SAN", _one_uri, _READ),
    Rule(
        "spiffe_id",
        "X509-SVID §3.1",
        "the URI is a SPIFFE ID with a path",
        _workload_id,
        frozenset({"uri_san"}),
    ),
    Rule("not_a_ca", "X509-SVID §4.1", "the leaf is no CA by its basic constraints", _no_ca, _READ),
    Rule("key_usage", "X509-SVID §4.3", "key usage is critical and has digitalSignature", _key_usage, _READ),
    Rule("no_signing", "X509-SVID §4.3", "key usage has no keyCertSign and no cRLSign", _no_signing, _READ),
    Rule(
        "extended_key_usage",
        "X509-SVID §4.4",
        "extended key usage, if there, has serverAuth and clientAuth",
        _purposes,
        _READ,
    ),
)


def check_leaf(certificate: Certificate | x509.Certificate, *, role: Role | None = None) -> SpiffeId:
    """Check all that X509-SVID §2-4 demands of a leaf itself; signatures and dates are not looked at.

    An empty Subject with a SAN that is not critical passes: that is the issuer's duty (§3.1), and
    no verifier in the field refuses it.

    Args:
        certificate: The leaf.
        role: The end of the connection that presents it, for the error; the rules are the same.

    Returns:
        Whose certificate it is.

    Raises:
        X509SvidError: A rule is broken; the message says which.
    """
    leaf = Leaf(read_certificate(certificate), role)
    for rule in LEAF_RULES:
        rule.check(leaf)
    return leaf.id


def leaf_id(certificate: Certificate | x509.Certificate) -> SpiffeId:
    """Return whose X509-SVID this is, having checked the leaf as `check_leaf` does.

    Raises:
        X509SvidError: It is not an X509-SVID.
    """
    return check_leaf(certificate)

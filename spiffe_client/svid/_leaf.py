"""What makes a certificate an X509-SVID that may authenticate somebody (X509-SVID §2-4).

Runs in every TLS handshake with a leaf not seen before: one pass over the extensions, then rules
that only look at what it found.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from spiffe_client.errors import InvalidIdError, X509SvidError
from spiffe_client.ids import SpiffeId
from spiffe_client.svid._extensions import extensions_of
from spiffe_client.svid._rules import Rule

__all__ = ["LEAF_RULES", "Leaf", "Role", "check_leaf", "leaf_id"]

#: The end of a connection that a certificate is judged for.
Role: TypeAlias = Literal["server", "client"]


class Leaf:
    """What the rules look at, filled in by the first of them.

    Args:
        certificate: The leaf.
        role: The end of the connection it is judged for, if it is one.
    """

    __slots__ = ("_id", "ca", "certificate", "key_usage", "key_usage_critical", "purposes", "role", "uris")

    def __init__(self, certificate: x509.Certificate, role: Role | None = None) -> None:
        self.certificate = certificate
        self.role = role
        self.ca = False
        self.key_usage: x509.KeyUsage | None = None
        self.key_usage_critical = False
        self.purposes: x509.ExtendedKeyUsage | None = None
        self.uris: list[str] = []
        self._id: SpiffeId | None = None

    def read(self) -> None:
        """Go through the extensions once."""
        for extension in extensions_of(self.certificate):
            value = extension.value
            if isinstance(value, x509.SubjectAlternativeName):
                self.uris = value.get_values_for_type(x509.UniformResourceIdentifier)
            elif isinstance(value, x509.KeyUsage):
                self.key_usage, self.key_usage_critical = value, extension.critical
            elif isinstance(value, x509.BasicConstraints):
                self.ca = value.ca
            elif isinstance(value, x509.ExtendedKeyUsage):
                self.purposes = value

    @property
    def id(self) -> SpiffeId:
        """Whose certificate it is; to be asked for once there is one URI (§2)."""
        if self._id is None:
            try:
                self._id = SpiffeId.parse(self.uris[0])
            except InvalidIdError as error:
                raise X509SvidError(f"the leaf's URI is not a SPIFFE ID: {error}") from error
        return self._id


def _one_uri(leaf: Leaf) -> None:
    if len(leaf.uris) != 1:
        raise X509SvidError(f"the leaf has {len(leaf.uris)} URI SANs, an X509-SVID has exactly one")


def _workload_id(leaf: Leaf) -> None:
    if not leaf.id.path:
        raise X509SvidError(f"the leaf's SPIFFE ID {leaf.id} has no path: it names no workload")


def _no_ca(leaf: Leaf) -> None:
    if leaf.ca:
        raise X509SvidError("the leaf is a CA certificate; a signing certificate authenticates nobody")


def _key_usage(leaf: Leaf) -> None:
    if leaf.key_usage is None:
        raise X509SvidError("the leaf has no key usage extension")
    if not leaf.key_usage_critical:
        raise X509SvidError("the leaf's key usage extension is not critical")
    if not leaf.key_usage.digital_signature:
        raise X509SvidError("the leaf's key usage lacks digitalSignature")


def _no_signing(leaf: Leaf) -> None:
    if leaf.key_usage is not None and (leaf.key_usage.key_cert_sign or leaf.key_usage.crl_sign):
        raise X509SvidError("the leaf's key usage allows signing certificates or revocation lists")


def _purposes(leaf: Leaf) -> None:
    if leaf.purposes is None:
        return
    # Both, whatever the role: each workload is a server to some and a client to others (§4.4).
    missing = [
        name
        for name, oid in (
            ("serverAuth", ExtendedKeyUsageOID.SERVER_AUTH),
            ("clientAuth", ExtendedKeyUsageOID.CLIENT_AUTH),
        )
        if oid not in leaf.purposes
    ]
    if missing:
        role = "" if leaf.role is None else f", presented by a {leaf.role},"
        raise X509SvidError(f"the leaf's extended key usage{role} lacks {' and '.join(missing)}")


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


def check_leaf(certificate: x509.Certificate, *, role: Role | None = None) -> SpiffeId:
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
    leaf = Leaf(certificate, role)
    for rule in LEAF_RULES:
        rule.check(leaf)
    return leaf.id


def leaf_id(certificate: x509.Certificate) -> SpiffeId:
    """Return whose X509-SVID this is, having checked the leaf as `check_leaf` does.

    Raises:
        X509SvidError: It is not an X509-SVID.
    """
    return check_leaf(certificate)

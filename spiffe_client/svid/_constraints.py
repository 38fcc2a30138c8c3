"""Name constraints (RFC 5280 §4.2.1.10): what a CA may issue certificates for.

URI and DNS constraints are understood, since those are what the names of an X509-SVID are made
of. Any other kind of constraint that applies to a certificate refuses it: a limit that was set and
is not understood is never taken for no limit. Few CAs have any, so here it is `cryptography.x509`,
loaded for them, that reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.x509.oid import NameOID

from spiffe_client.bundle import Certificate
from spiffe_client.errors import X509SvidError

__all__ = ["check_names"]


def check_names(certificate: Certificate, *, authority: Certificate, spend: Callable[[int], None]) -> None:
    """Check each name of a certificate against the constraints of a CA above it.

    Args:
        certificate: Whose names count.
        authority: A CA that has name constraints.
        spend: Told how many comparisons that takes, before they are made.

    Raises:
        X509SvidError: A name lies outside, a constraint applies that is not understood, or there are
            too many.
    """
    spend(1)
    try:
        constraints = authority.x509.extensions.get_extension_for_class(x509.NameConstraints).value
        names = list(_names(certificate.x509))
    except Exception as error:  # border: the parser's errors have no common base
        raise X509SvidError(f"names or name constraints cannot be read: {error}") from error
    subtrees = len(constraints.permitted_subtrees or ()) + len(constraints.excluded_subtrees or ())
    spend((len(names) + 1) * (subtrees + 1))  # reading them is some work, too
    for name in names:
        _check_name(name, constraints)


def _check_name(name: x509.GeneralName, constraints: x509.NameConstraints) -> None:
    for excluded in _of_kind(name, constraints.excluded_subtrees):
        if _within(name, excluded):
            raise X509SvidError(f"{_shown(name)} is excluded by a CA's name constraints")
    permitted = list(_of_kind(name, constraints.permitted_subtrees))
    # Several permitted names of one kind: one of them is enough.
    if permitted and not any(_within(name, subtree) for subtree in permitted):
        raise X509SvidError(f"{_shown(name)} is outside of what a CA's name constraints permit")


def _names(certificate: x509.Certificate) -> Iterator[x509.GeneralName]:
    if certificate.subject.rdns:
        yield x509.DirectoryName(certificate.subject)
        # An address in the subject counts as if it were a SAN (RFC 5280 §4.2.1.10).
        for attribute in certificate.subject.get_attributes_for_oid(NameOID.EMAIL_ADDRESS):
            yield x509.RFC822Name(str(attribute.value))
    for extension in certificate.extensions:
        if isinstance(extension.value, x509.SubjectAlternativeName):
            yield from extension.value


def _of_kind(
    name: x509.GeneralName, subtrees: Iterable[x509.GeneralName] | None
) -> Iterator[x509.GeneralName]:
    return (subtree for subtree in subtrees or () if type(subtree) is type(name))


def _within(name: x509.GeneralName, subtree: x509.GeneralName) -> bool:
    if isinstance(name, x509.UniformResourceIdentifier):
        return _uri_within(name.value, str(subtree.value).lower())
    if isinstance(name, x509.DNSName):
        host, domain = name.value.lower(), str(subtree.value).lower()
        return not domain or host == domain.lstrip(".") or host.endswith("." + domain.lstrip("."))
    raise X509SvidError(
        f"a CA's name constraint of kind {type(subtree).__name__} applies and is not understood"
    )


def _uri_within(uri: str, constraint: str) -> bool:
    """Whether the host of a URI, which of a SPIFFE ID is the trust domain, lies in a constraint.

    `a.test` is that host alone, `.a.test` is the hosts below it.
    """
    try:
        host = urlsplit(uri).hostname
    except ValueError:
        host = None
    if not host:
        raise X509SvidError("a CA's name constraint applies to a URI without a host")
    return host.endswith(constraint) if constraint.startswith(".") else host == constraint


def _shown(name: x509.GeneralName) -> str:
    return f"the name {str(name.value)[:120]!r}"

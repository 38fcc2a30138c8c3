"""Name constraints: what a CA may issue certificates for."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from cryptography import x509
from cryptography.x509 import DirectoryName, DNSName, IPAddress, RFC822Name
from cryptography.x509 import UniformResourceIdentifier as Uri

from spiffe_client.bundle import Certificate
from spiffe_client.errors import X509SvidError
from spiffe_client.svid import examine_x509_svid, verify_x509_svid
from tests.support.odd_certificates import (
    AT,
    HOUR,
    Signed,
    bundle_of,
    distinguished,
    key_usage,
    patched_der,
    raw_extension,
    sans,
    sign_ca,
    sign_certificate,
    sign_leaf,
)

ID = Uri("spiffe://a.test/peer")
USAGE = (key_usage("digital_signature"), True)


def limits(
    permit: list[x509.GeneralName] | None = None, exclude: list[x509.GeneralName] | None = None
) -> list:
    return [(x509.NameConstraints(permit, exclude), True)]


def verify(
    permit: list[x509.GeneralName] | None = None,
    exclude: list[x509.GeneralName] | None = None,
    *names: x509.GeneralName,
    subject: x509.Name | None = None,
) -> str:
    """Verify a leaf of ID and other names under a root with these limits."""
    root = sign_ca(extra=limits(permit, exclude))
    leaf = sign_certificate(
        [USAGE, (sans(ID, *names), True)],
        issuer=root,
        subject=distinguished(None) if subject is None else subject,
    )
    return str(verify_x509_svid([leaf.certificate], bundle_of(root), at=AT))


class TestUri:
    @pytest.mark.parametrize("permit", [["a.test"], ["A.TEST"], ["b.test", "a.test"], [".test"]])
    def test_permitted(self, permit: list[str]) -> None:
        """X509-SVID §4.2, RFC 5280 §4.2.1.10: the trust domain itself, or one below; one of several will do."""
        assert ID.value == verify([*map(Uri, permit)])

    @pytest.mark.parametrize(
        "permit", ["b.test", ".a.test", "test", "xa.test", "a.test.x", "spiffe://a.test"]
    )
    def test_outside_of_what_is_permitted(self, permit: str) -> None:
        """X509-SVID §4.2: a CA limited to other trust domains cannot speak for this one."""
        with pytest.raises(X509SvidError, match="outside of what"):
            verify([Uri(permit)])

    @pytest.mark.parametrize("exclude", ["a.test", ".test"])
    def test_excluded(self, exclude: str) -> None:
        """RFC 5280 §6.1.3(c): also if it is permitted."""
        with pytest.raises(X509SvidError, match="is excluded"):
            verify([Uri("a.test")], [Uri(exclude)])

    def test_excluding_others_changes_nothing(self) -> None:
        """RFC 5280 §6.1.3(c)."""
        assert ID.value == verify(None, [Uri("b.test"), Uri(".a.test")])

    @pytest.mark.parametrize("uri", ["spiffe:///x", "urn:x", "spiffe://[/x", "https://[/x"])
    def test_a_uri_without_host(self, uri: str) -> None:
        """RFC 5280 §4.2.1.10: must be refused where a URI constraint applies."""
        outer = sign_ca(extra=limits([Uri("a.test")]))
        inner = sign_ca(outer, cn="inner", extra=[(sans(Uri(uri)), False)])
        leaf = sign_certificate([USAGE, (sans(ID), True)], issuer=inner)
        with pytest.raises(X509SvidError, match=r"without a host|no SPIFFE ID"):
            verify_x509_svid([leaf.certificate, inner.certificate], bundle_of(outer), at=AT)


class TestDns:
    @pytest.mark.parametrize("permit", ["a.test", "A.Test", "peer.a.test", "", ".a.test", "test"])
    def test_permitted(self, permit: str) -> None:
        """RFC 5280 §4.2.1.10: labels may be added on the left."""
        assert verify([DNSName(permit)], None, DNSName("peer.a.test"))

    @pytest.mark.parametrize("permit", ["b.test", "eer.a.test", "x.peer.a.test"])
    def test_outside(self, permit: str) -> None:
        """RFC 5280 §4.2.1.10: whole labels."""
        with pytest.raises(X509SvidError, match="outside of what"):
            verify([DNSName(permit)], None, DNSName("peer.a.test"))

    def test_excluded(self) -> None:
        """RFC 5280 §6.1.3(c)."""
        with pytest.raises(X509SvidError, match="is excluded"):
            verify(None, [DNSName("a.test")], DNSName("peer.a.test"))

    def test_a_name_that_is_not_there_is_not_limited(self) -> None:
        """RFC 5280 §4.2.1.10: limits of a kind are for names of that kind."""
        assert verify([DNSName("b.test")])


class TestOtherKinds:
    NAMES = [
        (RFC822Name("a.test"), RFC822Name("me@a.test")),
        (IPAddress(ip_network("10.0.0.0/8")), IPAddress(ip_address("10.0.0.1"))),
        (DirectoryName(distinguished("x")), DirectoryName(distinguished("x"))),
    ]

    @pytest.mark.parametrize(("limit", "name"), NAMES, ids=lambda name: type(name).__name__)
    @pytest.mark.parametrize("where", ["permit", "exclude"])
    def test_what_is_not_understood_refuses(
        self, where: str, limit: x509.GeneralName, name: x509.GeneralName
    ) -> None:
        """RFC 5280 §4.2.1.10: process the constraint or reject the certificate."""
        with pytest.raises(X509SvidError, match="not understood"):
            verify(*([limit], None) if where == "permit" else (None, [limit]), name)

    @pytest.mark.parametrize(("limit", "_"), NAMES, ids=lambda name: type(name).__name__)
    def test_what_does_not_apply_does_not(self, limit: x509.GeneralName, _: x509.GeneralName) -> None:
        """RFC 5280 §4.2.1.10: a leaf with a URI and no subject has no such name."""
        assert verify([limit])

    def test_a_directory_constraint_applies_to_the_subject(self) -> None:
        """RFC 5280 §4.2.1.10: and is not taken for no limit."""
        with pytest.raises(X509SvidError, match="DirectoryName applies"):
            verify([DirectoryName(distinguished("x"))], subject=distinguished("x"))

    def test_an_address_in_the_subject_counts_as_a_name(self) -> None:
        """RFC 5280 §4.2.1.10: emailAddress in the subject."""
        subject = x509.Name([x509.NameAttribute(x509.NameOID.EMAIL_ADDRESS, "me@a.test")])
        with pytest.raises(X509SvidError, match="RFC822Name applies"):
            verify([RFC822Name("a.test")], subject=subject)


class TestWhere:
    def path(self, extra: list, *, cn: str = "inner") -> tuple[Signed, list[x509.Certificate]]:
        root = sign_ca(extra=extra)
        inner = sign_ca(root, cn=cn, extra=[(sans(Uri("spiffe://b.test")), False)])
        issuer = sign_ca(inner, cn="issuer")
        leaf = sign_certificate([USAGE, (sans(ID), True)], issuer=issuer)
        return root, [c.certificate for c in (leaf, issuer, inner)]

    def test_intermediates_are_limited_too(self) -> None:
        """RFC 5280 §6.1.3(b): the names of every certificate below."""
        root, chain = self.path(limits([Uri("a.test")]))
        with pytest.raises(X509SvidError, match=r"intermediate 2.*b\.test"):
            verify_x509_svid(chain, bundle_of(root), at=AT)

    def test_self_issued_intermediates_are_not(self) -> None:
        """RFC 5280 §6.1.3(b): a CA that renews its own key."""
        root, chain = self.path(limits([Uri("a.test")]), cn="root")
        assert verify_x509_svid(chain, bundle_of(root), at=AT)

    def test_each_ca_adds_its_own(self) -> None:
        """RFC 5280 §6.1.4(g): what the root permits an intermediate can only narrow."""
        root = sign_ca(extra=limits([Uri(".test")]))
        inner = sign_ca(root, cn="inner", extra=limits([Uri("b.test")]))
        leaf = sign_certificate([USAGE, (sans(ID), True)], issuer=inner)
        with pytest.raises(X509SvidError, match="the leaf: .*outside of what"):
            verify_x509_svid([leaf.certificate, inner.certificate], bundle_of(root), at=AT)

    def test_not_on_the_leaf(self) -> None:
        """RFC 5280 §4.2.1.10: only a CA limits anybody."""
        root = sign_ca()
        leaf = sign_certificate([USAGE, (sans(ID), True), *limits([Uri("b.test")])], issuer=root)
        assert verify_x509_svid([leaf.certificate], bundle_of(root), at=AT)


@pytest.mark.parametrize("value", [b"\x30\x02\x05\x00", b"\x30\x00"], ids=bytes.hex)
def test_constraints_that_cannot_be_read(value: bytes) -> None:
    """RFC 5280 §4.2.1.10: a limit that nobody understands is not taken for none."""
    root = sign_ca(extra=[(raw_extension("2.5.29.30", value), True)])
    leaf = sign_leaf(root)
    with pytest.raises(X509SvidError, match="names or name constraints cannot be read"):
        verify_x509_svid([leaf.certificate], bundle_of(root), at=AT)


def test_names_that_cannot_be_read() -> None:
    """Nor is a name that nobody can compare: here a PrintableString with an asterisk."""
    root = sign_ca(extra=limits([Uri("a.test")]))
    leaf = sign_leaf(root, cn="x" * 5)
    odd = patched_der(leaf.certificate, b"\x0c\x05xxxxx", b"\x13\x05xx*xx", root)
    with pytest.raises(X509SvidError, match="names or name constraints cannot be read"):
        verify_x509_svid([Certificate(odd)], bundle_of(root), at=AT)


def test_many_names_and_many_constraints() -> None:
    """Attack: a peer of a hostile trust domain has each of its names compared with each constraint, on each path."""
    hosts = [DNSName(f"h{n}.b.test") for n in range(200)]
    roots = [sign_ca(extra=limits(exclude=hosts))]
    roots += [sign_ca(extra=limits(exclude=hosts), key=roots[0].key) for _ in range(3)]
    names = [DNSName(f"n{n}.a.test") for n in range(100)]
    leaf = sign_certificate([USAGE, (sans(ID, *names), True)], issuer=roots[0])
    with pytest.raises(X509SvidError, match="too many names and name constraints"):
        verify_x509_svid([leaf.certificate], bundle_of(*roots), at=AT)
    few = sign_certificate([USAGE, (sans(ID, *names[:50]), True)], issuer=roots[0])
    assert verify_x509_svid([few.certificate], bundle_of(*roots), at=AT)


def test_constraints_are_not_looked_at_where_all_is_lost() -> None:
    """A path that is refused for another reason costs nothing more; people are told everything."""
    root = sign_ca(extra=[(raw_extension("2.5.29.30", b"\x30\x00"), True)], end=AT - HOUR / 2)
    leaf = sign_leaf(root)
    with pytest.raises(X509SvidError, match="the authority: expired"):
        verify_x509_svid([leaf.certificate], bundle_of(root), at=AT)
    broken = {c.name for c in examine_x509_svid([leaf.certificate], bundle_of(root), at=AT) if not c.ok}
    assert {"dates", "name_constraints"} == broken

"""Which authorities OpenSSL gets, so that no trust domain can disturb another's handshakes."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from spiffe_client.bundle import BundleSet, X509Bundle
from spiffe_client.ids import TrustDomain
from spiffe_client.tls import _generation, peer_of
from spiffe_client.tls._authorities import LeftOut, select_authorities
from tests.support.pki import Authority, Identity, bundle_set, name, new_authority
from tests.support.tls_wire import Events, Wire, context_of, plain_server, tls_of

A_TD, B_TD, C_TD = (TrustDomain(n) for n in ("a.test", "b.test", "c.test"))


def der(authority: Authority) -> bytes:
    return authority.certificate.public_bytes(Encoding.DER)


def select(own: Identity, *authorities: Authority, only: Any = None) -> tuple[list[bytes], list[LeftOut]]:
    selection = select_authorities(context_of(own, bundle_set(*authorities)), only)
    return list(selection.owners), list(selection.left_out)


class TestSelection:
    def test_own_domain_first_then_by_name(self) -> None:
        """What comes first wins, whatever the order of the bundles."""
        a, b, c = (new_authority(td) for td in ("a.test", "b.test", "c.test"))
        assert ([der(b), der(a), der(c)], []) == select(b.leaf("spiffe://b.test/me"), c, a, b)

    def test_only_what_is_asked_for(self) -> None:
        """Not even the own domain, where no permitted peer comes from it."""
        a, b = new_authority("a.test"), new_authority("b.test")
        assert ([der(b)], []) == select(a.leaf("spiffe://a.test/me"), a, b, only={B_TD})
        assert ([], []) == select(a.leaf("spiffe://a.test/me"), a, b, only={C_TD})

    def test_a_shared_authority_is_no_imitation(self) -> None:
        """The same certificate in two bundles is loaded once."""
        a = new_authority("a.test")
        bundles = BundleSet([a.bundle(), X509Bundle(B_TD, (a.certificate,))])
        selection = select_authorities(context_of(a.leaf("spiffe://a.test/me"), bundles), None)
        assert ({der(a): A_TD}, ()) == (selection.owners, selection.left_out)

    def test_a_domain_may_resemble_itself(self) -> None:
        """A renewed root with the same name and key identifier."""
        a = new_authority("a.test")
        twin = new_authority("a.test", key=a.key, subject=a.certificate.subject)
        bundles = BundleSet([a.bundle(twin)])
        selection = select_authorities(context_of(a.leaf("spiffe://a.test/me"), bundles), None)
        assert ([der(a), der(twin)], ()) == (list(selection.owners), selection.left_out)

    @pytest.mark.parametrize(
        ("ours", "theirs", "alike"),
        [
            (b"same", b"same", True),
            (b"ours", b"theirs", False),
            (None, b"theirs", True),  # OpenSSL goes by the name alone if one has no identifier
            (b"ours", None, True),
            (None, None, True),
        ],
    )
    def test_what_looks_alike_to_openssl(self, ours: bytes | None, theirs: bytes | None, alike: bool) -> None:
        """The same subject, and key identifiers that do not tell the two apart."""
        a = new_authority("a.test", subject=name("root"), ski=ours)
        b = new_authority("b.test", subject=name("root"), ski=theirs)
        ders, left_out = select(a.leaf("spiffe://a.test/me"), b, a)
        assert [LeftOut(B_TD, A_TD)] * alike == left_out
        assert ([der(a)] if alike else [der(a), der(b)]) == ders

    def test_our_intermediates_cannot_be_imitated_either(self) -> None:
        """They are in no bundle, and peers of our own domain send them."""
        root, b = new_authority("a.test"), new_authority("b.test")
        inter = root.intermediate()
        clone = inter.cloned_by("b.test")
        assert ([der(root)], [LeftOut(B_TD, A_TD)]) == select(inter.leaf("spiffe://a.test/me"), root, clone)
        assert ([der(root), der(b)], []) == select(inter.leaf("spiffe://a.test/me"), root, b)

    @pytest.mark.parametrize(
        ("oid", "value"),
        [
            (x509.ExtensionOID.SUBJECT_KEY_IDENTIFIER, b"\xff\xff"),  # ValueError
            (x509.ExtensionOID.SUBJECT_ALTERNATIVE_NAME, b"\x30\x04\xa3\x02\x05\x00"),  # an error of its own
        ],
        ids=["key identifier", "x400Address"],
    )
    def test_an_unreadable_authority_is_left_out(self, oid: x509.ObjectIdentifier, value: bytes) -> None:
        """What OpenSSL would take it for cannot be told; it costs only itself."""
        a = new_authority("a.test")
        unreadable = odd_root("b.test", oid, value)
        assert ([der(a)], [LeftOut(B_TD, None)]) == select(a.leaf("spiffe://a.test/me"), a, unreadable)

    def test_an_unreadable_intermediate_of_ours(self) -> None:
        """Nothing can be said about who looks like it; everything else goes on."""
        a = new_authority("a.test")
        odd = odd_root("a.test", x509.ExtensionOID.SUBJECT_KEY_IDENTIFIER, b"\xff\xff")
        assert ([der(a)], []) == select(a.leaf("spiffe://a.test/me").sending(odd.certificate), a)


    def test_an_intermediate_below_one_that_cannot_be_read(self) -> None:
        """Which key signed that cannot be told, so nobody is left out for looking like its issuer."""
        a, b = new_authority("a.test"), new_authority("b.test")
        odd = odd_root("a.test", x509.ExtensionOID.AUTHORITY_KEY_IDENTIFIER, b"\xff\xff")
        own = a.leaf("spiffe://a.test/me").sending(odd.certificate, b.certificate)
        assert ([der(a), der(b)], []) == select(own, a, b)


def odd_root(trust_domain: str, oid: x509.ObjectIdentifier, value: bytes) -> Authority:
    """A root with an extension that `cryptography` cannot read."""
    usual = new_authority(trust_domain, uri=None, ski=None)
    certificate = (
        x509.CertificateBuilder(
            issuer_name=usual.certificate.subject,
            subject_name=usual.certificate.subject,
            public_key=usual.key.public_key(),
            serial_number=1,
            not_valid_before=usual.certificate.not_valid_before_utc,
            not_valid_after=usual.certificate.not_valid_after_utc,
        )
        .add_extension(x509.UnrecognizedExtension(oid, value), critical=False)
        .sign(usual.key, usual.certificate.signature_hash_algorithm)
    )
    return Authority(trust_domain, usual.key, certificate)


class TestDenialOfService:
    """A federated domain publishes look-alikes; handshakes of ours go on."""

    def test_of_a_root(self) -> None:
        """Shown to fail with `certificate signature failure` where both are loaded."""
        a = new_authority("a.test")
        for clone in (a.cloned_by("b.test"), new_authority("0.test", subject=a.certificate.subject, ski=None)):
            tls = tls_of(context_of(a.leaf("spiffe://a.test/me"), clone, a))
            Wire(tls.client_context(), plain_server(a.leaf("spiffe://a.test/peer"))).handshake()

    def test_of_an_intermediate(self) -> None:
        """OpenSSL would prefer the trusted look-alike to the one that the peer sends."""
        root = new_authority("a.test")
        inter = root.intermediate()
        tls = tls_of(context_of(inter.leaf("spiffe://a.test/me"), root, inter.cloned_by("b.test")))
        wire = Wire(tls.client_context(), plain_server(inter.leaf("spiffe://a.test/peer"))).handshake()
        assert "spiffe://a.test/peer" == str(peer_of(wire.client).id)

    @pytest.mark.parametrize("subject", ["the inter", " The  Inter", "THE INTER "])
    def test_look_alike_in_other_letters(self, subject: str) -> None:
        """OpenSSL compares names without case and white space: shown to fail where bytes were compared."""
        root = new_authority("a.test")
        inter = root.intermediate(subject=name("The Inter"))
        ski = inter.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
        twin = new_authority("b.test", subject=name(subject), ski=ski)
        tls = tls_of(context_of(inter.leaf("spiffe://a.test/me"), root, twin))
        wire = Wire(tls.client_context(), plain_server(inter.leaf("spiffe://a.test/peer"))).handshake()
        assert "spiffe://a.test/peer" == str(peer_of(wire.client).id)

    def test_look_alike_with_another_key_identifier(self) -> None:
        """A leaf that does not say which key signed it leaves OpenSSL nothing but the name: shown to fail."""
        root = new_authority("a.test")
        inter = root.intermediate(subject=name("The Inter"))
        twin = new_authority("b.test", subject=name("The Inter"))
        tls = tls_of(context_of(inter.leaf("spiffe://a.test/me", aki=False), root, twin))
        wire = Wire(tls.client_context(), plain_server(inter.leaf("spiffe://a.test/peer", aki=False))).handshake()
        assert "spiffe://a.test/peer" == str(peer_of(wire.client).id)
        ders, left_out = select(inter.leaf("spiffe://a.test/me"), root, twin)
        assert ([der(root), der(twin)], []) == (ders, left_out)  # with an identifier the two are told apart

    def test_is_told_once(self) -> None:
        """An operator learns of it, and not at every rotation again."""
        events = Events()
        a = new_authority("a.test")
        tls = tls_of(context_of(a.leaf("spiffe://a.test/me"), a, a.cloned_by("b.test")), on_event=events)
        tls.client_context(), tls.server_context()
        facade = tls.client_context()
        for _ in range(2):
            tls.prepare(context_of(a.leaf("spiffe://a.test/me"), a, a.cloned_by("b.test")))
        assert [{"trust_domain": "b.test", "reason": "authority_unusable"}] == events.named("bundle.refused")
        assert "it looks like one of a.test" in events[0].message
        del facade


class TestUnreadableToOpenssl:
    def test_costs_only_itself(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """One certificate that OpenSSL cannot parse must not take the others down."""
        events = Events()
        a, b = new_authority("a.test"), new_authority("b.test")
        select_all = select_authorities

        def with_junk(*args: Any) -> Any:
            selection = select_all(*args)
            return type(selection)({**selection.owners, b"\x30\x03junk": C_TD}, ())

        monkeypatch.setattr(_generation, "select_authorities", with_junk)
        tls = tls_of(context_of(a.leaf("spiffe://a.test/me"), a, b), on_event=events)
        Wire(tls.client_context(), plain_server(a.leaf("spiffe://a.test/peer"))).handshake()
        Wire(tls.client_context(), plain_server(b.leaf("spiffe://b.test/peer"))).handshake()
        assert ["c.test"] == [e["trust_domain"] for e in events.named("bundle.refused")]
        assert "cannot be read" in events[0].message

"""Servers of the web PKI that see our X509-SVID: verified as a browser does, by nothing of SPIFFE."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from spiffe_client.errors import IdentityUnavailableError, TlsConfigurationError
from spiffe_client.svid import X509Svid
from spiffe_client.tls import _web, web_client_context
from tests.support.pki import Authority, Identity, new_authority
from tests.support.tls_server import server
from tests.support.tls_wire import TLS12, TLS13, Wire, context_of, plain_server

SPIFFE = new_authority("prod.example")
ME = SPIFFE.intermediate().leaf("spiffe://prod.example/billing")
CONTEXT = context_of(ME, SPIFFE)
WEB = new_authority("web.pki", uri=None)
SITE = WEB.intermediate(uri="https://ca.web.pki/").leaf(dns=["tokens.prod.example", "localhost"])


def pem(*authorities: Authority) -> str:
    return b"".join(a.certificate.public_bytes(Encoding.PEM) for a in authorities).decode()


def meet(site: Identity, *, name: str = "tokens.prod.example", version: ssl.TLSVersion = TLS13) -> Wire:
    context = web_client_context(CONTEXT, roots=pem(WEB))
    server_side = plain_server(site, trusts=SPIFFE, version=version)
    return Wire(context, server_side, server_hostname=name).handshake()


class TestBothEnds:
    @pytest.mark.parametrize("version", [TLS12, TLS13])
    def test_the_server_sees_our_svid(self, version: ssl.TLSVersion) -> None:
        """With its intermediate, so that the server needs the root only (X509-SVID §4.1)."""
        wire = meet(SITE, version=version)

        assert ME.ders[0] == wire.server.getpeercert(binary_form=True)
        assert SITE.ders[0] == wire.client.getpeercert(binary_form=True)

    def test_without_an_identity_nothing_is_shown(self) -> None:
        """To servers of the web PKI that authenticate their clients another way."""
        context = web_client_context(None, roots=pem(WEB))
        wire = Wire(context, plain_server(SITE, trusts=None), server_hostname="localhost").handshake()

        assert None is wire.server.getpeercert(binary_form=True)

    def test_on_a_real_socket_with_httpx(self) -> None:
        """As the token broker's client uses it: over TCP, host name from the URL."""
        context = web_client_context(CONTEXT, roots=pem(WEB))
        with server(SITE, SPIFFE) as running, httpx.Client(verify=context, trust_env=False) as http:
            assert "ok" == http.get(f"https://localhost:{running.port}/").text
            with pytest.raises(httpx.ConnectError, match="IP address mismatch"):
                http.get(f"https://127.0.0.1:{running.port}/")


class TestRefusals:
    def test_another_host_name(self) -> None:
        """RFC 9525: a good certificate for somebody else's name."""
        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            meet(SITE, name="tokens.evil.example")

    def test_a_common_name_is_no_host_name(self) -> None:
        """RFC 9525 §2: names are in the subjectAltName, nowhere else."""
        from tests.support.pki import name

        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            meet(WEB.leaf("https://tokens.prod.example/", subject=name("tokens.prod.example")))

    def test_attack_an_svid_poses_as_the_web_site(self) -> None:
        """Whoever can have an SVID with a DNS name issued is not the token broker."""
        impostor = SPIFFE.leaf("spiffe://prod.example/x", dns=["tokens.prod.example"])
        with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer|self-signed"):
            meet(impostor)

    def test_attack_an_intermediate_of_our_own_chain_is_no_authority(self) -> None:
        """Our chain is sent along, and trusted for nothing."""
        signer = SPIFFE.intermediate()
        context = web_client_context(
            context_of(signer.leaf("spiffe://prod.example/me"), SPIFFE), roots=pem(WEB)
        )
        impostor = signer.leaf("spiffe://prod.example/x", dns=["tokens.prod.example"])
        with pytest.raises(ssl.SSLCertVerificationError):
            Wire(
                context, plain_server(impostor, trusts=SPIFFE), server_hostname="tokens.prod.example"
            ).handshake()

    def test_given_roots_are_the_only_ones(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What the system trusts has no say then."""
        path = tmp_path / "system.pem"
        path.write_text(pem(WEB))
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        other = web_client_context(CONTEXT, roots=pem(new_authority("other.pki", uri=None)))
        with pytest.raises(ssl.SSLCertVerificationError):
            Wire(other, plain_server(SITE, trusts=SPIFFE), server_hostname="localhost").handshake()

        ours = web_client_context(CONTEXT, roots=None)
        Wire(ours, plain_server(SITE, trusts=SPIFFE), server_hostname="localhost").handshake()

    def test_an_expired_certificate(self) -> None:
        """As everywhere."""
        from tests.support.pki import days

        old = WEB.leaf(dns=["tokens.prod.example"], not_before=days(-3), not_after=days(-1))
        with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
            meet(old)

    def test_tls_1_1_is_not_spoken(self) -> None:
        """RFC 8996."""
        context = web_client_context(None, roots=pem(WEB))

        assert context.minimum_version >= TLS12
        assert context.check_hostname
        assert ssl.CERT_REQUIRED == context.verify_mode


class TestRoots:
    @pytest.mark.parametrize(
        "roots",
        ["", "nothing", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
        + [pem(WEB) + pem(WEB)[: len(pem(WEB)) // 2]],
    )
    def test_broken_ones_are_refused(self, roots: str) -> None:
        """Also one that is cut short: OpenSSL would drop it and say nothing."""
        with pytest.raises(TlsConfigurationError):
            web_client_context(CONTEXT, roots=roots)

    def test_what_openssl_cannot_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Another parser than ours has the last word."""

        class Odd:
            der = b"\x30\x03odd"

        monkeypatch.setattr(_web, "parse_certificates_pem", lambda *_, **__: (Odd(),))
        with pytest.raises(TlsConfigurationError, match="OpenSSL refuses a certificate of roots="):
            web_client_context(CONTEXT, roots=pem(WEB))

    def test_text_around_certificates_is_ignored(self) -> None:
        """As in the bundles that distributions ship."""
        context = web_client_context(None, roots=f"# Bücher CA\n{pem(WEB)}\n# end")

        assert 1 == context.cert_store_stats()["x509"]


class TestSecrets:
    def test_a_key_log_of_the_environment_is_ignored(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """`ssl.create_default_context` would write the session keys of every connection there."""
        monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
        wire_context = web_client_context(CONTEXT, roots=pem(WEB))
        Wire(wire_context, plain_server(SITE, trusts=SPIFFE), server_hostname="localhost").handshake()

        assert [] == os.listdir(tmp_path)

    def test_openssl_refuses_the_key(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Named, not shown."""

        def broken(self: X509Svid) -> object:
            from spiffe_client._redact import Secret

            return Secret(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")

        monkeypatch.setattr(X509Svid, "key_pem", broken)
        with pytest.raises(IdentityUnavailableError, match="spiffe://prod.example/billing"):
            web_client_context(CONTEXT, roots=pem(WEB))

"""The context that users hold: an exact `SSLContext` that cannot be loosened or silently ignored."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from spiffe_client.errors import PeerUnverifiedError, TlsConfigurationError
from spiffe_client.tls import SpiffeTls, client_context, peer_of, server_context
from tests.support.pki import days, new_authority
from tests.support.tls_wire import ANYBODY, TLS12, TLS13, Wire, context_of, plain_client, plain_server, tls_of

ROOT = new_authority("a.test")
ME = context_of(ROOT.leaf("spiffe://a.test/me"), ROOT)
PEER = ROOT.leaf("spiffe://a.test/peer", dns=("peer.test",))
OUTDATED = ROOT.leaf("spiffe://a.test/peer", not_before=days(-3), not_after=days(-2))


def facades(**options: Any) -> list[ssl.SSLContext]:
    tls = tls_of(ME, **options)
    return [tls.client_context(), tls.server_context()]


def wire_of(facade: ssl.SSLContext, peer: Any = PEER, version: ssl.TLSVersion = TLS13) -> Wire:
    """Our facade against the standard library."""
    if facade.protocol is ssl.PROTOCOL_TLS_SERVER:
        return Wire(plain_client(peer, version=version), facade)
    return Wire(facade, plain_server(peer, version=version))


#: Everything that Python lets one do to a context, and what comes of it on ours. A new Python with
#: a new setter fails the test below until somebody has thought about it.
FOREIGN = {
    "load_cert_chain", "load_default_certs", "load_verify_locations", "set_default_verify_paths",
    "set_psk_client_callback", "set_psk_server_callback",
}  # fmt: skip
REFUSED = FOREIGN | {"load_dh_params", "set_ciphers", "set_npn_protocols"}
#: Looked at when a handshake begins, and refused then.
NOTICED = {
    "keylog_filename", "minimum_version", "num_tickets", "options", "post_handshake_auth", "verify_flags",
    "verify_mode",
}  # fmt: skip
#: Have their usual effect, which cannot loosen verification: see the tests.
EFFECTIVE = {
    "check_hostname", "hostname_checks_common_name", "maximum_version", "set_alpn_protocols", "set_ecdh_curve",
    "set_servername_callback", "sni_callback",
}  # fmt: skip
#: Without what these say, the context has neither key nor authorities: see test_bypass.
CLOSED = {"sslobject_class", "sslsocket_class"}
READ_ONLY = {
    "cert_store_stats", "get_ca_certs", "get_ciphers", "protocol", "security_level", "session_stats",
    "wrap_bio", "wrap_socket",
}  # fmt: skip


class TestFacade:
    def test_exact_type(self) -> None:
        """anyio runs the methods of a subclass in worker threads."""
        for facade in facades():
            assert ssl.SSLContext is type(facade)

    def test_has_neither_key_nor_authorities(self) -> None:
        """So that whatever goes around the verifying classes fails closed."""
        for facade in facades():
            assert {"x509": 0, "crl": 0, "x509_ca": 0} == facade.cert_store_stats()

    def test_no_way_to_go_on_unverified(self) -> None:
        """Renegotiation could change the peer, tickets and compression have no place here."""
        wanted = ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION
        for facade in facades():
            assert wanted == facade.options & wanted

    def test_each_setting_was_thought_about(self) -> None:
        """Every public attribute of `SSLContext` on this Python is classified above."""
        public = {n for n in dir(ssl.SSLContext) if not n.startswith("_")}
        assert set() == public - REFUSED - NOTICED - EFFECTIVE - CLOSED - READ_ONLY

    @pytest.mark.parametrize("name", sorted(n for n in REFUSED if hasattr(ssl.SSLContext, n)))
    def test_setters_without_effect_raise(self, name: str) -> None:
        """They would do nothing, or bring in trust or identity from elsewhere."""
        for facade in facades():
            with pytest.raises(TlsConfigurationError, match=f"^{name}"):
                getattr(facade, name)("anything")

    def test_the_functions_make_the_same(self) -> None:
        """`client_context` and `server_context` are short for a `SpiffeTls`."""
        wire = Wire(client_context(ME, ANYBODY), server_context(ME, ANYBODY)).handshake().converse()
        assert "spiffe://a.test/me" == str(peer_of(wire.server).id) == str(peer_of(wire.client).id)

    @pytest.mark.parametrize("version", ["SSLv3", "TLSv1", "TLSv1_1", "MINIMUM_SUPPORTED", "MAXIMUM_SUPPORTED"])
    def test_nothing_older_than_tls_12(self, version: str) -> None:
        """1.3 by default, 1.2 on request, nothing else."""
        with pytest.raises(TlsConfigurationError, match="1.2 or 1.3"):
            SpiffeTls(ME, ANYBODY, minimum_version=ssl.TLSVersion[version])

    def test_tls_13_by_default(self) -> None:
        """TLS 1.2 has to be asked for."""
        for facade in facades():
            with pytest.raises(ssl.SSLError):
                wire_of(facade, version=TLS12).handshake()
        for facade in facades(minimum_version=TLS12):
            assert "TLSv1.2" == wire_of(facade, version=TLS12).handshake().converse().client.version()


def set_to(name: str, value: Any) -> Any:
    return pytest.param(lambda context: setattr(context, name, value), name, id=f"{name}={value!r}")


LOOSENED = [
    set_to("verify_mode", ssl.CERT_NONE),  # OpenSSL would go on with a chain that it found invalid
    set_to("verify_mode", ssl.CERT_OPTIONAL),
    set_to("verify_flags", ssl.VERIFY_DEFAULT),
    set_to("verify_flags", ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VERIFY_ALLOW_PROXY_CERTS),
    set_to("options", ssl.OP_ALL),
    set_to("minimum_version", TLS12),
]


class TestProperties:
    @pytest.mark.parametrize("peer", [PEER, OUTDATED], ids=["good", "expired"])
    @pytest.mark.parametrize(("change", "name"), LOOSENED)
    def test_loosened_properties_refuse_every_handshake(self, change: Any, name: str, peer: Any) -> None:
        """They cannot be made to raise on a plain context; nothing gets through either way."""
        for facade in facades():
            change(facade)
            wire = wire_of(facade, peer)
            with pytest.raises(TlsConfigurationError, match=f"^{name} was changed"):
                wire.handshake()

    def test_server_only_properties(self) -> None:
        """Tickets and post-handshake authentication, on a server."""
        for name, value in (("num_tickets", 2), ("post_handshake_auth", True)):
            facade = tls_of(ME).server_context()
            setattr(facade, name, value)
            with pytest.raises(TlsConfigurationError, match=f"^{name} was changed"):
                wire_of(facade).handshake()

    def test_a_client_may_offer_post_handshake_authentication(self) -> None:
        """`http.client` sets this on contexts it is given; a client shows its one identity anyway."""
        facade = tls_of(ME).client_context()
        facade.post_handshake_auth = True
        wire_of(facade).handshake().converse()

    def test_a_key_log_would_stay_empty(self, tmp_path: Path) -> None:
        """It is read from the context that handshakes: only `configure` reaches that."""
        for facade in facades():
            facade.keylog_filename = str(tmp_path / "keys")
            with pytest.raises(TlsConfigurationError, match="^keylog_filename was changed"):
                wire_of(facade).handshake()

    def test_what_clients_set_to_what_it_is(self) -> None:
        """`http.client` and urllib3 assign these on contexts they are given."""
        facade = tls_of(ME).client_context()
        facade.check_hostname = False
        facade.verify_mode = ssl.CERT_REQUIRED
        facade.options |= ssl.OP_NO_COMPRESSION
        wire_of(facade).handshake().converse()

    def test_a_host_name_check_on_top(self) -> None:
        """Asked for, it is made in addition, never instead."""
        facade = tls_of(ME).client_context()
        facade.check_hostname = True
        wire_of(facade).handshake().converse()
        with pytest.raises(PeerUnverifiedError, match="Hostname mismatch"):
            wire_of(facade, ROOT.leaf("spiffe://a.test/peer", dns=("other.test",))).handshake()
        with pytest.raises(PeerUnverifiedError):
            wire_of(facade, new_authority("b.test").leaf("spiffe://a.test/peer", dns=("peer.test",))).handshake()

    def test_versions_may_be_raised(self) -> None:
        """Tightening takes effect."""
        for facade in facades(minimum_version=TLS12):
            facade.minimum_version = TLS13
            with pytest.raises(ssl.SSLError):
                wire_of(facade, version=TLS12).handshake()
            assert "TLSv1.3" == wire_of(facade).handshake().client.version()

    def test_versions_may_be_capped(self) -> None:
        """So does an upper bound."""
        for facade in facades(minimum_version=TLS12):
            facade.maximum_version = TLS12
            assert "TLSv1.2" == wire_of(facade).handshake().converse().client.version()

    def test_curves_take_effect(self) -> None:
        """OpenSSL takes these from the context in the user's hands."""
        for facade in facades():
            facade.set_ecdh_curve("secp521r1")
            wire_of(facade).handshake().converse()
        tls, other = tls_of(ME), plain_server(PEER)
        other.set_ecdh_curve("prime256v1")
        facade = tls.client_context()
        facade.set_ecdh_curve("secp521r1")
        with pytest.raises(ssl.SSLError, match="(?i)key.share|handshake.failure"):
            Wire(facade, other).handshake()


class TestConfigure:
    def test_ciphers_reach_the_handshake(self) -> None:
        """On the facade alone they would be ignored (TLS 1.2)."""
        wanted = "ECDHE-ECDSA-AES256-GCM-SHA384"
        for facade in facades(minimum_version=TLS12, configure=lambda context: context.set_ciphers(wanted)):
            assert wanted == wire_of(facade, version=TLS12).handshake().client.cipher()[0]

    def test_a_key_log_reaches_the_handshake(self, tmp_path: Path) -> None:
        """So that an operator can debug with it where that was meant."""
        log = tmp_path / "keys"
        for facade in facades(configure=lambda context: setattr(context, "keylog_filename", str(log))):
            wire_of(facade).handshake()
        assert "CLIENT_TRAFFIC_SECRET_0" in log.read_text()

    def test_a_higher_version(self) -> None:
        """Kept, also when the facade is lowered again to what `minimum_version` allowed."""
        for facade in facades(minimum_version=TLS12, configure=lambda c: setattr(c, "minimum_version", TLS13)):
            facade.minimum_version = TLS12
            with pytest.raises(TlsConfigurationError, match="^minimum_version"):
                wire_of(facade).handshake()

    def test_strict_checks_on_top(self) -> None:
        """More verification flags are kept: strict mode wants what this chain does not have."""
        bare = new_authority("a.test", ski=None)
        tls = tls_of(
            context_of(bare.leaf("spiffe://a.test/me"), bare),
            configure=lambda c: setattr(c, "verify_flags", c.verify_flags | ssl.VERIFY_X509_STRICT),
        )
        with pytest.raises(PeerUnverifiedError, match="does not verify"):
            Wire(tls.client_context(), plain_server(bare.leaf("spiffe://a.test/peer", aki=False))).handshake()

    @pytest.mark.parametrize(("change", "name"), LOOSENED)
    def test_cannot_loosen_verification(self, change: Any, name: str) -> None:
        """It is applied first and made sure of afterwards, on every context."""
        for facade in facades(configure=change):
            wire_of(facade).handshake().converse()
            with pytest.raises(PeerUnverifiedError):
                wire_of(facade, OUTDATED).handshake()
            with pytest.raises(ssl.SSLError):
                wire_of(facade, version=TLS12).handshake()
            assert not facade.verify_flags & ssl.VERIFY_ALLOW_PROXY_CERTS

    def test_cannot_turn_tickets_on(self) -> None:
        """TLS 1.3 resumption would skip the check."""
        tls = tls_of(ME, configure=lambda c: setattr(c, "num_tickets", 2) if c.protocol is ssl.PROTOCOL_TLS_SERVER else None)
        assert 0 == tls.server_context().num_tickets

    @pytest.mark.parametrize("name", sorted(n for n in FOREIGN if hasattr(ssl.SSLContext, n)))
    def test_cannot_bring_in_trust_or_identity(self, name: str) -> None:
        """No other authority, key or shared secret gets into a context."""
        with pytest.raises(TlsConfigurationError, match="SPIFFE alone"):
            facades(configure=lambda context: getattr(context, name)("anything"))

    def test_what_it_raises_comes_out(self) -> None:
        """A mistake in it is its author's to see, at once."""
        with pytest.raises(ZeroDivisionError):
            facades(configure=lambda _: 1 / 0)

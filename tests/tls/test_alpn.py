"""ALPN lists survive the exchange of contexts in which OpenSSL looks for them."""

from __future__ import annotations

import ssl
from typing import Any

import pytest

from spiffe_client.errors import TlsConfigurationError
from tests.support.pki import new_authority
from tests.support.tls_wire import Source, Wire, context_of, plain_client, plain_server, tls_of

ROOT = new_authority("a.test")
ME = context_of(ROOT.leaf("spiffe://a.test/me"), ROOT)
PEER = ROOT.leaf("spiffe://a.test/peer")


def negotiated(client: ssl.SSLContext, server: ssl.SSLContext) -> str | None:
    wire = Wire(client, server).handshake()
    assert wire.client.selected_alpn_protocol() == wire.server.selected_alpn_protocol()
    return wire.client.selected_alpn_protocol()


def offering(*protocols: str) -> ssl.SSLContext:
    client = plain_client(PEER)
    client.set_alpn_protocols(list(protocols))
    return client


class TestServer:
    def test_set_by_a_library(self) -> None:
        """What hypercorn does; h2 vanished silently when only the facade heard of it."""
        server = tls_of(ME).server_context()
        server.set_alpn_protocols(["h2", "http/1.1"])
        assert "h2" == negotiated(offering("h2", "http/1.1"), server)
        assert "http/1.1" == negotiated(offering("http/1.1"), server)
        assert None is negotiated(plain_client(PEER), server)

    def test_set_at_the_start(self) -> None:
        """As an argument."""
        assert "h2" == negotiated(offering("h2"), tls_of(ME, alpn=("h2",)).server_context())

    def test_set_again(self) -> None:
        """The last list counts, from the next handshake on."""
        server = tls_of(ME, alpn=("h2",)).server_context()
        for protocols in (("http/1.1",), iter(["h2"])):
            server.set_alpn_protocols(protocols)
        assert "h2" == negotiated(offering("http/1.1", "h2"), server)

    def test_each_context_has_its_own(self) -> None:
        """Two servers of one `SpiffeTls`."""
        tls = tls_of(ME)
        first, second = tls.server_context(), tls.server_context()
        first.set_alpn_protocols(["h2"])
        second.set_alpn_protocols(["http/1.1"])
        assert "h2" == negotiated(offering("h2", "http/1.1"), first)
        assert "http/1.1" == negotiated(offering("h2", "http/1.1"), second)

    def test_survives_rotation(self) -> None:
        """Prepared or not."""
        source = Source(ME)
        tls = tls_of(source)
        server = tls.server_context()
        server.set_alpn_protocols(["h2"])
        for prepared in (True, False):
            after = context_of(ROOT.leaf("spiffe://a.test/me"), ROOT)
            if prepared:
                tls.prepare(after)
            source.value = after
            built = tls.stats.generations
            assert "h2" == negotiated(offering("h2"), server)
            assert (0 if prepared else 1) == tls.stats.generations - built

    def test_set_in_configure(self) -> None:
        """It is applied to the contexts that handshake too."""
        server = tls_of(ME, configure=lambda context: context.set_alpn_protocols(["h2"])).server_context()
        assert "h2" == negotiated(offering("h2"), server)

    def test_malformed_lists_change_nothing(self) -> None:
        """The ssl module's own error, and the former list stays."""
        server = tls_of(ME, alpn=("h2",)).server_context()
        with pytest.raises(ssl.SSLError, match="1 to 255"):
            server.set_alpn_protocols(["x" * 256])
        assert "h2" == negotiated(offering("h2"), server)


    @pytest.mark.parametrize("mistake", ["h2", ["x" * 256], [""], ["ℏ2"]], ids=["a string", "long", "empty", "odd"])
    def test_malformed_arguments(self, mistake: Any) -> None:
        """Said at once, with a typed error."""
        with pytest.raises(TlsConfigurationError, match="^alpn="):
            tls_of(ME, alpn=mistake)


class TestClient:
    def test_set_for_each_connection(self) -> None:
        """What httpcore does: OpenSSL copies the list when the connection is made."""
        client = tls_of(ME).client_context()
        server = plain_server(PEER)
        server.set_alpn_protocols(["h2", "http/1.1"])
        for protocol in ("h2", "http/1.1"):
            client.set_alpn_protocols([protocol])
            assert protocol == negotiated(client, server)

    def test_set_at_the_start(self) -> None:
        """As an argument."""
        server = plain_server(PEER)
        server.set_alpn_protocols(["h2"])
        assert "h2" == negotiated(tls_of(ME, alpn=("h2",)).client_context(), server)

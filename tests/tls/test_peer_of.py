"""Who is on the other end, asked of whatever a library hands out (streams: see test_clients, test_servers)."""

from __future__ import annotations

import pickle
from types import SimpleNamespace
from typing import Any

import pytest

from spiffe_client.errors import PeerUnverifiedError
from spiffe_client.ids import SpiffeId, TrustDomain
from spiffe_client.tls import Peer, peer_of
from tests.support.case_ids import kind_of
from tests.support.pki import new_authority
from tests.support.tls_wire import Wire, context_of, plain_client, plain_server, tls_of

ROOT = new_authority("a.test")
ME = context_of(ROOT.leaf("spiffe://a.test/me"), ROOT)
PEER = ROOT.leaf("spiffe://a.test/peer")


class Extra:
    """A transport or stream in the way of asyncio and httpcore."""

    def __init__(self, ssl_object: object) -> None:
        self._extra = {"ssl_object": ssl_object}

    def get_extra_info(self, name: str) -> object:
        return self._extra.get(name)


class Lender:
    """Lends the methods of an SSLObject, as trio.SSLStream does."""

    def __init__(self, ssl_object: Any) -> None:
        self.pending = ssl_object.pending


SHAPES: dict[str, Any] = {
    "itself": lambda o: o,
    "asyncio transport, httpcore stream": Extra,
    "httpx response": lambda o: SimpleNamespace(extensions={"network_stream": Extra(o)}),
    "aiohttp request": lambda o: SimpleNamespace(transport=Extra(o)),
    "http.server handler": lambda o: SimpleNamespace(connection=o),
    "http.client connection": lambda o: SimpleNamespace(sock=o),
    "trio stream": Lender,
}


class TestPeerOf:
    @pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
    def test_each_shape(self, shape: Any) -> None:
        """Public ways in only."""
        wire = Wire(tls_of(ME).client_context(), plain_server(PEER)).handshake()
        peer = peer_of(shape(wire.client))
        assert SpiffeId.parse("spiffe://a.test/peer") == peer.id
        assert TrustDomain("a.test") == peer.trust_domain
        assert PEER.leaf.not_valid_after_utc == peer.not_after
        assert (*PEER.ders, *ROOT.bundle().ders) == peer.chain

    @pytest.mark.parametrize(
        "other",
        [None, 42, "x", object(), Extra(None), SimpleNamespace(extensions={}), SimpleNamespace(extensions=None)],
        ids=kind_of,
    )
    def test_no_connection_in_it(self, other: object) -> None:
        """An error, never None: nobody can forget to look."""
        with pytest.raises(PeerUnverifiedError, match=f"this {type(other).__name__} has no verified SPIFFE peer"):
            peer_of(other)

    @pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
    def test_no_spiffe_connection(self, shape: Any) -> None:
        """A certificate that somebody else believed in proves nothing."""
        wire = Wire(plain_client(PEER), plain_server(PEER, trusts=ROOT)).handshake()
        for end in (wire.client, wire.server):
            with pytest.raises(PeerUnverifiedError):
                peer_of(shape(end))

    def test_not_before_the_handshake_and_not_after_a_refusal(self) -> None:
        """Only a peer that was verified and is still trusted."""
        wire = Wire(tls_of(ME).client_context(), plain_server(new_authority("a.test").leaf("spiffe://a.test/peer")))
        with pytest.raises(PeerUnverifiedError):
            peer_of(wire.client)
        with pytest.raises(PeerUnverifiedError):
            wire.handshake()
        with pytest.raises(PeerUnverifiedError):
            peer_of(wire.client)

    def test_a_claim_is_not_enough(self) -> None:
        """An attribute of the right name and the wrong type is no peer."""
        wire = Wire(plain_client(PEER), plain_server(PEER)).handshake()
        wire.client.spiffe_peer = "spiffe://a.test/admin"
        with pytest.raises(PeerUnverifiedError):
            peer_of(wire.client)


class TestPeer:
    def test_is_a_value(self) -> None:
        """Frozen, equal by content, and short to print."""
        wire = Wire(tls_of(ME).client_context(), plain_server(PEER)).handshake()
        peer = peer_of(wire.client)
        assert Peer(peer.id, peer.not_after, peer.chain) == peer == pickle.loads(pickle.dumps(peer))
        assert "chain" not in repr(peer)
        with pytest.raises(AttributeError):
            peer.id = None

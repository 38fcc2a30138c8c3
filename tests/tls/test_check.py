"""The chain that OpenSSL has verified: public on new Pythons, private on old, never guessed."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiffe_client.errors import PeerUnverifiedError
from spiffe_client.tls import _check
from spiffe_client.tls._check import PeerCheck, verified_chain
from tests.support.pki import new_authority
from tests.support.tls_wire import ANYBODY, Wire, context_of, plain_client, plain_server, tls_of

ROOT = new_authority("a.test")
INTER = ROOT.intermediate()
ME = context_of(ROOT.leaf("spiffe://a.test/me"), ROOT)
PEER = INTER.leaf("spiffe://a.test/peer")
WHOLE = (*PEER.ders, *(ROOT.bundle().ders))


class Object:
    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


class Certificate:
    def public_bytes(self, encoding: int) -> bytes:
        assert 2 == encoding
        return b"der"


class TestVerifiedChain:
    def test_on_this_python(self) -> None:
        """Leaf, intermediate and root, on both ends, with the leaf first."""
        wire = Wire(tls_of(ME).client_context(), plain_server(PEER)).handshake()
        assert WHOLE == verified_chain(wire.client)
        wire = Wire(plain_client(PEER), tls_of(ME).server_context()).handshake()
        assert WHOLE == verified_chain(wire.server)

    def test_public(self) -> None:
        """Python 3.13 and newer."""
        assert (b"leaf", b"root") == verified_chain(Object(get_verified_chain=lambda: [b"leaf", b"root"]))

    def test_private(self) -> None:
        """Python 3.11 and 3.12."""
        chain = verified_chain(Object(_sslobj=Object(get_verified_chain=lambda: [Certificate()])))
        assert (b"der",) == chain
        assert () == verified_chain(Object(_sslobj=Object(get_verified_chain=lambda: None)))

    @pytest.mark.parametrize("connection", [Object(), Object(_sslobj=None), Object(_sslobj=Object())])
    def test_missing(self, connection: Any) -> None:
        """A Python without either tells of no chain."""
        assert () == verified_chain(connection)

    def test_which_one_this_python_has(self) -> None:
        """The private one is not touched where there is a public one."""
        wire = Wire(tls_of(ME).client_context(), plain_server(PEER)).handshake()
        assert (sys.version_info >= (3, 13)) == hasattr(wire.client, "get_verified_chain")

    @pytest.mark.parametrize("chain", [(), (PEER.ders[0],)], ids=["none", "leaf only"])
    def test_no_chain_is_a_refusal(self, chain: tuple[bytes, ...], monkeypatch: pytest.MonkeyPatch) -> None:
        """Fails closed, whatever the leaf says."""
        monkeypatch.setattr(_check, "verified_chain", lambda _: chain)
        with pytest.raises(PeerUnverifiedError, match="no verified chain"):
            Wire(tls_of(ME).client_context(), plain_server(PEER)).handshake()


class TestLeaves:
    @pytest.mark.parametrize("leaf", [b"", b"\x30\x00", b"\xff" * 100])
    def test_bytes_that_are_no_certificate(self, leaf: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whatever a TLS library might hand us."""
        monkeypatch.setattr(_check, "verified_chain", lambda _: (leaf, leaf))
        with pytest.raises(PeerUnverifiedError, match="no X509-SVID") as e:
            PeerCheck(ME, ANYBODY, None, tls12=True).check(Object(), server=False, resumed=False)
        assert "not_an_svid" == e.value.why

    @given(st.binary(max_size=200), st.integers(0, 2000), st.integers(0, 255))
    def test_any_bytes(self, junk: bytes, position: int, byte: int) -> None:
        """Junk, or a real leaf with one byte changed: judged or refused, never another error."""
        changed = bytearray(PEER.ders[0])
        changed[position % len(changed)] = byte
        for leaf in (junk, bytes(changed)):
            try:
                peer = _check._read_peer((leaf, b"root"), "client")
            except PeerUnverifiedError as error:
                assert "not_an_svid" == error.why
            else:
                assert leaf == peer.chain[0]

    def test_read_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The rules are the same for the same bytes: the next handshake does not parse them again."""
        asked: list[Any] = []
        check_leaf = _check.check_leaf
        monkeypatch.setattr(_check, "check_leaf", lambda *a, **k: asked.append(a) or check_leaf(*a, **k))
        peer = ROOT.leaf("spiffe://a.test/new")
        client, server = tls_of(ME).client_context(), plain_server(peer)
        for _ in range(3):
            Wire(client, server).handshake()
        assert 1 == len(asked)

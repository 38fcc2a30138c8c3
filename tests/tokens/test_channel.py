"""Each connection to a token broker shows the SVID of one generation, and the token broker is verified as said."""

from __future__ import annotations

import base64
import hashlib
import ssl

import anyio
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from spiffe_client.authorize import custom, member_of
from spiffe_client.bundle import BundleSet
from spiffe_client.errors import (
    InvalidIdError,
    StaleError,
    TlsConfigurationError,
    TokenBrokerClosedError,
    TokenBrokerUnavailableError,
    TokenRequestError,
)
from spiffe_client.svid import X509Svid
from spiffe_client.tls import SpiffeTls
from spiffe_client.tokens import SpiffePeer, WebPki
from spiffe_client.tokens._channel import Channel
from spiffe_client.tokens._http import get
from tests.support.pki import new_authority
from tests.support.raw_broker import HANG, json_reply, serve_raw
from tests.support.shop import SHOP, WEB, MovingSource, Shop

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def shop() -> Shop:
    return Shop()


@pytest.fixture(scope="module")
def web_ca():
    return new_authority("web.test")


@pytest.fixture(scope="module")
def roots(web_ca) -> str:
    return web_ca.certificate.public_bytes(Encoding.PEM).decode()


@pytest.fixture(scope="module")
def asking_tls(web_ca, shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """A server of the web PKI that takes the shop's SVIDs as client certificates."""
    leaf = web_ca.leaf(dns=["localhost"])
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_bytes(leaf.key_pem + leaf.chain_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    authorities = shop.ca.x509_bundle.authorities
    context.load_verify_locations(cadata=b"".join(a.public_bytes(Encoding.DER) for a in authorities))
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


def thumbprint(svid: X509Svid) -> str:
    digest = hashlib.sha256(svid.leaf.public_bytes(Encoding.DER)).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def ok(asked) -> bytes:
    return json_reply({})


class TestTrust:
    async def test_peer_is_parsed(self) -> None:
        """A SPIFFE ID in text names the one peer that is meant; a trust domain is never meant by accident."""
        assert SpiffePeer(SHOP) == SpiffePeer(SHOP) or SpiffePeer(SHOP).peer.rule == f"allow({SHOP})"
        assert "member_of(shop.test)" == SpiffePeer(member_of("shop.test")).peer.rule
        with pytest.raises(InvalidIdError):
            SpiffePeer("spiffe://shop.test")

    @pytest.mark.parametrize(
        "text", ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
    )
    async def test_roots_that_are_none(self, text: str) -> None:
        """Trusting nobody by mistake is said at once."""
        with pytest.raises(TlsConfigurationError):
            _ = Channel(WebPki(text)).certificate

    async def test_session_keys_are_not_logged(self, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
        """SSLKEYLOGFILE of the environment would let a reader of that file read tokens."""
        monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
        channel = Channel(WebPki())
        assert channel.certificate is None
        await channel.aclose()

        assert not (tmp_path / "keys").exists()

    @pytest.mark.parametrize("trust", [WebPki(), SpiffePeer(SHOP)], ids=["web", "spiffe"])
    async def test_showing_an_svid_needs_one(self, trust) -> None:
        """A SPIFFE workload always wants to see it."""
        with pytest.raises(TokenRequestError, match="identity="):
            Channel(trust, present_svid=True)


class TestWebPki:
    async def test_nothing_is_shown_by_default(
        self, shop: Shop, roots: str, asking_tls: ssl.SSLContext
    ) -> None:
        """Even to a server that asks, and with an identity at hand."""
        channel = Channel(WebPki(roots), identity=shop.context(WEB))
        with serve_raw(ok, asking_tls) as broker:
            reply = await get(channel, broker.url, timeout=5)
        await channel.aclose()

        assert [None] == [asked.peer for asked in broker.asked]
        assert (None, None) == (reply.shown, channel.certificate)
        await channel.aclose()

    async def test_the_svid_is_shown(self, shop: Shop, roots: str, asking_tls: ssl.SSLContext) -> None:
        """As TLS client certificate; the answer says which (RFC 8705 §2, §3.1)."""
        svid = shop.issue(WEB)
        channel = Channel(WebPki(roots), identity=shop.context(svid), present_svid=True)
        with serve_raw(ok, asking_tls) as broker:
            reply = await get(channel, broker.url, timeout=5)

        assert [svid.ders[0]] == [asked.peer for asked in broker.asked]
        assert reply.shown is not None
        assert (thumbprint(svid), svid.not_after) == (reply.shown.thumbprint, reply.shown.not_after)
        assert thumbprint(svid) == channel.certificate
        await channel.aclose()

    async def test_the_bundle_does_not_vouch_for_a_web_server(self, shop: Shop, roots: str) -> None:
        """A server with an SVID in place of a web certificate is refused: two worlds."""
        server = SpiffeTls(shop.context(SHOP), custom("anybody", lambda peer: True))
        channel = Channel(WebPki(roots), identity=shop.context(WEB), present_svid=True)
        with serve_raw(ok, server.server_context()) as broker:
            with pytest.raises(TokenBrokerUnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
                await get(channel, broker.url, timeout=5)
        await channel.aclose()

        assert [] == broker.asked


class TestGenerations:
    async def test_rotation_shows_the_new_svid_at_once(
        self, shop: Shop, roots: str, asking_tls: ssl.SSLContext
    ) -> None:
        """No pooled connection of the former one is used: tokens are bound to what was shown."""
        first, second = shop.issue(WEB), shop.issue(WEB)
        source = shop.source(first)
        channel = Channel(WebPki(roots), identity=source, present_svid=True)
        with serve_raw(ok, asking_tls) as broker:
            await get(channel, broker.url, timeout=5)
            async with channel.lease() as former:
                pass
            source.publish(shop.context(second))
            reply = await get(channel, broker.url, timeout=5)

        assert [first.ders[0], second.ders[0]] == [asked.peer for asked in broker.asked]
        assert reply.shown is not None
        assert thumbprint(second) == reply.shown.thumbprint == channel.certificate
        assert former.route.is_closed
        await channel.aclose()

    async def test_requests_on_their_way_end_on_the_former_one(
        self, shop: Shop, roots: str, asking_tls: ssl.SSLContext
    ) -> None:
        """It is closed after the last of them."""
        source = shop.source(WEB)
        channel = Channel(WebPki(roots), identity=source, present_svid=True)
        async with channel.lease() as lease:
            source.publish(shop.context(WEB))
            async with channel.lease() as newer:
                assert newer.route is not lease.route
                assert not lease.route.is_closed
            assert not lease.route.is_closed
        assert lease.route.is_closed
        assert not newer.route.is_closed
        await channel.aclose()
        assert newer.route.is_closed

    async def test_a_new_bundle_changes_nothing_for_the_web_pki(self, shop: Shop, roots: str) -> None:
        """The certificate is the same, so tokens and connections stay."""
        svid = shop.issue(WEB)
        source = shop.source(svid)
        channel = Channel(WebPki(roots), identity=source, present_svid=True)
        async with channel.lease() as before:
            source.publish(shop.context(svid, bundles=BundleSet([shop.ca.x509_bundle])))
            async with channel.lease() as after:
                assert before is after
        await channel.aclose()

    async def test_a_new_bundle_counts_for_a_spiffe_peer(self, shop: Shop) -> None:
        """Trust in the token broker may have been withdrawn."""
        svid = shop.issue(WEB)
        source = shop.source(svid)
        server = SpiffeTls(shop.context(SHOP), member_of("shop.test"))
        channel = Channel(SpiffePeer(SHOP), identity=source)
        with serve_raw(ok, server.server_context()) as broker:
            assert 200 == (await get(channel, broker.url, timeout=5)).status
            source.publish(shop.context(svid, bundles=BundleSet([shop.other.x509_bundle])))
            with pytest.raises(TokenBrokerUnavailableError):
                await get(channel, broker.url, timeout=5)
        await channel.aclose()

        assert [svid.ders[0]] == [asked.peer for asked in broker.asked]

    async def test_without_an_identity_nothing_goes_out(self, shop: Shop, roots: str) -> None:
        """Fails closed, with the source's own error."""
        source = MovingSource(shop.context(WEB))
        channel = Channel(WebPki(roots), identity=source, present_svid=True)
        source.publish(StaleError("withdrawn", reason="withdrawn"))

        with pytest.raises(StaleError):
            await get(channel, "https://tokens.test/", timeout=5)
        with pytest.raises(StaleError):
            _ = channel.certificate

    async def test_staged_shows_the_next_svid(
        self, shop: Shop, roots: str, asking_tls: ssl.SSLContext
    ) -> None:
        """Before it is published: tokens are fetched for it while everybody still shows the former."""
        now, following = shop.issue(WEB), shop.issue(WEB)
        channel = Channel(WebPki(roots), identity=shop.context(now), present_svid=True)
        staged = channel.staged(shop.context(following))
        with serve_raw(ok, asking_tls) as broker:
            await get(staged, broker.url, timeout=5)
            await get(channel, broker.url, timeout=5)

        assert [following.ders[0], now.ders[0]] == [asked.peer for asked in broker.asked]
        assert (thumbprint(following), thumbprint(now)) == (staged.certificate, channel.certificate)
        await staged.aclose()
        await channel.aclose()

    async def test_closing_ends_requests(self) -> None:
        """Also those that wait for an answer: what is closed is closed."""
        channel = Channel(WebPki())
        outcome: list[Exception] = []

        async def ask(url: str) -> None:
            try:
                await get(channel, url, timeout=30)
            except TokenBrokerUnavailableError as e:
                outcome.append(e)

        with serve_raw(lambda asked: HANG) as broker:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask, broker.url)
                while not broker.asked:
                    await anyio.sleep(0.01)
                await channel.aclose()

        assert 1 == len(outcome)

    async def test_closed_between_two_steps(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A request that has its client and has not begun: a typed error, not httpx's."""
        channel = Channel(WebPki())
        async with channel.lease() as lease:
            pass

        async def close_former() -> None:
            await lease.route.aclose()

        monkeypatch.setattr(channel, "_close_former", close_former)
        with pytest.raises(TokenBrokerClosedError):
            await get(channel, "http://127.0.0.1:9/", timeout=5)

    async def test_a_closed_one_opens_again(self) -> None:
        """Closing lets go of connections; who asks again gets new ones."""
        channel = Channel(WebPki())
        with serve_raw(ok) as broker:
            for _ in range(2):
                await get(channel, broker.url, timeout=5)
                await channel.aclose()

        assert 2 == broker.connections

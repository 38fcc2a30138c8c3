"""What would get around SPIFFE TLS is refused before anything is sent."""

from __future__ import annotations

import httpx
import pytest

from spiffe_client.errors import EndpointError, InvalidIdError, TlsConfigurationError
from spiffe_client.http import AsyncClient, AsyncSpiffeTransport, Client, SpiffeTransport
from spiffe_client.tls import SpiffeTls
from tests.support.shop import SHOP

CLIENTS = pytest.mark.parametrize("client", [AsyncClient, Client])


def transport_of(client: type) -> type[httpx.AsyncHTTPTransport] | type[httpx.HTTPTransport]:
    return httpx.AsyncHTTPTransport if client is AsyncClient else httpx.HTTPTransport


@CLIENTS
class TestClientArguments:
    @pytest.mark.parametrize("name", ["verify", "cert", "transport"])
    def test_ways_around_verification(self, client: type, name: str, web) -> None:
        """Arguments that httpx would take and that would be ignored or weaken: refused by name."""
        with pytest.raises(TlsConfigurationError, match=f"{name}= is not taken"):
            client(peer=SHOP, workload=web, **{name: None})

    @pytest.mark.parametrize("pattern", ["all://", "https://", "http://", "all://*", "https://*:8443"])
    def test_mount_for_every_host(self, client: type, pattern: str, web) -> None:
        """A mount that names no host would take requests to the peer another way."""
        with pytest.raises(TlsConfigurationError, match="name the host"):
            client(peer=SHOP, workload=web, mounts={pattern: transport_of(client)()})

    def test_mount_for_a_named_host(self, client: type, web) -> None:
        """A named host is the caller's explicit word, None is our own transport."""
        client(peer=SHOP, workload=web, mounts={"https://api.test": transport_of(client)(), "http://": None})

    def test_mount_of_a_spiffe_transport(self, client: type, web) -> None:
        """What speaks SPIFFE TLS may serve every host, for example another peer's."""
        kind = AsyncSpiffeTransport if client is AsyncClient else SpiffeTransport
        transport = kind(SpiffeTls(web, "spiffe://shop.test/billing"))

        client(peer=SHOP, workload=web, mounts={"https://": transport})

    def test_two_identities(self, client: type, web) -> None:
        """An endpoint beside a workload would be ignored."""
        with pytest.raises(TlsConfigurationError, match="pass one of them"):
            client(peer=SHOP, workload=web, endpoint="unix:///run/agent.sock")

    @pytest.mark.parametrize("drain", [-1, float("nan"), float("inf")])
    def test_drain_that_is_no_time(self, client: type, drain: float, web) -> None:
        """Seconds, 0 or more: a pool that never drains would outlive its trust."""
        with pytest.raises(TlsConfigurationError, match="drain="):
            client(peer=SHOP, workload=web, drain=drain)

    def test_peer_is_required(self, client: type, web) -> None:
        """There is no default of whom to trust."""
        with pytest.raises(TypeError):
            client(workload=web)
        with pytest.raises(TypeError, match="peer="):
            client(peer=None, workload=web)
        with pytest.raises(InvalidIdError):
            client(peer="orders.internal", workload=web)

    def test_unknown_argument(self, client: type, web) -> None:
        """As with httpx: a TypeError that names it."""
        with pytest.raises(TypeError, match="timeuot"):
            client(peer=SHOP, workload=web, timeuot=3)

    def test_no_endpoint(self, client: type, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without a workload there must be a Workload API (SPIFFE Workload Endpoint §4)."""
        monkeypatch.delenv("SPIFFE_ENDPOINT_SOCKET", raising=False)
        with pytest.raises(EndpointError):
            client(peer=SHOP)

    @pytest.mark.parametrize("proxy", ["ftp://proxy.test", "socks9://proxy.test", "socks5://proxy.test"])
    def test_proxy_that_httpx_cannot_use(self, client: type, proxy: str, web) -> None:
        """What httpx refuses at construction (SOCKS only without its extra) is refused there, alike."""
        plain = httpx.AsyncClient if client is AsyncClient else httpx.Client

        def outcome(make) -> tuple[type, str] | None:
            try:
                make()
            except Exception as error:
                return type(error), str(error)
            return None

        expected = outcome(lambda: plain(proxy=proxy))
        assert expected == outcome(lambda: client(peer=SHOP, workload=web, proxy=proxy))


@pytest.mark.parametrize("transport", [AsyncSpiffeTransport, SpiffeTransport])
class TestTransportArguments:
    @pytest.mark.parametrize("name", ["verify", "cert", "trust_env"])
    def test_ways_around_verification(self, transport: type, name: str, web) -> None:
        """Our context is the only one."""
        with pytest.raises(TlsConfigurationError, match=f"{name}= is not taken"):
            transport(SpiffeTls(web, SHOP), **{name: None})

    def test_drain(self, transport: type, web) -> None:
        """The same rule as for clients."""
        with pytest.raises(TlsConfigurationError, match="drain="):
            transport(SpiffeTls(web, SHOP), drain=-0.1)

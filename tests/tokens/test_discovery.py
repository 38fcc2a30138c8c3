"""A token broker's metadata is found where brokers put it, and believed only if it names its issuer exactly."""

from __future__ import annotations

import pytest

from spiffe_client.errors import DiscoveryError, TokenBrokerUnavailableError
from spiffe_client.tokens import WebPki
from spiffe_client.tokens._channel import Channel
from spiffe_client.tokens._discovery import discover, well_known_urls
from tests.support.raw_broker import HANG, RawBroker, json_reply, raw_reply, serve_raw

pytestmark = pytest.mark.anyio

INSERT, OPENID = "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"


@pytest.fixture
async def channel():
    channel = Channel(WebPki())
    yield channel
    await channel.aclose()


def at(path: str, tenant: str = "", **changes: object):
    """A broker whose metadata is at one path, and nowhere else."""
    holder: list[RawBroker] = []

    def script(asked):
        if asked.target != path:
            return raw_reply(404, b"not here", ("content-type", "text/plain"))
        url = holder[0].url
        return json_reply({"issuer": url + tenant, "token_endpoint": f"{url}/token", **changes})

    return script, holder


class TestWellKnownUrls:
    async def test_with_a_path(self) -> None:
        """Inserted (RFC 8414 §3.1), inserted with OpenID's name, appended, appended with OAuth's."""
        assert (
            f"https://h.example{INSERT}/tenant1",
            f"https://h.example{OPENID}/tenant1",
            f"https://h.example/tenant1{OPENID}",
            f"https://h.example/tenant1{INSERT}",
        ) == well_known_urls("https://h.example/tenant1")

    async def test_without_a_path(self) -> None:
        """Inserting and appending is the same."""
        assert (f"https://h.example{INSERT}", f"https://h.example{OPENID}") == well_known_urls(
            "https://h.example"
        )

    async def test_a_slash_at_the_end_does_not_count(self) -> None:
        """RFC 8414 §3.1; in the issuer itself it does."""
        assert well_known_urls("https://h.example") == well_known_urls("https://h.example/")
        assert well_known_urls("https://h.example/a") == well_known_urls("https://h.example/a/")

    @pytest.mark.parametrize(
        "issuer",
        ["http://h.example", "h.example", "https://h.example?a=b", "https://h.example#x", "", "https://"],
    )
    async def test_no_issuer(self, issuer: str) -> None:
        """An https URL without query and fragment (RFC 8414 §2)."""
        with pytest.raises(DiscoveryError):
            well_known_urls(issuer)


class TestDiscover:
    @pytest.mark.parametrize(
        "path", [f"{INSERT}/t", f"{OPENID}/t", f"/t{OPENID}", f"/t{INSERT}"], ids=["1", "2", "3", "4"]
    )
    async def test_each_place(self, path: str, channel: Channel) -> None:
        """Asked in order until there is one: Keycloak's is third, Databricks' fourth."""
        script, holder = at(path, "/t")
        with serve_raw(script) as broker:
            holder.append(broker)
            metadata = await discover(channel, f"{broker.url}/t", timeout=5)

        assert f"{broker.url}/t" == metadata.issuer
        assert path == broker.asked[-1].target

    async def test_mix_up_attack(self, channel: Channel) -> None:
        """A document of another issuer is refused, wherever it is found (RFC 8414 §3.3)."""
        with serve_raw(
            lambda asked: json_reply(
                {"issuer": "https://honest.example", "token_endpoint": "https://x.example"}
            )
        ) as broker:
            with pytest.raises(DiscoveryError, match="honest.example"):
                await discover(channel, broker.url, timeout=5)

    async def test_a_server_that_answers_every_path(self, channel: Channel) -> None:
        """Its root's document at a tenant's first place does not hide the tenant's own."""
        holder: list[RawBroker] = []

        def script(asked):
            url = holder[0].url
            mine = asked.target == f"/t{OPENID}"
            return json_reply({"issuer": f"{url}/t" if mine else url, "token_endpoint": f"{url}/token"})

        with serve_raw(script) as broker:
            holder.append(broker)
            metadata = await discover(channel, f"{broker.url}/t", timeout=5)

        assert f"{broker.url}/t" == metadata.issuer

    async def test_nowhere(self, channel: Channel) -> None:
        """The error says where it looked and what came."""
        with serve_raw(lambda asked: raw_reply(404, b"<html>", ("content-type", "text/html"))) as broker:
            with pytest.raises(DiscoveryError) as e:
                await discover(channel, broker.url, timeout=5)

        assert f"{broker.url}{INSERT}: HTTP status 404; {broker.url}{OPENID}: HTTP status 404" in str(e.value)

    @pytest.mark.parametrize(
        "answer",
        [
            raw_reply(200, b"<html>hello", ("content-type", "text/html")),
            raw_reply(200, b'{"a": 1, "a": 2}', ("content-type", "application/json")),
            raw_reply(302, b"", ("location", "https://elsewhere.example/")),
            raw_reply(200, b"x" * 70000, ("content-type", "application/json")),
        ],
        ids=["html", "duplicate", "redirect", "too-large"],
    )
    async def test_what_is_no_document(self, answer: bytes, channel: Channel) -> None:
        """Each place that gives none is passed over; redirects are not followed."""
        with serve_raw(lambda asked: answer) as broker:
            with pytest.raises(DiscoveryError):
                await discover(channel, broker.url, timeout=5)

        assert 2 == len(broker.asked)

    @pytest.mark.parametrize("status", [429, 500, 503])
    async def test_come_again(self, status: int, channel: Channel) -> None:
        """An overloaded server is not asked at three other places."""
        with serve_raw(lambda asked: raw_reply(status, b"", ("Retry-After", "3"))) as broker:
            with pytest.raises(TokenBrokerUnavailableError) as e:
                await discover(channel, f"{broker.url}/t", timeout=5)

        assert (1, 3.0) == (len(broker.asked), e.value.retry_after)

    async def test_a_hung_server(self, channel: Channel) -> None:
        """The deadline is for all places together."""
        with serve_raw(lambda asked: HANG) as broker:
            with pytest.raises(TokenBrokerUnavailableError, match=r"within 2 s"):
                await discover(channel, f"{broker.url}/t", timeout=2)  # in which the first place is asked

        assert 1 == len(broker.asked)

    async def test_endpoints_elsewhere(self, channel: Channel) -> None:
        """Only where it was said that they may be."""
        script, holder = at(INSERT, token_endpoint="https://elsewhere.example/token")
        with serve_raw(script) as broker:
            holder.append(broker)
            with pytest.raises(DiscoveryError, match="allowed_origins"):
                await discover(channel, broker.url, timeout=5)
            metadata = await discover(
                channel, broker.url, timeout=5, allowed_origins=["https://elsewhere.example"]
            )

        assert "https://elsewhere.example/token" == metadata.token_endpoint

"""Where a transmitter of security events is, and what it signs with (OpenID Shared Signals Framework 1.0)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode, urlsplit

from spiffe_client._clock import Clock
from spiffe_client._jose import parse_jwks
from spiffe_client.bundle import JwtAuthority
from spiffe_client.errors import DiscoveryError
from spiffe_client.tokens import _http
from spiffe_client.tokens._channel import Channel
from spiffe_client.tokens._origin import Origin, origin_of
from spiffe_client.tokens._reply import Reply, error_of, read_object
from spiffe_client.tokens._security_events import CREDENTIAL_CHANGE, SESSION_REVOKED, TOKEN_CLAIMS_CHANGE
from spiffe_client.tokens._url import check_url

if TYPE_CHECKING:
    from spiffe_client.tokens._access import Access

__all__ = ["POLL", "StreamFinder", "Transmitter", "TransmitterKeys", "discover_transmitter"]

#: Delivery by polling (RFC 8936 §2).
POLL: Final = "urn:ietf:rfc:8936"
#: Seconds between two looks at a transmitter's keys, however many tokens do not verify.
_LOOKS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Transmitter:
    """What a transmitter says of itself (Shared Signals Framework §7.1).

    Attributes:
        issuer: Its issuer identifier.
        jwks_uri: Its public keys.
        configuration_endpoint: Where its streams are described; None if nowhere.
    """

    issuer: str
    jwks_uri: str
    configuration_endpoint: str | None


async def discover_transmitter(
    channel: Channel,
    issuer: str,
    *,
    timeout: float,  # noqa: ASYNC109 - handed on
    allowed_origins: Collection[str] = (),
) -> Transmitter:
    """Read a transmitter's metadata.

    Args:
        channel: How to reach it.
        issuer: Its issuer identifier; the document must name exactly this one.
        timeout: Seconds.
        allowed_origins: Origins beside the issuer's that its endpoints may have.

    Raises:
        DiscoveryError: It is another's, or cannot be trusted.
        TokenError: It cannot be read.
    """
    parts = urlsplit(check_url(issuer, "transmitter", error=DiscoveryError))
    path = parts.path.removesuffix("/")
    url = f"{parts.scheme}://{parts.netloc}/.well-known/ssf-configuration{path}"
    document = read_object(await _http.get(channel, url, timeout=timeout))
    if document.get("issuer") != issuer:
        raise DiscoveryError(
            f"the transmitter {issuer} says its issuer is {document.get('issuer')!r:.200}: another "
            "transmitter's events would be taken for this one's"
        )
    allowed = _origins(issuer, allowed_origins)
    jwks_uri = _endpoint(document, "jwks_uri", allowed)
    if jwks_uri is None:
        raise DiscoveryError(f"the transmitter {issuer} has no jwks_uri: nothing it says could be verified")
    return Transmitter(issuer, jwks_uri, _endpoint(document, "configuration_endpoint", allowed))


class StreamFinder:
    """Finds the stream that is ours, or creates it (Shared Signals Framework §8.1.1).

    Args:
        channel: How to reach the transmitter.
        access: Adds our authorization.
        clock: Where the time comes from.
        timeout: Seconds for each request.
    """

    def __init__(self, channel: Channel, access: Access, *, clock: Clock, timeout: float) -> None:
        self._channel = channel
        self._access = access
        self._clock = clock
        self._timeout = timeout

    async def poll_endpoint(
        self, transmitter: Transmitter, stream_id: str | None, *, allowed_origins: Collection[str] = ()
    ) -> str:
        """Return where a stream of ours is polled.

        Args:
            transmitter: Whose stream.
            stream_id: Which; None for the only one that is polled, which is created if there is none.
            allowed_origins: Origins beside the issuer's that the endpoint may have.

        Raises:
            DiscoveryError: There is none, or it cannot be trusted.
            TokenError: It cannot be read.
        """
        configuration = transmitter.configuration_endpoint
        if configuration is None:
            raise DiscoveryError(
                f"{transmitter.issuer} describes no streams: say where to poll with endpoint="
            )
        query = f"?{urlencode({'stream_id': stream_id})}" if stream_id else ""
        reply = await self._access.send(self._get(configuration + query), "GET", configuration + query)
        found = [] if reply.status == 404 and not stream_id else _streams(self._answered(reply))
        if not found and not stream_id:
            reply = await self._access.send(self._create(configuration), "POST", configuration)
            found = _streams(self._answered(reply, 201))
        if len(found) != 1:
            raise DiscoveryError(
                f"{transmitter.issuer} has {len(found)} streams for us that are polled, not one: name it "
                "with stream_id="
            )
        return _endpoint(found[0], "endpoint_url", _origins(transmitter.issuer, allowed_origins)) or ""

    def _get(self, url: str) -> Callable[[_http.Headers], Awaitable[Reply]]:
        return partial(_get, self._channel, url, self._timeout)

    def _create(self, url: str) -> Callable[[_http.Headers], Awaitable[Reply]]:
        events = [SESSION_REVOKED, CREDENTIAL_CHANGE, TOKEN_CLAIMS_CHANGE]
        wanted = {"delivery": {"method": POLL}, "events_requested": events}
        return partial(_create, self._channel, url, wanted, self._timeout)

    def _answered(self, reply: Reply, *more: int) -> Reply:
        if reply.status not in (200, *more):
            raise error_of(reply, now=self._clock.now())
        return reply


class TransmitterKeys:
    """A transmitter's keys, read anew when one is missing, but not for every token that is forged.

    Args:
        channel: How to reach it.
        url: Its `jwks_uri`.
        clock: Measures.
    """

    def __init__(self, channel: Channel, url: str, *, clock: Clock) -> None:
        self._channel = channel
        self._url = url
        self._clock = clock
        self._keys: tuple[JwtAuthority, ...] = ()
        self._read_at: float | None = None

    @property
    def stale(self) -> bool:
        """Whether they may be read anew."""
        return self._read_at is None or self._clock.monotonic() - self._read_at >= _LOOKS

    async def current(
        self,
        *,
        timeout: float,  # noqa: ASYNC109 - handed on
        anew: bool = False,
    ) -> tuple[JwtAuthority, ...]:
        """Return the keys.

        Args:
            timeout: Seconds.
            anew: Read them again, if that may be done already.

        Raises:
            TokenError: They cannot be read.
        """
        if self._read_at is None or (anew and self.stale):
            reply = await _http.get(self._channel, self._url, timeout=timeout)
            if reply.status != 200:
                raise error_of(reply, now=self._clock.now())
            self._keys = parse_jwks(reply.body, error=DiscoveryError)
            self._read_at = self._clock.monotonic()
        return self._keys


def _origins(issuer: str, more: Collection[str]) -> frozenset[Origin]:
    urls = (check_url(url, "allowed origin", error=DiscoveryError) for url in more)
    return frozenset(map(origin_of, (issuer, *urls)))


def _endpoint(document: Mapping[str, object], name: str, allowed: Collection[Origin]) -> str | None:
    if document.get(name) is None:
        return None
    url = check_url(document[name], f"the transmitter's {name}", error=DiscoveryError)
    if origin_of(url) not in allowed:
        raise DiscoveryError(
            f"the transmitter's {name} is at {origin_of(url)}, which is not its issuer's origin: if that is "
            "meant, name it in allowed_origins"
        )
    return url


async def _get(channel: Channel, url: str, seconds: float, headers: _http.Headers) -> Reply:
    return await _http.get(channel, url, headers=headers, timeout=seconds)


async def _create(
    channel: Channel, url: str, wanted: Mapping[str, object], seconds: float, headers: _http.Headers
) -> Reply:
    return await _http.post_json(channel, url, wanted, headers=headers, timeout=seconds)


def _streams(reply: Reply) -> list[Mapping[str, object]]:
    """Return the `delivery` of each stream that is polled."""
    # One stream, or a list of all that are ours.
    said = read_object(replace(reply, body=b'{"streams":%b}' % reply.body)).get("streams")
    streams = said if isinstance(said, list) else [said]
    deliveries = [stream.get("delivery") for stream in streams if isinstance(stream, dict)]
    return [one for one in deliveries if isinstance(one, dict) and one.get("method") == POLL]

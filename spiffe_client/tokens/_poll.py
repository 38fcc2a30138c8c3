"""One stream of security events on the wire: asked for, answered, acknowledged (RFC 8936 §2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, Self

from spiffe_client._frames import async_border
from spiffe_client.errors import DiscoveryError, TokenProtocolError
from spiffe_client.tokens import _http
from spiffe_client.tokens._access import Access
from spiffe_client.tokens._reply import Reply, error_of, read_object
from spiffe_client.tokens._ssf import StreamFinder, TransmitterKeys, discover_transmitter
from spiffe_client.tokens._url import check_url

if TYPE_CHECKING:
    from spiffe_client.bundle import JwtAuthority
    from spiffe_client.tokens._caep import CaepPoll, Receiving

__all__ = ["PollStream"]

#: Seconds for each request that is answered at once.
_TIMEOUT: Final = 10.0


class PollStream:
    """A stream, and the keys of its transmitter.

    Args:
        url: Where it is polled.
        keys: The transmitter's.
        access: Adds our authorization.
        wait: Seconds that one poll is held open at most.
        receiving: For whom.
    """

    def __init__(
        self, url: str, keys: TransmitterKeys, access: Access, wait: float, receiving: Receiving
    ) -> None:
        self._url = url
        self._keys = keys
        self._access = access
        self._wait = wait
        self._channel = receiving.channel
        self._clock = receiving.clock

    @classmethod
    async def find(cls, poll: CaepPoll, receiving: Receiving) -> Self:
        """Ask the transmitter where it is.

        Raises:
            DiscoveryError: It cannot be found, or cannot be trusted.
            TokenError: The transmitter cannot be reached, or does not want us.
            SourceError: There is no identity to get an access token with.
        """
        channel, origins = receiving.channel, poll.allowed_origins
        transmitter = await discover_transmitter(
            channel, poll.issuer, timeout=_TIMEOUT, allowed_origins=origins
        )
        access = Access(poll, receiving)
        url = poll.endpoint
        if url is None:
            find = StreamFinder(channel, access, clock=receiving.clock, timeout=_TIMEOUT)
            url = await find.poll_endpoint(transmitter, poll.stream_id, allowed_origins=origins)
        check_url(url, "the poll endpoint", error=DiscoveryError)
        keys = TransmitterKeys(channel, transmitter.jwks_uri, clock=receiving.clock)
        return cls(url, keys, access, poll.wait, receiving)

    @property
    def keys_stale(self) -> bool:
        """Whether the transmitter's keys may be read anew."""
        return self._keys.stale

    async def keys(self, *, anew: bool = False) -> tuple[JwtAuthority, ...]:
        """Return the transmitter's keys; see `TransmitterKeys.current`."""
        return await self._keys.current(timeout=_TIMEOUT, anew=anew)

    @async_border
    async def poll(
        self, acks: Sequence[str], errors: Mapping[str, Mapping[str, str]], *, most: int
    ) -> Mapping[str, object]:
        """Acknowledge events, and wait for more.

        Args:
            acks: Names (`jti`) of events that need not be delivered again.
            errors: What was wrong with others.
            most: How many are wanted at most.

        Returns:
            Events by name, not verified. Whether there are more the next poll says.

        Raises:
            TokenError: The transmitter cannot be reached, does not want us, or makes no sense.
        """
        document: dict[str, object] = {"maxEvents": most, "returnImmediately": False}
        if acks:
            document["ack"] = list(acks)
        if errors:
            document["setErrs"] = dict(errors)

        async def post(headers: _http.Headers) -> Reply:
            return await _http.post_json(
                self._channel, self._url, document, headers=headers, timeout=self._wait
            )

        reply = await self._access.send(post, "POST", self._url)
        if reply.status != 200:
            raise error_of(reply, now=self._clock.now())
        sets = read_object(reply).get("sets")
        if not isinstance(sets, dict):
            raise _malformed(reply)
        return sets


def _malformed(reply: Reply) -> TokenProtocolError:
    return TokenProtocolError(
        "the poll's answer has no object `sets` (RFC 8936 §2.3)",
        status=reply.status,
        content_type=reply.headers.get("content-type", "")[:100],
    )

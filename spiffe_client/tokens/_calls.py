"""One call of a revocation or introspection endpoint, tried again where that helps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from spiffe_client._clock import Clock
from spiffe_client._frames import async_border
from spiffe_client.errors import SpiffeError, TokenBrokerUnavailableError
from spiffe_client.tokens._reply import Reply, error_of
from spiffe_client.tokens._retries import Retries, asked_patience

if TYPE_CHECKING:
    from spiffe_client.tokens._metadata import EndpointName

__all__ = ["Endpoints", "call"]


class Endpoints(Protocol):
    """What `TokenEndpoint` is here."""

    async def call(
        self,
        endpoint: EndpointName,
        form: Sequence[tuple[str, str]],
        *,
        timeout: float,  # noqa: ASYNC109 - a total deadline, kept with anyio's
        refresh: bool = False,
    ) -> Reply:
        """Post a form with client authentication; the answer is not judged."""
        ...


@async_border
async def call(
    endpoints: Endpoints,
    name: EndpointName,
    form: Sequence[tuple[str, str]],
    *,
    timeout: float,  # noqa: ASYNC109 - a total deadline over several tries
    clock: Clock,
) -> Reply:
    """Post a form until it is answered with 200, refused, or there is no time left.

    Args:
        endpoints: The token broker's, called as one client.
        name: Which.
        form: Parameters beside those of client authentication.
        timeout: Seconds for everything.
        clock: Where the time comes from.

    Raises:
        UnsupportedByBrokerError: The token broker has no such endpoint.
        TokenError: It was refused, or not answered in time; of the last try.
        SourceError: There is no identity now.
    """
    until = clock.monotonic() + timeout
    retries, refresh = Retries(), False
    while True:
        left = until - clock.monotonic()
        try:
            if left <= 0:
                raise TokenBrokerUnavailableError(f"no time was left for the token broker's {name}")
            reply = await endpoints.call(name, form, timeout=left, refresh=refresh)
            if reply.status == 200:
                return reply
            raise error_of(reply, now=clock.now())
        except SpiffeError as error:
            again = retries.after(error, left=until - clock.monotonic())
            if again is None:
                raise
            pause = max(again.pause, asked_patience(error))
        refresh = again.refresh
        await clock.sleep(pause)

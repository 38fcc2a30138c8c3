"""All requests that are on their way to the token broker: one for each key, in tasks of ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Protocol

import anyio

from spiffe_client._agenda import Agenda
from spiffe_client._clock import Clock
from spiffe_client._frames import without_frames
from spiffe_client.errors import (
    SpiffeError,
    TokenBrokerClosedError,
    TokenBrokerUnavailableError,
    TokenError,
)
from spiffe_client.tokens._flight import Flight, Mint, again, ask
from spiffe_client.tokens._gates import Gate
from spiffe_client.tokens._home import Home
from spiffe_client.tokens._lock import Lock
from spiffe_client.tokens._refusals import Refusals
from spiffe_client.tokens._reports import Reports
from spiffe_client.tokens._request import TokenRequest
from spiffe_client.tokens._retries import Retries
from spiffe_client.tokens._tokens import AccessToken

if TYPE_CHECKING:
    from spiffe_client.tokens._endpoint import Minted

    class _Ground(Protocol):
        """Where they start from and come back to."""

        def peek(self, request: TokenRequest) -> AccessToken | None: ...
        def refuse_closed(self) -> None: ...
        def land(self, request: TokenRequest, flight: Flight, minted: Minted, started_at: float) -> None: ...
        def postpone(self, key: bytes) -> None: ...


__all__ = ["Flights"]


class Flights:
    """The requests on their way; on the home loop, but for what says otherwise.

    Args:
        mint: Asks the token broker once.
        home: Where their tasks run.
        ground: What keeps the tokens.
        agenda: Ends them at their deadlines.
        clock: Where the time comes from.
        gate: Before the token endpoint.
        reports: Told what happens.
        lock: For whoever changes what is held or on its way.
    """

    def __init__(
        self,
        mint: Mint,
        home: Home,
        ground: _Ground,
        *,
        agenda: Agenda[bytes | int],
        clock: Clock,
        gate: Gate,
        reports: Reports,
        lock: Lock,
    ) -> None:
        self._mint = mint
        self._home = home
        self._ground = ground
        self._agenda = agenda
        self._clock = clock
        self._gate = gate
        self._reports = reports
        self._lock = lock
        self._serial = count()
        self._refusals = Refusals()
        self._by_key: dict[bytes, Flight] = {}
        # By number, which is all that the agenda holds: what it is told to forget lingers in its heap.
        self._deadlines: dict[int, anyio.CancelScope] = {}

    def __contains__(self, key: bytes) -> bool:
        return key in self._by_key

    def join(self, request: TokenRequest, until: float) -> Flight:
        """Return the one for this request, and start it if there is none.

        Raises:
            TokenError: It was refused just now.
            SpiffeError: There are to be no more.
        """
        flight = self._by_key.get(request.key)
        if flight is None:
            self._refuse(request)
            flight = self.launch(request, Flight(until))
        return flight

    def launch(self, request: TokenRequest, flight: Flight) -> Flight:
        """Start one.

        Raises:
            SpiffeError: There are to be no more.
        """
        key = b"%d" % next(self._serial) if flight.alone else request.key
        with self._lock:
            # Whoever closes does so before taking all that are here: none can begin in between.
            self._ground.refuse_closed()
            self._by_key[key] = flight
        try:
            self._home.spawn(self._fly, key, request, flight)
        except TokenBrokerClosedError:
            self._landed(key, flight)
            raise
        return flight

    async def exchange(self, request: TokenRequest, until: float) -> Minted:
        """Have one of its own, which ends with its caller.

        Raises:
            SpiffeError: What came of it.
        """
        self._refuse(request)
        flight = self.launch(request, Flight(until, alone=True))
        try:
            await flight.done.wait()
        finally:
            flight.end()
        minted = flight.minted  # read once: another thread may drop it
        if minted is None:
            raise again(flight.error)
        return minted

    async def wait(self, flight: Flight, until: float) -> None:
        """Wait until it has ended.

        Raises:
            TokenBrokerUnavailableError: It had not, at `until` in monotonic seconds.
        """
        if flight.until <= until:  # it ends in time by itself
            await flight.done.wait()
            return
        with anyio.CancelScope() as scope, self._ending(scope, until):
            await flight.done.wait()
        if not flight.done.is_set():
            raise TokenBrokerUnavailableError("the token did not come in time; the request for it goes on")

    def take(self, key: bytes) -> list[Flight]:
        """Have nothing to do any more with the one for this key; any thread, under the cache's lock."""
        flight = self._by_key.pop(key, None)
        return [] if flight is None else [flight]

    def take_all(self) -> list[Flight]:
        """As `take`, with all of them."""
        flights, self._by_key = list(self._by_key.values()), {}
        return flights

    def veto(self, which: Callable[[AccessToken], bool]) -> list[Flight]:
        """Have none bring a token of which `which` is true; any thread, under the cache's lock.

        Returns:
            Those whose token is there already, which ask no more: the caller has to ask about them.
        """
        there = []
        for flight in self._by_key.values():
            if flight.arrived is None:
                flight.vetoes.append(which)
            else:
                there.append(flight)
        return there

    def end(self, deadline: int) -> None:
        """End what has this deadline, which has come."""
        self._deadlines[deadline].cancel()

    @contextmanager
    def _ending(self, scope: anyio.CancelScope, until: float) -> Iterator[None]:
        deadline = next(self._serial)
        self._deadlines[deadline] = scope
        self._agenda.put(deadline, until)
        try:
            yield
        finally:
            self._agenda.drop(deadline)
            del self._deadlines[deadline]

    def _refuse(self, request: TokenRequest) -> None:
        refusal = self._refusals.of(request.key, now=self._clock.monotonic())
        if refusal is not None:
            raise again(refusal)

    async def _fly(self, key: bytes, request: TokenRequest, flight: Flight) -> None:
        seconds = flight.until - self._clock.monotonic()
        try:
            with flight.scope, self._ending(flight.scope, flight.until):
                await self._bring(request, flight)
            if flight.token is None and flight.minted is None:
                self._missed(request, flight, self._reports.late(seconds), conclusive=False)
        except SpiffeError as error:
            self._missed(request, flight, error, conclusive=not (flight.ahead and error.retryable))
        except Exception as error:  # noqa: BLE001 - the border to ways of authentication that are not ours
            crash = TokenError(f"asking for a token failed with {type(error).__name__}, which is a bug")
            crash.__cause__ = without_frames(error)
            self._reports.crashed(str(crash))
            self._missed(request, flight, crash, conclusive=True)
        finally:
            self._landed(key, flight)

    def _landed(self, key: bytes, flight: Flight) -> None:
        with self._lock:
            if self._by_key.get(key) is flight:
                del self._by_key[key]
        flight.done.set()

    async def _bring(self, request: TokenRequest, flight: Flight) -> None:
        got, started_at = await ask(
            request,
            self._mint,
            gate=self._gate,
            clock=self._clock,
            until=flight.until,
            # What is still valid can wait: it asks once, and again at its next appointment.
            retries=Retries(1) if flight.ahead else Retries(),
            held=None if flight.ahead or flight.alone else self._ground.peek,
        )
        if isinstance(got, AccessToken):
            flight.token = got
        else:
            self._ground.land(request, flight, got, started_at)

    def _missed(self, request: TokenRequest, flight: Flight, error: SpiffeError, *, conclusive: bool) -> None:
        if not flight.wanted:
            return
        flight.failed(error, conclusive=conclusive)
        if not error.retryable:
            self._refusals.note(request.key, error, now=self._clock.monotonic())
        if flight.ahead:
            self._ground.postpone(request.key)
        self._reports.failed(request, error, ahead=flight.ahead)

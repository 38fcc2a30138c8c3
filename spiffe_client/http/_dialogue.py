"""What a server says to a request with a token, and whether it is sent once more."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from spiffe_client.errors import UnacceptableTokenError
from spiffe_client.http._challenges import Challenge, parse_challenges
from spiffe_client.http._destinations import origin_of_url
from spiffe_client.http._library import library_of
from spiffe_client.tokens import AccessToken
from spiffe_client.tokens._origin import Origin

if TYPE_CHECKING:
    import httpx

    from spiffe_client.http._hops import Hops
    from spiffe_client.tokens import TokenBroker, TokenRequest
    from spiffe_client.tokens._dpop import DpopKey

__all__ = ["Dialogue", "Doubts"]

_LOCK: Final = threading.Lock()
# By object: a token broker's client is nobody else's equal.
_DOUBTS: WeakKeyDictionary[TokenBroker, OrderedDict[tuple[bytes, Origin], float]] = WeakKeyDictionary()

_UNAUTHORIZED: Final = 401
#: Seconds for which a server that refuses even new tokens makes us ask for no more of them.
_DOUBT: Final = 1.0
#: Most servers that are doubted at once, of each token broker.
_MOST_DOUBTS: Final = 1024
#: Schemes that a token is presented with (RFC 6750 §2.1, RFC 9449 §7.1).
_SCHEMES: Final = frozenset({"bearer", "dpop"})


class Doubts:
    """Whether it is the server, not the token, that something is wrong with.

    Known by token broker, request and origin: an `auth` may be made for a single request.

    Args:
        broker: Where tokens come from; what is known goes with it.
        request: What the token is for.
    """

    __slots__ = ("_clock", "_key", "_known")

    def __init__(self, broker: TokenBroker, request: TokenRequest) -> None:
        self._clock = broker.clock
        self._key = request.key
        with _LOCK:
            self._known = _DOUBTS.setdefault(broker, OrderedDict())

    def at(self, origin: Origin) -> bool:
        """Return whether the server's word is not acted on now."""
        until = self._known.get((self._key, origin))
        return until is not None and self._clock.monotonic() < until

    def note(self, origin: Origin) -> None:
        """Act on no refusal of this server for a while: a new token was of no use."""
        with _LOCK:
            self._known[self._key, origin] = self._clock.monotonic() + _DOUBT
            if len(self._known) > _MOST_DOUBTS:
                self._known.popitem(last=False)


class Dialogue:
    """One request of a user's, with all that it takes: at most three more tries, each for its own reason.

    Args:
        broker: Where tokens come from.
        allowed: To whom they may go.
        doubts: What is known of the servers.

    Attributes:
        token: What was sent last.
        refused: What was called invalid.
        hops: What watched the last try, where something did.
    """

    __slots__ = (
        "_allowed",
        "_broker",
        "_doubts",
        "_forwarded",
        "_nonce",
        "_renonced",
        "hops",
        "refused",
        "token",
    )

    token: AccessToken

    def __init__(self, broker: TokenBroker, allowed: frozenset[Origin], doubts: Doubts) -> None:
        self._broker = broker
        self._allowed = allowed
        self._doubts = doubts
        self._nonce: str | None = None
        self._renonced = self._forwarded = False
        self.refused: AccessToken | None = None
        self.hops: Hops | None = None

    def prove(self, method: str, url: str, origin: Origin) -> str:
        """Make a proof for one request with the token (RFC 9449 §7).

        Raises:
            UnacceptableTokenError: The token is bound to another key than ours.
        """
        key: DpopKey | None = self._broker.dpop
        if key is None or key.jkt != self.token.binding.thumbprint:
            raise UnacceptableTokenError(
                f"the token {self.token.fingerprint} is bound to a key that is not held here",
                why="wrong_binding",
            )
        self._nonce = self._broker.nonces.of(origin)
        token, now = self.token.token, self._broker.clock.now()
        return key.proof(method, url, at=now, token=token.reveal(), nonce=self._nonce)

    def next(self, request: httpx.Request, response: httpx.Response) -> httpx.Request | None:
        """Return what to send now, or None if the answer stands.

        Args:
            request: What was sent.
            response: The answer, perhaps to what httpx made of the request when it was redirected;
                one to a bearer token is a refusal.
        """
        bound = self.token.token_type == "DPoP"
        last = response.request
        origin = origin_of_url(last.url)
        if origin not in self._allowed:
            return None  # whoever it is, our tokens are none of its business
        if response.status_code != _UNAUTHORIZED:
            self._broker.nonces.seen(origin, response.headers)
            return None
        challenges = parse_challenges(response.headers.get_list("www-authenticate"))
        reason = (
            (bound and self._wants_nonce(origin, response, challenges))
            or self._is_invalid(origin, challenges)
            or (last is not request and self._went_bare(last, bound=bound))
        )
        # Any other stream is gone, or at its end, once it was sent.
        return last if reason and isinstance(last.stream, library_of(last).ByteStream) else None

    def _wants_nonce(self, origin: Origin, response: httpx.Response, challenges: list[Challenge]) -> bool:
        errors = [c.parameters.get("error") for c in challenges if c.scheme == "dpop"]
        error = errors[0] if errors else None
        nonces = self._broker.nonces
        new = nonces.retry(origin, error=error, headers=response.headers, sent=self._nonce)
        first, self._renonced = not self._renonced, self._renonced or new is not None
        return first and new is not None

    def _is_invalid(self, origin: Origin, challenges: list[Challenge]) -> bool:
        """Whether the server calls the token invalid, and may be believed (RFC 6750 §3.1)."""
        told = {c.parameters.get("error") for c in challenges if c.scheme in _SCHEMES}
        if "invalid_token" not in told:
            return False
        if self.refused is not None:
            self._doubts.note(
                origin
            )  # one that was just issued: forgetting it would cost one for each request
        if self.refused is not None or self._doubts.at(origin):
            return False
        self._broker.purge(self.token)
        self.refused = self.token
        return True

    def _went_bare(self, last: httpx.Request, *, bound: bool) -> bool:
        """Whether httpx sent it on, to where it may go, without what it needs there."""
        unproven = bound and (self.hops is None or not self.hops.watched)
        first, self._forwarded = not self._forwarded, True
        return first and (unproven or "authorization" not in last.headers)

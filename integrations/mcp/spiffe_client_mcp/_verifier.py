"""Access tokens of a token broker, verified by the server of the tools (RFC 9068, RFC 7662)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, Self

from mcp.server.auth.provider import AccessToken

from spiffe_client._clock import SYSTEM_CLOCK, Clock
from spiffe_client._jose import verify_compact
from spiffe_client._redact import Secret
from spiffe_client.audit import EventSink
from spiffe_client.bundle import SIGNATURE_ALGORITHMS
from spiffe_client.errors import SpiffeError, TokenError
from spiffe_client.tokens import SecurityToken, TokenRequest
from spiffe_client.tokens._channel import Channel, ServerTrust, WebPki
from spiffe_client_mcp._keys import BrokerKeys
from spiffe_client_mcp._possession import proven_key
from spiffe_client_mcp._refusals import RefusedTokens

if TYPE_CHECKING:
    from spiffe_client.tokens import TokenBroker
    from spiffe_client.workload_api import X509ContextSource

__all__ = ["BrokerTokenVerifier"]

_TYPES: Final = frozenset({"at+jwt"})
#: How far the clocks of others may be off.
_LEEWAY: Final = timedelta(seconds=5)
_TIMEOUT: Final = 10.0


class BrokerTokenVerifier:
    """A `TokenVerifier` for an MCP server: takes the tokens that a token broker issued for it, and no others.

    A token must be a JWT access token (`at+jwt`, RFC 9068), signed by a key of the token broker with an
    algorithm of the list, of this issuer, for this audience, and valid now. One that is bound to a key
    (DPoP, RFC 9449) is taken only with a proof: put `ProofOfPossession` around the server's app. One that is
    bound to a TLS certificate, or in a way unknown here, is refused: what it is bound to cannot be seen.
    Whatever goes wrong is a refusal, and told as an event. It is for one event loop.

    Args:
        issuer: The token broker's issuer identifier.
        audience: Who this server is to it, such as `https://tools.prod.example`; the token must be for one of these.
        trust: How the token broker's certificate is verified; None for the web's.
        identity: Whose SVID is shown to a token broker that is a SPIFFE workload.
        introspection: Asks the token broker about each token beside that, so that one that was revoked is
            refused at once: this server's own client of it.
        algorithms: Of signatures that count.
        keys_for: Seconds after which the token broker's keys are read anew.
        clock: What says now.
        on_event: Takes events; logged if None.

    Raises:
        ValueError: There is no audience, or an algorithm that is none of public keys.
    """

    def __init__(
        self,
        issuer: str,
        audience: str | Collection[str],
        *,
        trust: ServerTrust | None = None,
        identity: X509ContextSource | None = None,
        introspection: TokenBroker | None = None,
        algorithms: Collection[str] = SIGNATURE_ALGORITHMS,
        keys_for: float = 300.0,
        clock: Clock = SYSTEM_CLOCK,
        on_event: EventSink | None = None,
    ) -> None:
        self._issuer = issuer
        self._audience = frozenset([audience] if isinstance(audience, str) else audience)
        self._algorithms = frozenset(algorithms)
        if not self._audience or "" in self._audience:
            raise ValueError("a token that is for nobody in particular is for everybody: say the audience")
        if unknown := sorted(self._algorithms - SIGNATURE_ALGORITHMS) or (
            not self._algorithms and ["none at all"]
        ):
            known = ", ".join(sorted(SIGNATURE_ALGORITHMS))
            raise ValueError(f"algorithms can be {known}, not {', '.join(unknown)}")
        self._channel = Channel(trust or WebPki(), identity=identity, clock=clock)
        self._keys = BrokerKeys(self._channel, issuer, max_age=keys_for, timeout=_TIMEOUT, clock=clock)
        self._introspection = introspection
        self._clock = clock
        self._refused = RefusedTokens(on_event, clock)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections to the token broker."""
        await self._channel.aclose()

    async def verify_token(self, token: str) -> AccessToken | None:
        """See mcp's `TokenVerifier`."""
        try:
            claims = await self._verified(token)
            access = self._access(token, claims)
            if self._introspection is not None:
                await self._ask(self._introspection, token)
        except SpiffeError as error:
            why = f"an access token was refused: {error}"
            self._refused.tell(why, "invalid_token", error=error.code, issuer=self._issuer)
            return None
        return access

    async def _verified(self, token: str) -> Mapping[str, object]:
        """Return the claims of a token with a good signature; the keys are read anew where none fits."""
        keys = await self._keys.current()
        try:
            return self._signed(token, keys)
        except TokenError:
            anew = await self._keys.anew()
            if anew is keys:
                raise
        return self._signed(token, anew)

    def _signed(self, token: str, keys: tuple[object, ...]) -> Mapping[str, object]:
        jws = verify_compact(token, keys, algorithms=self._algorithms, typ=_TYPES, error=TokenError)  # type: ignore[arg-type]
        return jws.claims

    def _access(self, token: str, claims: Mapping[str, object]) -> AccessToken:
        if claims.get("iss") != self._issuer:
            raise TokenError("the token is of another issuer")
        named = claims.get("aud")
        audience = {one for one in (named if isinstance(named, list) else [named]) if isinstance(one, str)}
        meant = sorted(self._audience & audience)
        if not meant:
            raise TokenError("the token is for somebody else")
        expires_at = self._check_times(claims)
        self._check_binding(token, claims)
        scope = claims.get("scope", "")
        if not isinstance(scope, str):
            raise TokenError("the token's `scope` is not text")
        return AccessToken(
            token=token,
            client_id=_text(claims, "client_id"),
            scopes=sorted(set(scope.split())),
            expires_at=int(expires_at.timestamp()),
            resource=meant[0],
            subject=_text(claims, "sub"),
            claims=dict(claims),
        )

    def _check_times(self, claims: Mapping[str, object]) -> datetime:
        now, times = self._clock.now(), {}
        for name in ("exp", "nbf", "iat"):
            value = claims.get(name)
            if value is None and name != "exp":
                continue
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TokenError(f"the token's `{name}` is not a number of seconds")
            try:
                times[name] = datetime.fromtimestamp(value, now.tzinfo)
            except (ValueError, OverflowError, OSError):
                raise TokenError(f"the token's `{name}` is no time") from None
        expires_at = times.pop("exp")
        if expires_at <= now:
            raise TokenError("the token has expired")
        if any(begins - now > _LEEWAY for begins in times.values()):
            raise TokenError("the token is not valid yet")
        return expires_at

    def _check_binding(self, token: str, claims: Mapping[str, object]) -> None:
        bound, proven = claims.get("cnf"), proven_key(token)
        if bound is None:
            if proven is not None:
                raise TokenError("the token is presented as DPoP, and it is bound to no key")
            return
        if not isinstance(bound, dict) or set(bound) != {"jkt"}:
            raise TokenError(
                "the token is bound to something that cannot be seen here, such as a certificate"
            )
        if proven is None or bound["jkt"] != proven:
            raise TokenError("the token is bound to a key, and there is no proof by that key")

    async def _ask(self, broker: TokenBroker, token: str) -> None:
        shown = SecurityToken(
            token=Secret(token),
            issuer=self._issuer,
            request=TokenRequest.of(audience=self._issuer),
            scope=frozenset(),
            issued_token_type="",
            expires_at=self._clock.now(),
        )
        if not (await broker.introspect(shown, timeout=_TIMEOUT)).active:
            raise TokenError("the token was revoked, or the token broker does not know it")


def _text(claims: Mapping[str, object], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not value:
        raise TokenError(f"the token has no `{name}`, which access tokens have (RFC 9068 §2.2)")
    return value

"""Tokens that are bound to a key: the proof that comes with each request, checked (RFC 9449 §4.3, §7)."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextvars import ContextVar
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

from spiffe_client._clock import SYSTEM_CLOCK, Clock
from spiffe_client._jose import parse_compact, verify_compact
from spiffe_client.audit import EventSink
from spiffe_client.bundle import SIGNATURE_ALGORITHMS, JwtAuthority
from spiffe_client.errors import BundleError, TokenError
from spiffe_client_mcp._once import Once, ReplayCache
from spiffe_client_mcp._refusals import RefusedTokens

__all__ = ["ProofOfPossession", "proven_key"]

_Scope: TypeAlias = MutableMapping[str, Any]
_Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_App: TypeAlias = Callable[[_Scope, _Receive, _Send], Awaitable[None]]

#: Seconds that `iat` of a proof may be off (§11.1).
_WINDOW: Final = 60.0
_PORTS: Final = {"http": 80, "https": 443}
_MOST_PROOFS: Final = 100_000
_CODE: Final = "invalid_dpop_proof"
#: The thumbprint of the key that was proven for a token, and the token.
_PROVEN: ContextVar[tuple[str, str] | None] = ContextVar("spiffe_client_mcp.proven", default=None)


def proven_key(token: str) -> str | None:
    """Return the thumbprint of the key that the present request was proven by; None if by none, for this token."""
    proven = _PROVEN.get()
    return proven[0] if proven is not None and proven[1] == token else None


class ProofOfPossession:
    """An ASGI app around that of an MCP server: takes tokens with the scheme `DPoP`, and checks their proofs.

    mcp reads bearer tokens only. Here a proof is checked, and the token passed on to the verifier, which
    holds it against the key that was proven. Without this around it a server refuses bound tokens.
    Each proof is good once. Nonces (§9) are not given out.

    Args:
        app: The server's, such as `mcp.streamable_http_app()`.
        url: The origin that clients see, such as `https://tools.prod.example`; it is not taken from what they say.
        replay_cache: Remembers the proofs; None remembers them in this process: where there are several, one can
            be used once in each, within two minutes.
        clock: What says now.
        on_event: Is told of proofs that are refused; logged if None.
    """

    def __init__(
        self,
        app: _App,
        url: str,
        *,
        replay_cache: ReplayCache | None = None,
        clock: Clock = SYSTEM_CLOCK,
        on_event: EventSink | None = None,
    ) -> None:
        self._app = app
        self._origin = _target(url)[:3]
        self._clock = clock
        self._once = Once(_MOST_PROOFS, clock) if replay_cache is None else replay_cache
        self._refused = RefusedTokens(on_event, clock)

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """See ASGI 3."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        shown = [value for name, value in scope["headers"] if name == b"authorization"]
        proofs = [value for name, value in scope["headers"] if name == b"dpop"]
        proven = None
        if any(value[:5].lower() == b"dpop " for value in shown):
            try:
                proven = await self._check(scope, shown, proofs)
            except TokenError as error:
                # Why a memory fails is for the audit, and not for who shows tokens.
                cause = {} if error.__cause__ is None else {"error": type(error.__cause__).__name__}
                self._refused.tell(f"a token was refused: {error}", _CODE, **cause)
                await _challenge(send, str(error))
                return
            headers = [pair for pair in scope["headers"] if pair[0] not in (b"authorization", b"dpop")]
            scope = {**scope, "headers": [*headers, (b"authorization", f"Bearer {proven[1]}".encode())]}
        mark = _PROVEN.set(proven)
        try:
            await self._app(scope, receive, send)
        finally:
            _PROVEN.reset(mark)

    async def _check(self, scope: _Scope, shown: list[bytes], proofs: list[bytes]) -> tuple[str, str]:
        if len(shown) != 1 or len(proofs) != 1:
            raise TokenError("there must be one token and one proof")
        token, proof = shown[0][5:].strip().decode("latin-1"), proofs[0].decode("latin-1")
        jkt, claims = _signed(proof)
        if claims.get("htm") != scope["method"]:
            raise TokenError("`htm` is not the method of this request")
        target = _target(str(claims.get("htu")))
        if target[:3] != self._origin or target[3] != (
            scope.get("raw_path") or scope["path"].encode()
        ).decode("latin-1"):
            raise TokenError("`htu` is not the URL of this request")
        if claims.get("ath") != _hash(token.encode("latin-1")):
            raise TokenError("`ath` is not the hash of the token that came along")
        await self._take(jkt, claims)
        return jkt, token

    async def _take(self, jkt: str, claims: Mapping[str, object]) -> None:
        issued_at, name, now = claims.get("iat"), claims.get("jti"), self._clock.now().timestamp()
        if (
            isinstance(issued_at, bool)
            or not isinstance(issued_at, int | float)
            or not now - _WINDOW <= issued_at <= now + _WINDOW
        ):
            raise TokenError("`iat` is missing, or too far from now")
        if not isinstance(name, str) or not name:
            raise TokenError("`jti` is missing")
        key = f"{jkt} {_hash(name.encode('utf-8', 'replace'))}"
        try:
            first = await self._once.add(key, issued_at + 2 * _WINDOW)
        except Exception as error:  # whatever it is: what is not remembered could come again
            raise TokenError("proofs cannot be remembered now; try again later") from error
        if not first:
            raise TokenError("the proof was used before, or too many are remembered now")


def _signed(proof: str) -> tuple[str, Mapping[str, object]]:
    jwk = parse_compact(proof, error=TokenError).header.get("jwk")
    if not isinstance(jwk, dict) or not {"d", "k"}.isdisjoint(jwk):
        raise TokenError("the proof has no public key")
    try:
        key = JwtAuthority(None, JwtAuthority.parse(jwk).public_key)
    except BundleError:
        raise TokenError("the proof's key cannot be used") from None
    jws = verify_compact(
        proof, [key], algorithms=SIGNATURE_ALGORITHMS, typ=frozenset({"dpop+jwt"}), error=TokenError
    )
    canonical = json.dumps(key.to_jwk(), sort_keys=True, separators=(",", ":"))  # RFC 7638
    return _hash(canonical.encode()), jws.claims


def _target(url: str) -> tuple[str, str, int | None, str]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise TokenError("it is no URL") from None
    scheme = parts.scheme.lower()
    return scheme, (parts.hostname or "").lower(), port or _PORTS.get(scheme), parts.path or "/"


def _hash(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


async def _challenge(send: _Send, why: str) -> None:
    algorithms = " ".join(sorted(SIGNATURE_ALGORITHMS))
    said = f'DPoP error="{_CODE}", error_description="{why}", algs="{algorithms}"'
    body = json.dumps({"error": _CODE, "error_description": why}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"www-authenticate", said.encode()),
    ]
    await send({"type": "http.response.start", "status": 401, "headers": headers})
    await send({"type": "http.response.body", "body": body})

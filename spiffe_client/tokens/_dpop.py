"""Proof of possession of a key, made anew for each request (RFC 9449)."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from datetime import datetime
from typing import TYPE_CHECKING, Final, NoReturn

from spiffe_client._frames import border
from spiffe_client._jose import Signer
from spiffe_client.bundle import JwtAuthority
from spiffe_client.errors import TokenBrokerClosedError
from spiffe_client.tokens._unprinted import Unprinted

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

__all__ = ["DpopKey"]

#: 128 random bits; RFC 9449 §4.2 asks for 96 at least.
_JTI_BYTES: Final = 16


def _base64url(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


class DpopKey:
    """A key that tokens are bound to: P-256, in this process's memory only, gone with the object.

    Attributes:
        alg: What it signs with: `ES256`.
        jkt: Its thumbprint (RFC 7638), which a bound token names as `cnf.jkt` (RFC 9449 §6.1).
    """

    __slots__ = ("_signer", "alg", "jkt")

    def __init__(self, key: EllipticCurvePrivateKey | None = None) -> None:
        from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

        key = generate_private_key(SECP256R1()) if key is None else key
        jwk = JwtAuthority(None, key.public_key()).to_jwk()
        signer = Signer(key, {"typ": "dpop+jwt", "jwk": jwk})
        self.alg: str = signer.alg
        self._signer: Signer | None = signer
        canonical = json.dumps(jwk, sort_keys=True, separators=(",", ":"))
        self.jkt: str = _base64url(hashlib.sha256(canonical.encode()).digest())

    def __repr__(self) -> str:
        return f"DpopKey(jkt={self.jkt!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a DpopKey cannot be pickled or copied")

    def drop(self) -> None:
        """Forget the private key: no proof is made any more; any thread, also in a signal handler."""
        self._signer = None

    @border
    def proof(
        self, method: str, url: str, *, at: datetime, token: str | None = None, nonce: str | None = None
    ) -> str:
        """Make a proof for one try of one request; it is never used again.

        Args:
            method: Of the request, as it is sent.
            url: Of the request; query and fragment are left out (RFC 9449 §4.2), and user information.
            at: Now.
            token: The access token that goes with it, if one does.
            nonce: What the server asked for last, if it did.

        Returns:
            The value of the `DPoP` header; its `repr` shows nothing.

        Raises:
            TokenBrokerClosedError: The key was dropped.
        """
        signer = self._signer
        if signer is None:
            raise TokenBrokerClosedError("the DPoP key was dropped when the token broker client was stopped")
        claims: dict[str, object] = {
            "jti": secrets.token_urlsafe(_JTI_BYTES),
            "htm": method,
            "htu": _target(url),
            "iat": int(at.timestamp()),
        }
        if token is not None:
            claims["ath"] = _base64url(hashlib.sha256(token.encode()).digest())
        if nonce is not None:
            claims["nonce"] = nonce
        return Unprinted(signer.sign(claims))


def _target(url: str) -> str:
    target = url.partition("#")[0].partition("?")[0]
    scheme, separator, rest = target.partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}{separator}{authority.rpartition('@')[2]}/{path if slash else ''}"

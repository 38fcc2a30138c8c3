"""Proofs of possession, checked (RFC 9449 §4.3), and the nonces they need (§8, §9)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

from spiffe_client._clock import Clock
from spiffe_client.dev.token_broker._jwt import (
    Jwt,
    Key,
    NotAcceptableError,
    key_thumbprint,
    parse_key,
    verify,
)
from spiffe_client.dev.token_broker._messages import thumbprint
from spiffe_client.dev.token_broker._replays import Replays

__all__ = ["DpopNonces", "NonceMode", "ProofCheck", "ProofRefusedError"]

#: Whether nonces are not given, given and checked if they come back, or demanded.
NonceMode: TypeAlias = Literal["off", "optional", "always"]

#: How far `iat` of a proof without nonce may be off, in seconds (§11.1).
_WINDOW = 60.0
#: A nonce is given out for this long, and good for one step more, in seconds.
_STEP = 60.0
#: How long the `jti` of a proof is remembered: longer than any proof is good.
_MEMORY = 300.0
_DEFAULT_PORTS = {"http": 80, "https": 443}


class ProofRefusedError(Exception):
    """A proof is not accepted.

    Args:
        error: `invalid_dpop_proof` or `use_dpop_nonce`.
        description: Why.
    """

    def __init__(self, error: str, description: str) -> None:
        super().__init__(description)
        self.error = error
        self.description = description


class DpopNonces:
    """Nonces that are made from the time and a key, so that none has to be remembered.

    Args:
        mode: When they are given and demanded.
        clock: What says now.
    """

    def __init__(self, mode: NonceMode, clock: Clock) -> None:
        self.mode: NonceMode = mode
        self._clock = clock
        self._key = secrets.token_bytes(32)

    @property
    def current(self) -> str:
        """The nonce to use now."""
        return self._at(self._step())

    def is_good(self, nonce: str) -> bool:
        """Whether a nonce was given out lately."""
        step = self._step()
        return any(hmac.compare_digest(nonce.encode(), self._at(s).encode()) for s in (step, step - 1))

    def forget(self) -> None:
        """Let no nonce be good that was given out before."""
        self._key = secrets.token_bytes(32)

    def _step(self) -> int:
        return int(self._clock.now().timestamp() // _STEP)

    def _at(self, step: int) -> str:
        digest = hmac.digest(self._key, step.to_bytes(8, "big"), hashlib.sha256)
        return base64.urlsafe_b64encode(digest[:18]).decode()


class ProofCheck:
    """Checks proofs, for one server.

    Args:
        nonces: Its nonces.
        clock: What says now.
    """

    def __init__(self, nonces: DpopNonces, clock: Clock) -> None:
        self.nonces = nonces
        self._clock = clock
        self._replays = Replays()

    def check(self, proof: str, *, method: str, url: str, token: str | None) -> str:
        """Check a proof.

        Args:
            proof: The value of the header `DPoP`.
            method: The HTTP method of the request.
            url: Where it was sent to.
            token: The token that goes along and has to be in the proof's `ath`, if one does.

        Returns:
            The thumbprint of its key.

        Raises:
            ProofRefusedError: It breaks a rule of §4.3, or needs a nonce.
        """
        try:
            jwt = Jwt.parse(proof)
            jkt = self._signed(jwt)
            self._meant_for(jwt, method, url, token)
            self._fresh(jwt, jkt)
        except NotAcceptableError as error:
            raise ProofRefusedError("invalid_dpop_proof", f"the DPoP proof: {error}") from error
        return jkt

    def _signed(self, jwt: Jwt) -> str:
        jwk = jwt.header.get("jwk")
        if not jwt.type_is("dpop+jwt"):
            raise NotAcceptableError("its type is not dpop+jwt")
        if not isinstance(jwk, Mapping):
            raise NotAcceptableError("`jwk` is missing in its header")
        key = parse_key(jwk)
        verify(jwt, [Key(key.key, alg=key.alg)])  # whatever it calls itself
        return key_thumbprint(jwk)

    def _meant_for(self, jwt: Jwt, method: str, url: str, token: str | None) -> None:
        if jwt.text("htm") != method:
            raise NotAcceptableError("`htm` is not the method of this request")
        if _normal(jwt.text("htu")) != _normal(url):
            raise NotAcceptableError("`htu` is not the URL of this request")
        if token is not None and jwt.claims.get("ath") != thumbprint(token.encode()):
            raise NotAcceptableError("`ath` is not the hash of the token that came along")

    def _fresh(self, jwt: Jwt, jkt: str) -> None:
        now = self._clock.now().timestamp()
        issued_at, jti = jwt.time("iat"), jwt.text("jti")
        if issued_at is None:
            raise NotAcceptableError("`iat` is missing")
        nonce = jwt.claims.get("nonce")
        if self.nonces.mode == "always" and nonce is None:
            raise ProofRefusedError("use_dpop_nonce", "a nonce is required in the DPoP proof")
        if self.nonces.mode != "off" and nonce is not None:
            # A good nonce shows that the proof is fresh, whatever the client's clock says (§11.1).
            if not isinstance(nonce, str) or not self.nonces.is_good(nonce):
                raise ProofRefusedError("use_dpop_nonce", "the nonce in the DPoP proof is not a current one")
        elif abs(issued_at - now) > _WINDOW:
            raise NotAcceptableError("`iat` is too far from now")
        if not self._replays.use(f"{jkt} {thumbprint(jti.encode())}", until=now + _MEMORY, now=now):
            raise NotAcceptableError("its `jti` was used before")


def _normal(url: str) -> tuple[str, str, int | None, str]:
    """Bring a URL into its normal form, without query and fragment (§4.3 step 9)."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise NotAcceptableError("`htu` is no URL") from error
    scheme = parts.scheme.lower()
    return scheme, (parts.hostname or "").lower(), port or _DEFAULT_PORTS.get(scheme), parts.path or "/"

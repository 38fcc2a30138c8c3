"""A workload's identity as the token room needs it, with nothing behind it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from spiffe_client.ids import SpiffeId
from spiffe_client.svid import JwtSvid
from spiffe_client.workload_api import X509Context
from tests.support.tokens import ec_key, sign_token

__all__ = ["FakeIdentity"]


class FakeIdentity:
    """Issues a JWT-SVID of its own for each audience, a new one each time.

    Attributes:
        issued: Audience and text of each.
    """

    def __init__(self, spiffe_id: str = "spiffe://shop.test/web", context: X509Context | None = None) -> None:
        self.id = SpiffeId.parse(spiffe_id)
        self.context = context
        self.issued: list[tuple[str, str]] = []

    @property
    def x509_context(self) -> X509Context:
        assert self.context is not None
        return self.context

    async def jwt_svid(self, audience: str, /) -> JwtSvid:
        now = int(datetime.now(UTC).timestamp())
        claims = {
            "sub": str(self.id),
            "aud": [audience],
            "exp": now + 300,
            "iat": now,
            "n": len(self.issued),
        }
        token = sign_token(ec_key(), "ES256", claims)
        self.issued.append((audience, token))
        return JwtSvid.parse_unverified(token)

    def before_publish(self, prepare: Callable[[X509Context], object]) -> None:
        pass

    def after_publish(self, notify: Callable[[], object]) -> None:
        pass

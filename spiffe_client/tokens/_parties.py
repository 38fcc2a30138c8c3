"""Whose token is exchanged, and who acts for whom (RFC 8693 §2.1)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TypeAlias

from spiffe_client._redact import Secret
from spiffe_client.errors import TokenRequestError
from spiffe_client.tokens._secret_source import SecretSource
from spiffe_client.tokens._tokens import AccessToken, SecurityToken
from spiffe_client.tokens._urns import ACCESS_TOKEN, JWT

__all__ = ["ForeignToken", "OwnSvid", "Subject", "key_of", "kind_of"]


def kind_of(value: object) -> str:
    """Return what to call a value in a message: its type's name."""
    return "None" if value is None else type(value).__name__


@dataclass(frozen=True, slots=True)
class OwnSvid:
    """This workload's own JWT-SVID, asked of the Workload API for each exchange.

    Attributes:
        audience: For whom the JWT-SVID is; None for the token broker's issuer.
        token_type: What the token broker calls it (RFC 8693 §3).
    """

    audience: str | None = None
    token_type: str = JWT

    @property
    def key(self) -> tuple[str, ...]:
        """What tells it from other subjects; whose it is, the token broker's client knows."""
        return ("own", self.audience or "", self.token_type)


@dataclass(frozen=True, slots=True)
class ForeignToken:
    """A token that somebody else issued.

    What was issued for it is kept for the next who asks with the same `ForeignToken`. A source is
    therefore one principal's: its text may be renewed, and must not become another principal's. One
    that reads who is at work just now, from a context variable for example, would have them share
    tokens. With many principals, read the token first, and give each one's as `ForeignToken(Secret(text))`.

    Attributes:
        token: Its text, or where one principal's is read from, anew for each exchange.
        token_type: What kind of token it is, as a URN (RFC 8693 §3).
    """

    token: Secret[str] | SecretSource
    token_type: str = ACCESS_TOKEN

    @property
    def key(self) -> tuple[str, ...]:
        """What tells it from other subjects, without its text.

        Raises:
            TokenRequestError: A source does not say which it is.
        """
        if isinstance(self.token, Secret):
            return ("foreign", _digest(self.token.reveal()), self.token_type)
        # With the class: a source of yours need not know what keys others have.
        kind = type(self.token)
        if not hasattr(kind, "key"):
            raise TokenRequestError(f"a {kind.__qualname__} is no SecretSource: it has no key")
        return ("source", kind.__module__, kind.__qualname__, *self.token.key, self.token_type)


#: Whose token is exchanged, or who acts (RFC 8693 §2.1).
Subject: TypeAlias = OwnSvid | ForeignToken | AccessToken | SecurityToken


def _digest(text: str) -> str:
    if not isinstance(text, str):
        raise TokenRequestError(f"a token to be exchanged is text, not {kind_of(text)}")
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def key_of(subject: Subject | None) -> tuple[str, ...]:
    """Return what tells it from others, without its text.

    Raises:
        TokenRequestError: It is nothing that can be exchanged.
    """
    if subject is None:
        return ()
    if isinstance(subject, OwnSvid | ForeignToken):
        return subject.key
    if not isinstance(subject, AccessToken | SecurityToken):
        raise TokenRequestError(
            f"a subject or actor is OwnSvid(), ForeignToken(Secret(text)), or a token that was issued here: "
            f"not {kind_of(subject)}"
        )
    return ("issued", _digest(subject.token.reveal()), subject.issued_token_type)

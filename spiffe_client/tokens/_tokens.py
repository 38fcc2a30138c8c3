"""What a token broker issued: access tokens, and tokens that are none."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Literal, TypeAlias

from spiffe_client._redact import Secret, fingerprint

if TYPE_CHECKING:
    from spiffe_client.tokens._request import TokenRequest
    from spiffe_client.tokens._unprinted import Unprinted

__all__ = ["AccessToken", "Binding", "BindingMethod", "SecurityToken"]

#: How a token is bound to its holder: DPoP (RFC 9449), the TLS certificate (RFC 8705), or not at all.
BindingMethod: TypeAlias = Literal["dpop", "mtls", "none"]


@dataclass(frozen=True, slots=True)
class Binding:
    """What a token is bound to.

    Attributes:
        method: How.
        thumbprint: base64url of SHA-256: of the public key (`jkt`, RFC 9449 §6.1) or of the
            certificate's DER (`x5t#S256`, RFC 8705 §3.1); empty for `none`.
    """

    method: BindingMethod = "none"
    thumbprint: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class AccessToken:
    """An access token and what was granted with it; it never shows its text.

    Attributes:
        token: Its text; opaque to us (RFC 6749 §1.4).
        token_type: How it is presented: `Bearer` (RFC 6750) or `DPoP` (RFC 9449).
        issuer: The token broker that issued it.
        request: What was asked for, with audience, resource and purpose.
        scope: What was granted; never more than was asked for.
        authorization_details: What was granted, as canonical JSON (RFC 9396 §7); empty for none.
        issued_token_type: What kind of token this is, as a URN (RFC 8693 §3).
        expires_at: When it expires by the wall clock: for people. What is due is decided on a
            clock that cannot be set.
        binding: What it is bound to.
    """

    token: Secret[str] = field(repr=False)
    token_type: Literal["Bearer", "DPoP"]
    issuer: str
    request: TokenRequest
    scope: frozenset[str]
    authorization_details: str
    issued_token_type: str
    expires_at: datetime
    binding: Binding
    # Made of it once somebody asks, and gone with it: how it is sent, and what security events know it by.
    _header: Unprinted | None = field(default=None, init=False, repr=False, compare=False)
    _identities: frozenset[int] | None = field(default=None, init=False, repr=False, compare=False)
    _fingerprint: str = field(default="", init=False, repr=False, compare=False)

    def __repr__(self) -> str:
        scope, audience = (" ".join(sorted(names)) for names in (self.scope, self.audience))
        return (
            f"AccessToken({self.fingerprint}, {self.token_type}, scope={scope!r}, audience={audience!r}, "
            f"expires {self.expires_at:%H:%M:%SZ})"
        )

    @property
    def audience(self) -> frozenset[str]:
        """For whom it is: the resources and audiences it was asked for."""
        return self.request.audience | self.request.resource

    @property
    def purpose(self) -> str:
        """What for; empty if none was given."""
        return self.request.purpose

    @property
    def missing_scope(self) -> frozenset[str]:
        """What was asked for and not granted."""
        return self.request.scope - self.scope

    @property
    def fingerprint(self) -> str:
        """12 hex digits of its SHA-256, to tell tokens apart in a log."""
        if not self._fingerprint:
            object.__setattr__(self, "_fingerprint", fingerprint(self.token.reveal()))
        return self._fingerprint


@dataclass(frozen=True, slots=True)
class SecurityToken:
    """A token that is not an access token (`token_type` is `N_A`, RFC 8693 §2.2.1).

    An assertion for another token broker, for example. It is another type than `AccessToken`, so
    that nothing can put it into an `Authorization` header.

    Attributes:
        token: Its text.
        issuer: The token broker that issued it.
        request: What was asked for.
        scope: What was granted.
        issued_token_type: What kind of token this is, as a URN (RFC 8693 §3).
        expires_at: When it expires by the wall clock.
    """

    token: Secret[str] = field(repr=False)
    issuer: str
    request: TokenRequest
    scope: frozenset[str]
    issued_token_type: str
    expires_at: datetime

    @property
    def fingerprint(self) -> str:
        """12 hex digits of its SHA-256, to tell tokens apart in a log."""
        return fingerprint(self.token.reveal())

"""Across trust domains: one token broker's grant is another one's reason to issue (identity chaining).

draft-ietf-oauth-identity-chaining §2: leg 1 exchanges a token here for a short-lived assertion that
only the token broker over there understands; leg 2 redeems it there for an access token.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol
from weakref import WeakKeyDictionary

from spiffe_client._frames import async_border
from spiffe_client._redact import Secret, fingerprint
from spiffe_client.errors import (
    SecretSourceError,
    StoppedError,
    TokenError,
    UnacceptableTokenError,
    UnsupportedByBrokerError,
)
from spiffe_client.tokens._parties import ForeignToken, OwnSvid, Subject
from spiffe_client.tokens._request import TokenRequest
from spiffe_client.tokens._tokens import AccessToken, SecurityToken
from spiffe_client.tokens._urns import JWT, JWT_BEARER

if TYPE_CHECKING:
    from spiffe_client.tokens._broker import TokenBroker
    from spiffe_client.tokens._metadata import Metadata

__all__ = ["ChainedTokens", "Chaining", "Profile", "require"]


class Profile(Protocol):
    """What kind of grant carries an identity from one token broker to another."""

    @property
    def token_type(self) -> str:
        """What it is called, as a URN."""
        ...

    @property
    def names_resource(self) -> bool:
        """Whether it is bound to the resource that the access token is for."""
        ...

    def check_support(self, first: Metadata, second: Metadata | None) -> None:
        """Raise UnsupportedByBrokerError if one of the two says that it does not know it."""
        ...

    def check(self, grant: SecurityToken, first: TokenBroker, second: TokenBroker) -> None:
        """Raise UnacceptableTokenError if the grant is not what it has to be."""
        ...


@dataclass(frozen=True, slots=True)
class Chaining:
    """The grant of draft-ietf-oauth-identity-chaining: a JWT that is opaque to us."""

    token_type: str = JWT
    names_resource: bool = False

    def check_support(self, first: Metadata, second: Metadata | None) -> None:  # noqa: ARG002 - of the protocol
        """See `Profile.check_support`."""
        known = first.identity_chaining_requested_token_types_supported
        require(first, self.token_type, known, feature="identity_chaining")

    def check(self, grant: SecurityToken, first: TokenBroker, second: TokenBroker) -> None:
        """See `Profile.check`; there is nothing to look at."""


def require(metadata: Metadata, wanted: str, offered: Collection[str], *, feature: str) -> None:
    """Return if a token broker offers something, or does not say what it offers.

    Raises:
        UnsupportedByBrokerError: It says, and it is something else.
    """
    if offered and wanted not in offered:
        raise UnsupportedByBrokerError(
            f"the token broker {metadata.issuer} does not offer {wanted}", feature=feature
        )


#: Of each client, for as long as it lives: `id()` is another one's afterwards.
_NUMBERS: Final[WeakKeyDictionary[TokenBroker, str]] = WeakKeyDictionary()


def _number_of(broker: TokenBroker) -> str:
    return _NUMBERS.setdefault(broker, secrets.token_hex(16))


@dataclass(frozen=True, slots=True)
class _Grant:
    """Reads a grant: by asking the first token broker for one each time. A `SecretSource`.

    Attributes:
        first: Who issues it.
        second: Whom it is for.
        request: What is asked of the first.
        profile: What kind it is.
    """

    first: TokenBroker
    second: TokenBroker
    request: TokenRequest
    profile: Profile

    @property
    def key(self) -> tuple[str, ...]:
        """See `SecretSource.key`; another client of the same token broker is another source."""
        kind = type(self.profile)
        checked = f"{kind.__module__}.{kind.__qualname__}"
        return (_number_of(self.first), _number_of(self.second), self.request.key.hex(), checked)

    @property
    def name(self) -> str:
        """See `SecretSource.name`."""
        what = fingerprint(" ".join(self.key))
        return f"grant of {self.first.issuer} for {self.second.issuer} ({what})"

    @property
    def stopped(self) -> StoppedError | None:
        """Why what was made from such grants must not be used any more; None while it may."""
        return self.first.switch.error

    @async_border
    async def read(self) -> Secret[str]:
        """See `SecretSource.read`."""
        try:
            self.profile.check_support(await self.first.discover(), self.second.metadata)
            grant = await self.first.exchange(self.request)
            if not isinstance(grant, SecurityToken):
                # An access token that is good here is nothing to show over there.
                raise UnacceptableTokenError(
                    f"the token broker {self.first.issuer} issued an access token in place of a grant",
                    why="token_type",
                )
            self.profile.check(grant, self.first, self.second)
        except TokenError as error:
            # Of the first one: it must not be taken for an answer of the second.
            failure = SecretSourceError(f"no {self.name}: {error}")
            failure.retryable = error.retryable
            raise failure from error
        return grant.token


class ChainedTokens:
    """Access tokens of one token broker, for an identity that another one vouches for.

    They are kept and renewed by the second one's client, which gets a new grant from the first
    one's for each; both have to be open. Stopping the first one drops what the second one holds by it.

    Args:
        first: The client of the token broker at home.
        second: The client of the token broker over there, where we are a client too.
        subject: Whose identity is carried over.
        profile: What carries it.
        grant_scope: What the grant permits; None for what the access token is to permit.
    """

    def __init__(
        self,
        first: TokenBroker,
        second: TokenBroker,
        *,
        subject: Subject = OwnSvid(),  # noqa: B008 - a frozen value
        profile: Profile = Chaining(),
        grant_scope: Collection[str] | None = None,
    ) -> None:
        self._first = first
        self._second = second
        self._subject = subject
        self._profile = profile
        self._grant_scope = grant_scope
        first.switch.also(second.orphan)

    def request(
        self,
        *scope: str,
        audience: str | Collection[str] = (),
        resource: str | Collection[str] = (),
        authorization_details: Sequence[Mapping[str, object]] = (),
        purpose: str = "",
        exact: bool = False,
    ) -> TokenRequest:
        """Return what is asked of the second token broker, for `TokenBroker.fetch` and `auth`.

        Raises:
            TokenRequestError: Something of it is malformed.
        """
        profile = self._profile
        named = profile.names_resource
        grant = TokenRequest.of(
            *(scope if self._grant_scope is None else self._grant_scope),
            audience=self._second.issuer,
            resource=resource if named else (),
            authorization_details=authorization_details if named else (),
            purpose=purpose,
            subject=self._subject,
            requested_token_type=profile.token_type,
        )
        source = _Grant(self._first, self._second, grant, profile)
        return TokenRequest.of(
            *scope,
            audience=audience,
            resource=resource,
            authorization_details=authorization_details,
            purpose=purpose,
            subject=ForeignToken(source, profile.token_type),
            grant=JWT_BEARER,
            exact=exact,
        )

    async def token(
        self,
        *scope: str,
        audience: str | Collection[str] = (),
        resource: str | Collection[str] = (),
        timeout: float | None = None,  # noqa: ASYNC109 - passed on
    ) -> AccessToken:
        """Return an access token of the second token broker that is valid now.

        Args:
            scope: What it is to permit.
            audience: For whom: names.
            resource: For whom: absolute URIs.
            timeout: Seconds to wait at most.

        Raises:
            SecretSourceError: The first token broker gave no grant; `__cause__` says why.
            StoppedError: One of the two was stopped.
            TokenError: As `TokenBroker.fetch`.
        """
        self._first.switch.refuse()
        return await self._second.fetch(
            self.request(*scope, audience=audience, resource=resource), timeout=timeout
        )

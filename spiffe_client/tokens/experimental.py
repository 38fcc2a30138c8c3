"""What drafts still change: transaction tokens, and client authentication by WIT-SVID. It changes with them."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final

from spiffe_client._frames import async_border, border
from spiffe_client._jose import parse_compact, sign_compact
from spiffe_client._redact import Secret, fingerprint
from spiffe_client.errors import TokenError, TokenRequestError, UnacceptableTokenError
from spiffe_client.tokens._authentication import ClientFacts, Credentials
from spiffe_client.tokens._parties import ForeignToken, Subject
from spiffe_client.tokens._request import TokenRequest, canonical_json
from spiffe_client.tokens._tokens import SecurityToken
from spiffe_client.tokens._unprinted import Unprinted
from spiffe_client.tokens._urns import REFRESH_TOKEN, TXN_TOKEN, UNSIGNED_JSON

if TYPE_CHECKING:
    from spiffe_client.svid.experimental import WitSvid
    from spiffe_client.tokens._broker import TokenBroker

__all__ = ["TransactionToken", "WitSvidAttestation", "fetch_transaction_token", "replace_transaction_token"]

_CHALLENGE: Final = "oauth-client-attestation-challenge"
#: Longest challenge that is repeated, in characters.
_MAX_CHALLENGE: Final = 1024


@dataclass(frozen=True, slots=True)
class TransactionToken:
    """A transaction token (draft-ietf-oauth-transaction-tokens): what a request is about, for all who serve it.

    It authenticates nobody, and it is no access token: it goes beside one, in a header of its own,
    unchanged from service to service within one trust domain. `http.experimental.TransactionTokenAuth`
    puts it on requests to them, and on no others.

    Attributes:
        token: Its text.
        issuer: The transaction token service.
        transaction: What all tokens of one transaction have in common (`txn`).
        subject: Whom it is about (`sub`).
        audience: The trust domain.
        scope: What the transaction is for.
        expires_at: When it expires by the wall clock.
    """

    token: Secret[str] = field(repr=False)
    issuer: str
    transaction: str
    subject: str
    audience: str
    scope: frozenset[str]
    expires_at: datetime

    @property
    def fingerprint(self) -> str:
        """12 hex digits of its SHA-256, to tell tokens apart in a log."""
        return fingerprint(self.token.reveal())


async def fetch_transaction_token(
    service: TokenBroker,
    *purpose: str,
    trust_domain: str,
    subject: Subject | Mapping[str, object],
    request_context: Mapping[str, object] | None = None,
    request_details: Mapping[str, object] | None = None,
    timeout: float | None = None,  # noqa: ASYNC109 - passed on
) -> TransactionToken:
    """Ask for a transaction token (§7 of the draft).

    Args:
        service: The client of the transaction token service.
        purpose: What the transaction is for, as scopes; at least one.
        trust_domain: Where it counts: the name that the service gives it (`audience`).
        subject: Whom it is about: the access token of the incoming request, for one; or claims about
            the subject, where the service takes our word for it.
        request_context: About the request as it came: where from, how authenticated.
        request_details: About what was asked: what must not change on the way.
        timeout: Seconds to wait at most.

    Raises:
        TokenRequestError: Something of it is malformed; nothing was sent.
        UnacceptableTokenError: What was issued is no transaction token, or another one.
        TokenError: As `TokenBroker.exchange`.
    """
    if isinstance(subject, Mapping):
        claims = canonical_json(dict(subject), "the subject's claims")
        subject = ForeignToken(Secret(claims), UNSIGNED_JSON)
    elif isinstance(subject, ForeignToken) and subject.token_type == REFRESH_TOKEN:
        raise TokenRequestError("a refresh token is no subject of a transaction token")
    parts = {"request_context": request_context, "request_details": request_details}
    parameters = {name: _object(part, name) for name, part in parts.items() if part is not None}
    return await _fetch(
        service, purpose, trust_domain, subject=subject, timeout=timeout, parameters=parameters
    )


async def replace_transaction_token(
    service: TokenBroker,
    token: TransactionToken,
    *purpose: str,
    timeout: float | None = None,  # noqa: ASYNC109 - passed on
) -> TransactionToken:
    """Ask for one that permits less, for the rest of the same transaction (§5 of the draft).

    Args:
        service: The client of the transaction token service.
        token: The former one.
        purpose: A part of its scope.
        timeout: Seconds to wait at most.

    Raises:
        TokenRequestError: It would permit more; nothing was sent.
        UnacceptableTokenError: The service changed what must not change: transaction, subject, audience.
        TokenError: As `TokenBroker.exchange`.
    """
    former = ForeignToken(token.token, TXN_TOKEN)
    asked = TokenRequest.of(*purpose, audience=token.audience, subject=former)
    if more := asked.scope - token.scope:
        raise TokenRequestError(f"a replacement only narrows: {', '.join(sorted(more))} was not granted")
    new = await _fetch(service, purpose, token.audience, subject=former, timeout=timeout)
    if (new.transaction, new.subject) != (token.transaction, token.subject):
        raise UnacceptableTokenError(
            "the transaction token in place of the former one is of another transaction or about somebody "
            "else",
            why="replacement",
        )
    return new


@async_border
async def _fetch(
    service: TokenBroker,
    purpose: tuple[str, ...],
    trust_domain: str,
    *,
    subject: Subject,
    timeout: float | None,  # noqa: ASYNC109 - passed on
    parameters: Mapping[str, str] | None = None,
) -> TransactionToken:
    if not purpose or not trust_domain:
        raise TokenRequestError("a transaction token needs a purpose and a trust domain")
    request = TokenRequest.of(
        *purpose,
        audience=trust_domain,
        subject=subject,
        requested_token_type=TXN_TOKEN,
        parameters=parameters,
    )
    issued = await service.exchange(request, timeout=timeout)
    if not isinstance(issued, SecurityToken):
        raise UnacceptableTokenError(
            "an access token was issued in place of a transaction token", why="token_type"
        )
    return _read(issued, trust_domain)


@border
def _read(issued: SecurityToken, trust_domain: str) -> TransactionToken:
    try:
        jws = parse_compact(issued.token.reveal(), error=TokenError)
    except TokenError as error:
        raise UnacceptableTokenError(
            f"the transaction token is malformed: {error}", why="issued_token_type"
        ) from None
    transaction, subject = jws.claims.get("txn"), jws.claims.get("sub")
    if jws.header.get("typ") != "txntoken+jwt" or not (
        isinstance(transaction, str) and isinstance(subject, str)
    ):
        raise UnacceptableTokenError(
            "what was issued is not of the type of a transaction token, or has no `txn` or `sub`",
            why="issued_token_type",
        )
    if jws.claims.get("aud") not in (trust_domain, [trust_domain]):
        raise UnacceptableTokenError(f"the transaction token is not for {trust_domain} alone", why="audience")
    return TransactionToken(
        token=issued.token,
        issuer=issued.issuer,
        transaction=transaction,
        subject=subject,
        audience=trust_domain,
        scope=issued.scope,
        expires_at=issued.expires_at,
    )


def _object(value: object, what: str) -> str:
    if not isinstance(value, Mapping):
        raise TokenRequestError(f"{what} is not a JSON object")
    return canonical_json(dict(value), what)


class WitSvidAttestation:
    """Client authentication by WIT-SVID and a proof that we have its key (draft-ietf-oauth-spiffe-client-auth §3.3).

    Args:
        read: Returns a WIT-SVID of ours that is valid now; asked for each request.
    """

    method = "spiffe_wit"
    presents_certificate = False

    def __init__(self, read: Callable[[], Awaitable[WitSvid]]) -> None:
        self._read = read
        # What the token broker wants in the next proof, by its issuer identifier.
        self._challenges: dict[str, str] = {}

    def __repr__(self) -> str:
        return "WitSvidAttestation(…)"

    @async_border
    async def credentials(self, to: ClientFacts, *, now: datetime, refresh: bool) -> Credentials:  # noqa: ARG002 - of the protocol; each proof is new
        """See `ClientAuthentication.credentials`."""
        svid = await self._read()
        if svid.expires_at <= now:
            raise TokenRequestError(
                f"the WIT-SVID of {svid.id} expired at {svid.expires_at:%Y-%m-%dT%H:%M:%SZ}"
            )
        claims: dict[str, object] = {
            "iss": str(svid.id),
            "aud": to.issuer,
            "jti": secrets.token_urlsafe(16),
            "iat": int(now.timestamp()),
        }
        if (challenge := self._challenges.get(to.issuer)) is not None:
            claims["challenge"] = challenge
        header = {"typ": "oauth-client-attestation-pop+jwt", "alg": svid.wit.key_alg}
        proof = sign_compact(header, claims, svid.private_key)
        return Credentials(
            form=(("client_id", to.client_id or str(svid.id)),),
            headers=(
                ("OAuth-Client-Attestation", Unprinted(svid.token.reveal())),
                ("OAuth-Client-Attestation-PoP", Unprinted(proof)),
            ),
        )

    def heard(self, to: ClientFacts, headers: Mapping[str, str]) -> None:
        """Take in the challenge of an answer, whatever its status.

        Args:
            to: Who answered.
            headers: Of the answer, by lower-case name.
        """
        challenge = headers.get(_CHALLENGE)
        if challenge is not None and len(challenge) <= _MAX_CHALLENGE:
            self._challenges[to.issuer] = challenge

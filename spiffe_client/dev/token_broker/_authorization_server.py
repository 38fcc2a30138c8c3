"""The authorization server apart from HTTP: what all endpoints share."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from spiffe_client._clock import Clock
from spiffe_client.dev.token_broker import _names as names
from spiffe_client.dev.token_broker._attestation import Attestations
from spiffe_client.dev.token_broker._authentication import Authenticator, Caller
from spiffe_client.dev.token_broker._dpop import DpopNonces, NonceMode, ProofCheck, ProofRefusedError
from spiffe_client.dev.token_broker._events import EventStreams
from spiffe_client.dev.token_broker._granting import Granted
from spiffe_client.dev.token_broker._messages import Call, RefusedError
from spiffe_client.dev.token_broker._rules import Rules
from spiffe_client.dev.token_broker._store import Record, TokenStore
from spiffe_client.dev.token_broker._trust import Trust

__all__ = ["AuthorizationServer", "Bound", "reply_of"]

#: Name of each kind of token in the counters.
_SHORT = {
    names.ACCESS_TOKEN: "access_token",
    names.JWT: "jwt",
    names.ID_JAG: "id_jag",
    names.TXN_TOKEN: "txn_token",
}


@dataclass(frozen=True, slots=True)
class Bound:
    """What a token will be bound to.

    Attributes:
        cnf: The claim that says it (RFC 7800 §3), None for a bearer token.
        token_type: How it is presented (RFC 6750, RFC 9449 §5).
    """

    cnf: Mapping[str, str] | None
    token_type: str


class AuthorizationServer:
    """One authorization server: keys, tokens, rules, and who is trusted.

    Everything it does is synchronous and under `lock`, so that it can be asked from the thread that
    serves and told from any other.

    Args:
        issuer: Its issuer identifier.
        rules: Who may have what.
        trust: Whose tokens are believed.
        nonces: Whether DPoP proofs need a nonce.
        token_ttl: Seconds a token lasts where its client's rule does not say.
        always: For whom every client may have tokens, beside this server.
        clock: What says now.
    """

    def __init__(
        self,
        issuer: str,
        *,
        rules: Rules,
        trust: Trust,
        nonces: NonceMode,
        token_ttl: float,
        always: Sequence[str] = (),
        clock: Clock,
    ) -> None:
        self.issuer = issuer
        self.rules = rules
        self.trust = trust
        self.clock = clock
        self.lock = threading.RLock()
        self.store = TokenStore(issuer, clock)
        self.proofs = ProofCheck(DpopNonces(nonces, clock), clock)
        self.streams = EventStreams(
            issuer, lambda claims: self.store.sign(claims, typ="secevent+jwt"), trust.now
        )
        self.issued: Counter[str] = Counter()
        #: For whom every client may have tokens: ourselves, and its trust domain for transactions.
        self.always: tuple[str, ...] = (issuer, *always)
        self._ttl = token_ttl
        made = self.proofs.nonces
        attestations = Attestations(
            issuer, trust, lambda: made.current if made.mode == "always" else None, made.is_good
        )
        self._authenticator = Authenticator(issuer, lambda: self.rules, trust, attestations)

    def authenticate(self, call: Call) -> Caller:
        """Return the client that is asking; see `Authenticator`."""
        return self._authenticator.authenticate(call)

    def bound(self, caller: Caller, call: Call, subject: tuple[str, Mapping[str, object]] | None) -> Bound:
        """Find out what a token is to be bound to, checking the proof for it.

        A subject token that is bound itself can only be exchanged by who holds its key: the proof
        must be by that key and over that token (`ath`), or the certificate the same.

        Args:
            caller: Who asks.
            call: What came.
            subject: The subject token and its claims, if there is one of ours.

        Raises:
            RefusedError: The proof is missing or wrong, or the rules demand another binding.
        """
        held = _confirmation(subject)
        proof = self._proof(call, None if subject is None or "jkt" not in held else subject[0])
        shown = None if call.certificate is None else call.certificate.thumbprint
        if held.get("jkt", proof) != proof or held.get("x5t#S256", shown) != shown:
            raise RefusedError("invalid_request", "the subject token is bound to a key that was not proven")
        wanted = caller.rule.binding
        if (wanted == "dpop" and proof is None) or (wanted == "mtls" and shown is None):
            raise RefusedError("invalid_request", f"this client's tokens are bound by {wanted}, always")
        if proof is not None and wanted != "mtls":
            return Bound({"jkt": proof}, "DPoP")
        if shown is not None and wanted != "bearer":
            return Bound({"x5t#S256": shown}, "Bearer")
        return Bound(None, "Bearer")

    def _proof(self, call: Call, token: str | None) -> str | None:
        proofs = [value for name, value in call.headers if name == "dpop"]
        if not proofs:
            return None
        if len(proofs) > 1:
            raise RefusedError("invalid_dpop_proof", "there is more than one DPoP proof")
        try:
            return self.proofs.check(proofs[0], method=call.method, url=call.url, token=token)
        except ProofRefusedError as error:
            raise RefusedError(error.error, error.description, headers=self.nonce_header) from error

    @property
    def nonce_header(self) -> dict[str, str]:
        """The nonce to go along with a reply (RFC 9449 §8.2)."""
        nonces = self.proofs.nonces
        return {} if nonces.mode == "off" else {"DPoP-Nonce": nonces.current}

    def issue_access_token(
        self,
        caller: Caller,
        granted: Granted,
        bound: Bound,
        *,
        subject: str,
        extra: Mapping[str, object] = {},
        parent: Record | None = None,
    ) -> dict[str, object]:
        """Issue an access token (RFC 9068) and return the reply (RFC 6749 §5.1).

        Args:
            caller: To whom.
            granted: What for.
            bound: What it is bound to.
            subject: Whom it is about.
            extra: Claims beside those, such as `act`.
            parent: The token it is made from, which it does not outlive.
        """
        claims: dict[str, object] = {"sub": subject, "client_id": caller.client_id, **granted.claims, **extra}
        if bound.cnf is not None:
            claims["cnf"] = dict(bound.cnf)
        if len(caller.rule.may_delegate_to) == 1 and not caller.rule.lets_act("*"):
            claims["may_act"] = {"sub": next(iter(caller.rule.may_delegate_to))}
        token, record = self.issue(names.ACCESS_TOKEN, claims, typ="at+jwt", caller=caller, parent=parent)
        return reply_of(token, record, bound.token_type, granted)

    def issue(
        self,
        kind: str,
        claims: Mapping[str, object],
        *,
        typ: str,
        caller: Caller,
        parent: Record | None = None,
        most: float = math.inf,
    ) -> tuple[str, Record]:
        """Issue any token; see `TokenStore.issue`.

        Args:
            kind: What it is, as a URN.
            claims: What it says.
            typ: Its media type.
            caller: To whom.
            parent: What it is made from.
            most: Seconds it lasts at most.
        """
        self.issued[_SHORT[kind]] += 1
        return self.store.issue(
            kind,
            claims,
            typ=typ,
            ttl=min(most, caller.rule.ttl or self._ttl),
            client_id=caller.client_id,
            parent=parent,
        )


def _confirmation(subject: tuple[str, Mapping[str, object]] | None) -> Mapping[str, object]:
    cnf = None if subject is None else subject[1].get("cnf")
    return cnf if isinstance(cnf, Mapping) else {}


def reply_of(token: str, record: Record, token_type: str, granted: Granted) -> dict[str, object]:
    """Return the members of a successful reply (RFC 6749 §5.1, RFC 9396 §7).

    Args:
        token: What was issued.
        record: What is known of it.
        token_type: How it is presented, or `N_A`.
        granted: What was granted.
    """
    lasts = max(1, math.floor(record.expires_at - record.issued_at))  # 0 means many things to clients
    reply: dict[str, object] = {"access_token": token, "token_type": token_type, "expires_in": lasts}
    if granted.scope:
        reply["scope"] = " ".join(sorted(granted.scope))
    if granted.details:
        reply["authorization_details"] = list(granted.details)
    return reply

"""What a token broker can be told from outside of HTTP, from any thread."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType

from spiffe_client.dev.token_broker._authorization_server import AuthorizationServer
from spiffe_client.dev.token_broker._events import CREDENTIAL_CHANGE, SESSION_REVOKED, Stream
from spiffe_client.dev.token_broker._faults import Fault, Faults
from spiffe_client.errors import EndpointError
from spiffe_client.ids import SpiffeId

__all__ = ["Administration"]


class Administration:
    """Revoking, rotating, telling, counting, and making trouble."""

    def __init__(self) -> None:
        self.faults: Faults = Faults()
        #: How many POSTs each endpoint got: `token`, `introspection`, `revocation`, `poll`.
        self.requests: Counter[str] = Counter()
        self._server: AuthorizationServer | None = None

    @property
    def issued(self) -> Counter[str]:
        """How many tokens were issued, of each kind: `access_token`, `jwt`, `id_jag`, `txn_token`."""
        return Counter(self._opened.issued)

    @property
    def streams(self) -> tuple[Stream, ...]:
        """The streams of security events, one for each receiver."""
        return tuple(self._opened.streams)

    def revoke_all(self, subject: SpiffeId | str) -> int:
        """Revoke all tokens about somebody or issued to somebody, and all that were made from these.

        Returns:
            How many were good until now.
        """
        with self._opened.lock:
            return self._opened.store.revoke_subject(str(subject))

    def rotate_key(self) -> None:
        """Sign with a new key from now on; what the old ones signed stays good."""
        with self._opened.lock:
            self._opened.store.rotate_key()

    def forget_nonces(self) -> None:
        """Let no DPoP nonce be good that was given out so far."""
        with self._opened.lock:
            self._opened.proofs.nonces.forget()

    def fail_next(
        self,
        status: int | None = 503,
        *,
        times: int | None = 1,
        endpoint: str = "token",
        error: str = "temporarily_unavailable",
        retry_after: float | str | None = None,
        delay: float = 0.0,
        drop: bool = False,
        late: bool = False,
        body: bytes | None = None,
        content_type: str = "text/html",
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Have the next requests meet trouble; what is left of it is taken back by `heal`.

        Args:
            status: The status they get; None answers them properly, after `delay`.
            times: How many; None for all.
            endpoint: Which: `token`, `introspection`, `revocation`, `metadata`, `jwks`, `poll`.
            error: The `error` member of the reply; empty for a reply without one.
            retry_after: The header `Retry-After`: seconds, or a date as HTTP has it.
            delay: Seconds to wait first.
            drop: Cut the connection instead of answering.
            late: Carry the request out before, so that only the answer is lost.
            body: A body instead of JSON.
            content_type: Its media type.
            headers: More headers.
        """
        wait = retry_after if isinstance(retry_after, str | None) else f"{retry_after:g}"
        fault = Fault(status, error, wait, delay, drop, late, body, content_type, tuple(headers.items()))
        self.faults.add(endpoint, fault, times)

    def heal(self) -> None:
        """Take back all trouble that was not met yet."""
        self.faults.clear()

    def emit_session_revoked(
        self,
        subject: SpiffeId | str | Mapping[str, object],
        *,
        reason: str = "",
        initiator: str = "policy",
    ) -> int:
        """Tell all receivers that a session was revoked (CAEP §3.1); nothing is revoked by that.

        Args:
            subject: Whose: a SPIFFE ID, another `sub` of ours, or a whole subject identifier (RFC 9493).
            reason: For administrators.
            initiator: `admin`, `user`, `policy` or `system`.

        Returns:
            How many receivers there are.
        """
        return self._emit(SESSION_REVOKED, {}, subject, reason, initiator)

    def emit_credential_change(
        self,
        subject: SpiffeId | str | Mapping[str, object],
        *,
        change: str = "revoke",
        credential: str = "x509",
        reason: str = "",
        initiator: str = "policy",
        details: Mapping[str, object] = MappingProxyType({}),
    ) -> int:
        """Tell all receivers that a credential changed (CAEP §3.3).

        Args:
            subject: As in `emit_session_revoked`.
            change: `create`, `revoke`, `update` or `delete`.
            credential: Its type.
            reason: For administrators.
            initiator: As in `emit_session_revoked`.
            details: More members, such as `x509_serial`.

        Returns:
            How many receivers there are.
        """
        event = {"credential_type": credential, "change_type": change, **details}
        return self._emit(CREDENTIAL_CHANGE, event, subject, reason, initiator)

    def _emit(
        self,
        kind: str,
        event: Mapping[str, object],
        subject: SpiffeId | str | Mapping[str, object],
        reason: str,
        initiator: str,
    ) -> int:
        server = self._opened
        said: dict[str, object] = {
            "event_timestamp": int(server.trust.now()),
            "initiating_entity": initiator,
            **event,
        }
        if reason:
            said["reason_admin"] = {"en": reason}
        with server.lock:
            return server.streams.emit(kind, said, subject)

    @property
    def _opened(self) -> AuthorizationServer:
        if self._server is None:
            raise EndpointError("the token broker is not open; use it as: async with …")
        return self._server

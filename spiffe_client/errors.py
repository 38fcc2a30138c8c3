"""Every error this package raises, on one page.

    SpiffeError
    ├─ InvalidIdError (also ValueError)
    ├─ InvalidAudienceError (also ValueError)
    ├─ SvidError
    │  ├─ X509SvidError
    │  ├─ JwtSvidError
    │  │  ├─ ExpiredError
    │  │  ├─ AudienceError
    │  │  └─ SignatureError
    │  └─ WitSvidError
    ├─ BundleError
    │  └─ BundleNotFoundError (also KeyError)
    ├─ FederationError
    │  └─ BundleEndpointError (also ValueError)
    ├─ WorkloadApiError
    │  ├─ EndpointError
    │  ├─ NoIdentityIssuedError
    │  ├─ AccessDeniedError
    │  ├─ InvalidRequestError
    │  ├─ UnimplementedError
    │  ├─ UnavailableError
    │  ├─ UnexpectedStatusError
    │  └─ ProtocolError
    ├─ SourceError
    │  ├─ SourceClosedError
    │  ├─ FirstUpdateTimeoutError (also TimeoutError)
    │  ├─ StaleError
    │  ├─ IdentityUnavailableError (also ssl.SSLError)
    │  └─ StoppedError
    ├─ PeerError (also ssl.SSLCertVerificationError)
    │  ├─ PeerUnverifiedError
    │  └─ PeerNotAllowedError
    ├─ TlsConfigurationError (also ssl.SSLError)
    ├─ TokenError
    │  ├─ TokenRequestError (also ValueError)
    │  ├─ OAuthError (any code a token broker answers with)
    │  │  ├─ InvalidClientError
    │  │  ├─ InvalidGrantError
    │  │  ├─ InvalidScopeError
    │  │  ├─ InvalidTargetError
    │  │  └─ InvalidAuthorizationDetailsError
    │  ├─ TokenProtocolError
    │  ├─ UnacceptableTokenError
    │  ├─ TokenBrokerUnavailableError (also TimeoutError)
    │  ├─ UnsupportedByBrokerError
    │  ├─ DiscoveryError
    │  ├─ TokenOriginError
    │  ├─ SecretSourceError
    │  ├─ SecurityEventError
    │  └─ TokenBrokerClosedError
    ├─ PolicyError
    │  ├─ ContractError (also ValueError)
    │  ├─ ResourceError (also ValueError)
    │  └─ DeniedError
    │     └─ DecisionUnavailableError
    ├─ TaskError
    │  ├─ NoTaskError (also DeniedError)
    │  ├─ TaskEndedError (also DeniedError)
    │  ├─ AttenuationError
    │  └─ TicketError
    ├─ AuditError
    └─ RegistrationError

`code` is stable and meant for programs, the message is meant for people and says what happened,
to what, and what to do next. Neither ever holds a secret.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias, TypeVar

if TYPE_CHECKING:
    from spiffe_client.ids import SpiffeId, TrustDomain
    from spiffe_client.policy import Decision

__all__ = [
    "AccessDeniedError",
    "AttenuationError",
    "AudienceError",
    "AuditError",
    "BundleEndpointError",
    "BundleError",
    "BundleNotFoundError",
    "ContractError",
    "DecisionUnavailableError",
    "DeniedError",
    "DiscoveryError",
    "EndpointError",
    "ExpiredError",
    "FederationError",
    "FirstUpdateTimeoutError",
    "IdentityUnavailableError",
    "InvalidAudienceError",
    "InvalidAuthorizationDetailsError",
    "InvalidClientError",
    "InvalidGrantError",
    "InvalidIdError",
    "InvalidRequestError",
    "InvalidScopeError",
    "InvalidTargetError",
    "JwtSvidError",
    "NoIdentityIssuedError",
    "NoTaskError",
    "OAuthError",
    "PeerError",
    "PeerNotAllowedError",
    "PeerUnverifiedError",
    "PolicyError",
    "ProtocolError",
    "RegistrationError",
    "ResourceError",
    "SecretSourceError",
    "SecurityEventError",
    "SignatureError",
    "SourceClosedError",
    "SourceError",
    "SpiffeError",
    "StaleError",
    "StoppedError",
    "SvidError",
    "TaskEndedError",
    "TaskError",
    "TicketError",
    "TlsConfigurationError",
    "TokenBrokerClosedError",
    "TokenBrokerUnavailableError",
    "TokenError",
    "TokenOriginError",
    "TokenProtocolError",
    "TokenRequestError",
    "UnacceptableTokenError",
    "UnavailableCause",
    "UnavailableError",
    "UnexpectedStatusError",
    "UnimplementedError",
    "UnsupportedByBrokerError",
    "WitSvidError",
    "WorkloadApiError",
    "X509SvidError",
    "find",
]

_E = TypeVar("_E", bound=BaseException)

#: Why the Workload API is unavailable; see `UnavailableError`.
UnavailableCause: TypeAlias = Literal[
    "missing",
    "forbidden",
    "not_a_socket",
    "refused",
    "busy",
    "unreachable",
    "timed_out",
    "broken_off",
    "answered",
]


def _rebuild(cls: type[SpiffeError], args: tuple[Any, ...], state: dict[str, Any]) -> SpiffeError:
    """Make an unpickled error without running its constructor."""
    error = cls.__new__(cls, *args)
    error.args = args  # OSError.__new__ leaves that to the constructor
    error.__dict__.update(state)
    return error


class SpiffeError(Exception):
    """The root of all errors raised by this package."""

    #: Stable name of the kind of error, for programs.
    code: ClassVar[str] = "spiffe_error"
    #: Whether the same call may succeed later without anybody changing anything here.
    retryable: bool = False

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, dict(self.__dict__))


class InvalidIdError(SpiffeError, ValueError):
    """A string is not a SPIFFE ID or not a trust domain name (SPIFFE-ID §2)."""

    code = "invalid_id"


class InvalidAudienceError(SpiffeError, ValueError):
    """An audience asked for or expected by the caller is empty or not text (JWT-SVID §3.2)."""

    code = "invalid_audience"


class SvidError(SpiffeError):
    """An SVID is malformed, breaks a rule of its standard, or does not verify."""

    code = "svid_invalid"


class X509SvidError(SvidError):
    """An X509-SVID is malformed, breaks a rule (X509-SVID §2-5), or does not verify."""

    code = "x509_svid_invalid"


class JwtSvidError(SvidError):
    """A JWT-SVID is malformed or breaks a rule (JWT-SVID §2-4)."""

    code = "jwt_svid_invalid"


class ExpiredError(JwtSvidError):
    """A JWT-SVID is past its `exp` or before its `nbf` (JWT-SVID §3.3)."""

    code = "jwt_svid_expired"


class AudienceError(JwtSvidError):
    """A JWT-SVID is meant for somebody else (JWT-SVID §3.2)."""

    code = "jwt_svid_audience"


class SignatureError(JwtSvidError):
    """No authority of the trust domain signed this JWT-SVID (JWT-SVID §4)."""

    code = "jwt_svid_signature"


class WitSvidError(SvidError):
    """A WIT-SVID is malformed or breaks a rule (WIT-SVID, incubating; experimental here)."""

    code = "wit_svid_invalid"


class BundleError(SpiffeError):
    """A trust bundle cannot be read (SPIFFE Trust Domain and Bundle §4)."""

    code = "bundle_invalid"


class BundleNotFoundError(BundleError, KeyError):
    """There is no bundle for a trust domain, so nothing from it can be trusted."""

    code = "bundle_not_found"

    def __init__(self, trust_domain: TrustDomain) -> None:
        super().__init__(
            f"no bundle for trust domain {trust_domain}: nothing from it can be trusted; "
            f"is the federation with it registered?"
        )
        self.trust_domain = trust_domain

    def __str__(self) -> str:  # KeyError would print the repr of the message
        return str(self.args[0])


class FederationError(SpiffeError):
    """Another trust domain's bundle endpoint did not give its bundle (SPIFFE Federation §5)."""

    code = "federation"
    retryable = True


class BundleEndpointError(FederationError, ValueError):
    """The parameters of a bundle endpoint are not valid (SPIFFE Federation §5.1, §5.2)."""

    code = "bundle_endpoint_invalid"
    retryable = False


class WorkloadApiError(SpiffeError):
    """The Workload API did not give what was asked for (SPIFFE Workload API §4-8)."""

    code = "workload_api"


class EndpointError(WorkloadApiError):
    """The Workload API's address is missing or malformed (SPIFFE Workload Endpoint §4)."""

    code = "endpoint_invalid"


class NoIdentityIssuedError(WorkloadApiError):
    """The Workload API knows no identity for this process (yet): no registration matches it."""

    code = "no_identity_issued"
    retryable = True


class AccessDeniedError(WorkloadApiError):
    """The Workload API answered PermissionDenied without saying that no identity is issued."""

    code = "access_denied"
    retryable = True


class InvalidRequestError(WorkloadApiError):
    """The Workload API calls the request malformed (InvalidArgument); asking again is useless."""

    code = "invalid_request"


class UnimplementedError(WorkloadApiError):
    """The Workload API does not offer this RPC; do not call it again."""

    code = "unimplemented"


class UnavailableError(WorkloadApiError):
    """The Workload API cannot be reached, broke off, or did not answer in time.

    Attributes:
        cause_kind: Which of these, for programs: the socket is `missing`, its path `forbidden`,
            or is `not_a_socket`; nobody listens (`refused`); its queue is full (`busy`); no route
            (`unreachable`); too slow (`timed_out`); the connection ended early (`broken_off`); it
            says so itself (`answered`).
    """

    code = "unavailable"
    retryable = True

    def __init__(self, message: str, *, cause_kind: UnavailableCause = "broken_off") -> None:
        super().__init__(message)
        self.cause_kind: UnavailableCause = cause_kind


class UnexpectedStatusError(WorkloadApiError):
    """The Workload API answered with a status the standard gives no meaning to.

    Attributes:
        status: Its name in gRPC, for example `INTERNAL`, or its number where it has none.
    """

    code = "unexpected_status"
    retryable = True

    def __init__(self, message: str, *, status: str) -> None:
        super().__init__(message)
        self.status = status


class ProtocolError(WorkloadApiError):
    """What came from the Workload API is not HTTP/2, gRPC, or a well-formed message."""

    code = "protocol_error"
    retryable = True


class SourceError(SpiffeError):
    """A source cannot serve what it is asked for."""

    code = "source"


class SourceClosedError(SourceError):
    """The source was closed, never opened, or belongs to the process this one was forked from."""

    code = "source_closed"


class FirstUpdateTimeoutError(SourceError, TimeoutError):
    """No first update came within the deadline; `__cause__` is the last thing that went wrong."""

    code = "first_update_timeout"
    retryable = True


class StaleError(SourceError):
    """What the source holds must not be used any more.

    Attributes:
        reason: `expired` (no fresh one came in time) or `withdrawn` (the issuer took it back).
    """

    code = "stale"
    retryable = True

    def __init__(self, message: str, *, reason: Literal["expired", "withdrawn"]) -> None:
        super().__init__(message)
        self.reason = reason


class _TlsError(ssl.SSLError):
    """What TLS stacks look at in an error; an `ssl.SSLError` of one argument has it empty."""

    def __str__(self) -> str:  # an SSLError prints a tuple
        return str(self.args[0])

    @property
    def strerror(self) -> str:  # type: ignore[override]  # trio searches it, and fails on None
        return str(self.args[0])


class IdentityUnavailableError(SourceError, _TlsError):
    """This end has no identity it may use, so no TLS connection can be made or kept.

    It is an `ssl.SSLError` so that every TLS stack treats it as a failed handshake; `__cause__`
    says why, for example a `StaleError`.
    """

    code = "identity_unavailable"
    retryable = True


class StoppedError(SourceError):
    """This workload was stopped: everything it held was dropped, and nothing is handed out any more.

    Attributes:
        reason: What `stop` was told.
    """

    code = "stopped"

    def __init__(self, reason: str) -> None:
        super().__init__(f"this workload was stopped: {reason}")
        self.reason = reason


class PeerError(SpiffeError, _TlsError, ssl.SSLCertVerificationError):  # pyright: ignore[reportIncompatibleVariableOverride]  # strerror, see there
    """The other end of a TLS connection is not who it must be.

    It is an `ssl.SSLError` so that every TLS stack treats it as a failed handshake.

    Attributes:
        peer: Whom the peer's certificate names, where it got that far.
        why: What was wrong, for programs, such as `not_allowed`; see `spiffe_client.tls.Why`.
    """

    code = "peer"

    def __init__(self, message: str, *, peer: SpiffeId | None = None, why: str = "unverified") -> None:
        super().__init__(message)
        self.peer = peer
        self.why = why
        # What ssl.SSLCertVerificationError carries, for code that looks at it.
        self.reason = "SPIFFE_VERIFY_FAILED"
        self.library = "SPIFFE"
        self.verify_code = 1
        self.verify_message = message


class PeerUnverifiedError(PeerError):
    """The peer's certificate does not verify against its own trust domain's bundle."""

    code = "peer_unverified"


class PeerNotAllowedError(PeerError):
    """The peer's identity is proven, and the authorizer does not allow it."""

    code = "peer_not_allowed"

    def __init__(self, peer: SpiffeId, *, rule: str) -> None:
        super().__init__(f"peer {peer} is not allowed by {rule}", peer=peer, why="not_allowed")
        self.rule = rule


class TlsConfigurationError(SpiffeError, _TlsError):
    """A TLS setting that would be ignored or would weaken verification was refused.

    It is an `ssl.SSLError` because some settings only show when a connection is made.
    """

    code = "tls_configuration"


class TokenError(SpiffeError):
    """A token was not obtained, is not what was asked for, or must not be used."""

    code = "token"


class TokenRequestError(TokenError, ValueError):
    """What is asked of the token broker is malformed; nothing was sent (RFC 8693 §2.1, RFC 8707 §2)."""

    code = "token_request_invalid"


class OAuthError(TokenError):
    """The token broker answered with an error of OAuth 2 (RFC 6749 §5.2, RFC 8693 §2.2.2).

    Codes are an open set: the subclasses are those that code here reacts to.

    Attributes:
        error: The broker's `error` code, as it came.
        status: The HTTP status.
        description: The broker's `error_description`, shortened and without what looks like a token.
        retry_after: Seconds the broker asks to wait, where it says so.
    """

    code = "oauth"

    def __init__(
        self,
        message: str,
        *,
        error: str,
        status: int,
        description: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.error = error
        self.status = status
        self.description = description
        self.retry_after = retry_after
        # Here it depends on what came.
        self.retryable: bool = error == "temporarily_unavailable" or status in {408, 429, 500, 502, 503, 504}


class InvalidClientError(OAuthError):
    """The token broker does not accept who we are (RFC 6749 §5.2 `invalid_client`)."""

    code = "invalid_client"


class InvalidGrantError(OAuthError):
    """The subject, actor or assertion is not acceptable (RFC 6749 §5.2 `invalid_grant`)."""

    code = "invalid_grant"


class InvalidScopeError(OAuthError):
    """The scope is unknown or more than may be had (RFC 6749 §5.2 `invalid_scope`)."""

    code = "invalid_scope"


class InvalidTargetError(OAuthError):
    """No token is issued for this resource or audience (RFC 8693 §2.2.2 `invalid_target`)."""

    code = "invalid_target"


class InvalidAuthorizationDetailsError(OAuthError):
    """The authorization details are not acceptable (RFC 9396 §5)."""

    code = "invalid_authorization_details"


class TokenProtocolError(TokenError):
    """What the token broker answered is not OAuth 2; nothing of the body is kept.

    Attributes:
        status: The HTTP status.
        content_type: The media type it claimed, shortened.
    """

    code = "token_protocol"

    def __init__(self, message: str, *, status: int, content_type: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.content_type = content_type


class UnacceptableTokenError(TokenError):
    """A token was issued that is not what was asked for, and was thrown away.

    Attributes:
        why: For programs: `wider_scope`, `wider_details`, `narrower`, `unbound`, `wrong_binding`,
            `token_type`, `issued_token_type`, `audience`, `not_an_access_token`, `expired`.
    """

    code = "token_unacceptable"

    def __init__(self, message: str, *, why: str) -> None:
        super().__init__(message)
        self.why = why


class TokenBrokerUnavailableError(TokenError, TimeoutError):
    """The token broker cannot be reached, or did not answer within the deadline.

    Attributes:
        retry_after: Seconds the broker asked to wait, where it did.
    """

    code = "token_broker_unavailable"
    retryable = True

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class UnsupportedByBrokerError(TokenError):
    """The token broker does not offer this, and nothing weaker is used in its place.

    Attributes:
        feature: What is missing, for programs: such as `dpop`, `revocation_endpoint`.
    """

    code = "unsupported_by_broker"

    def __init__(self, message: str, *, feature: str) -> None:
        super().__init__(message)
        self.feature = feature


class DiscoveryError(TokenError):
    """The token broker's metadata cannot be found or cannot be trusted (RFC 8414 §3)."""

    code = "discovery"


class TokenOriginError(TokenError):
    """A token would have gone to an origin it is not meant for; it did not."""

    code = "token_origin"


class SecretSourceError(TokenError):
    """A client secret cannot be read; the message never holds any of it."""

    code = "secret_source"


class SecurityEventError(TokenError):
    """A security event token is malformed, not for us, or does not verify (RFC 8417 §2)."""

    code = "security_event"
    #: What its transmitter is told, such as `invalid_key` (RFC 8935 §2.4).
    err: str = "invalid_request"


class TokenBrokerClosedError(TokenError):
    """The token broker client was closed, never opened, or belongs to the process this one was forked from."""

    code = "token_broker_closed"


class PolicyError(SpiffeError):
    """Something is not permitted, or what says what is permitted cannot be used."""

    code = "policy"


class ContractError(PolicyError, ValueError):
    """An agent's contract is malformed, has expired, or is not this agent's.

    Attributes:
        path: The offending key, dotted, such as `actions."invoices:read".resources[0]`; empty for the whole.
    """

    code = "contract_invalid"

    def __init__(self, message: str, *, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class ResourceError(PolicyError, ValueError):
    """What a call is to touch is not named by a well-formed resource, or a template of such is malformed."""

    code = "resource_invalid"


class DeniedError(PolicyError):
    """A call was not permitted, and nothing of it was done.

    Its text may be shown to a model: what was refused, and what would be allowed; nothing of how
    that was decided, which is in `decision`, for those who may know.

    Attributes:
        decision: Why, for programs and the audit.
    """

    code = "denied"

    def __init__(self, message: str, *, decision: Decision) -> None:
        super().__init__(message)
        self.decision = decision

    @property
    def reason(self) -> str:
        """The decision's reason code, such as `tenant_boundary`."""
        return self.decision.reason


class DecisionUnavailableError(DeniedError):
    """Nobody could decide, which is a denial."""

    code = "decision_unavailable"
    retryable = True


class TaskError(SpiffeError):
    """A task cannot be begun, handed on, or gone on with."""

    code = "task"


class NoTaskError(TaskError, DeniedError):
    """A guarded call was made outside any task, so nobody answers for it."""

    code = "no_task"


class TaskEndedError(TaskError, DeniedError):
    """The task that a call belongs to has ended, and its authority with it."""

    code = "task_ended"


class AttenuationError(TaskError):
    """A sub-agent was to be given more than its parent has.

    Attributes:
        asked: What was asked for.
        held: What there is to give.
    """

    code = "attenuation"

    def __init__(self, message: str, *, asked: str, held: str) -> None:
        super().__init__(message)
        self.asked = asked
        self.held = held


class TicketError(TaskError):
    """A delegation ticket is malformed, late, used before, or somebody else's."""

    code = "ticket"


class AuditError(SpiffeError):
    """An audit trail was changed, cut, or cannot be written or read.

    Attributes:
        line: Where, counted from 1; 0 for the file as a whole.
    """

    code = "audit"

    def __init__(self, message: str, *, line: int = 0) -> None:
        super().__init__(message)
        self.line = line


class RegistrationError(SpiffeError):
    """A registration file of the development trust domain cannot be used."""

    code = "registration_invalid"


def _related(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        yield from error.exceptions
    if error.__cause__ is not None:
        yield error.__cause__
    # Also what `raise ... from None` hides: httpcore does that, and the reason is only there.
    if error.__context__ is not None:
        yield error.__context__


def find(error: BaseException | None, kind: type[_E], *, handled: BaseException | None = None) -> _E | None:
    """Find the first error of a kind among an error, its causes, contexts and group members.

    Args:
        error: What was caught, for example an `httpx.ConnectError`.
        kind: The type to look for, for example `PeerError`.
        handled: What was being handled when the failed operation began, such as the failure of an
            attempt before it: Python links it as a context, and it is not looked into.

    Returns:
        The nearest match in breadth-first order, or None.
    """
    queue: list[BaseException] = [] if error is None else [error]
    seen = {id(handled)}
    while queue:
        current = queue.pop(0)
        if id(current) in seen:
            continue
        if isinstance(current, kind):
            return current
        seen.add(id(current))
        queue.extend(_related(current))
    return None

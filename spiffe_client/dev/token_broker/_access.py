"""What a protected resource does with an access token that it is shown (RFC 6750, RFC 9068, RFC 9449 §7)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from spiffe_client._clock import Clock
from spiffe_client.dev.token_broker._dpop import ProofCheck, ProofRefusedError
from spiffe_client.dev.token_broker._jwt import (
    ALGORITHMS,
    Jwt,
    Key,
    NotAcceptableError,
    check_times,
    for_others,
    verify,
)
from spiffe_client.dev.token_broker._messages import Call

__all__ = ["AccessCheck", "ChallengedError", "Presented", "credentials_of"]


class ChallengedError(Exception):
    """A request is refused with a challenge (RFC 6750 §3, RFC 9449 §7.1).

    Args:
        status: 400, 401 or 403.
        error: The code; empty where no token was presented at all.
        description: Why.
        scheme: `Bearer` or `DPoP`; empty for both.
        scope: What would be needed.
    """

    def __init__(
        self, status: int, error: str, description: str, *, scheme: str = "", scope: str = ""
    ) -> None:
        super().__init__(description)
        self.status = status
        self.error = error
        self.description = description
        self._scheme = scheme
        self._scope = scope

    @property
    def challenge(self) -> str:
        """The value of `WWW-Authenticate`."""
        schemes = (self._scheme,) if self._scheme else ("Bearer", "DPoP")
        return ", ".join(self._of(scheme) for scheme in schemes)

    def _of(self, scheme: str) -> str:
        said = {"error": self.error, "error_description": self.description if self.error else ""}
        said |= {"scope": self._scope, "algs": " ".join(ALGORITHMS) if scheme == "DPoP" else ""}
        parameters = ", ".join(f'{name}="{value}"' for name, value in said.items() if value)
        return f"{scheme} {parameters}".rstrip()


@dataclass(frozen=True, slots=True)
class Presented:
    """A token that was presented and is good.

    Attributes:
        token: The token.
        scheme: How it was presented.
        claims: What it says.
    """

    token: str = field(repr=False)
    scheme: str
    claims: Mapping[str, object]

    @property
    def scope(self) -> frozenset[str]:
        """Its scopes."""
        return frozenset(str(self.claims.get("scope", "")).split())


@dataclass(frozen=True, slots=True)
class AccessCheck:
    """Checks access tokens of one issuer.

    Attributes:
        issuer: Who issues them.
        audience: Who we are: the token must be for one of these.
        keys: Gives the issuer's keys, as they are now.
        proofs: Checks DPoP proofs.
        clock: What says now.
    """

    issuer: str
    audience: frozenset[str]
    keys: Callable[[], Iterable[Key]]
    proofs: ProofCheck
    clock: Clock

    def check(self, call: Call, scope: str = "") -> Presented:
        """Return the token that came with a request.

        Args:
            call: The request.
            scope: What it has to allow; empty for nothing in particular.

        Raises:
            ChallengedError: There is none, or it is not good for this.
        """
        scheme, token = credentials_of(call, scope)
        try:
            claims = self._claims(token)
            self._bound(call, claims, scheme, token)
        except NotAcceptableError as error:
            raise ChallengedError(401, "invalid_token", f"the token: {error}", scheme=scheme) from error
        presented = Presented(token, scheme, claims)
        if scope and scope not in presented.scope:
            why = "the token does not allow this"
            raise ChallengedError(403, "insufficient_scope", why, scheme=scheme, scope=scope)
        return presented

    def _claims(self, token: str) -> Mapping[str, object]:
        jwt = Jwt.parse(token)
        if not jwt.type_is("at+jwt"):
            raise NotAcceptableError("its type is not at+jwt")
        verify(jwt, self.keys())
        check_times(jwt, self.clock.now().timestamp())
        if jwt.text("iss") != self.issuer:
            raise NotAcceptableError("its issuer is somebody else")
        if self.audience.isdisjoint(jwt.audience):
            raise for_others(jwt, self.audience)
        return jwt.claims

    def _bound(self, call: Call, claims: Mapping[str, object], scheme: str, token: str) -> None:
        cnf = claims.get("cnf")
        held: Mapping[str, object] = cnf if isinstance(cnf, Mapping) else {}
        # A bound token presented as if it were not is a stolen one (RFC 9449 §7.2).
        if ("jkt" in held) != (scheme == "DPoP"):
            raise NotAcceptableError(f"it is not one to be presented as {scheme}")
        if scheme == "DPoP" and self._proven(call, token) != held["jkt"]:
            raise NotAcceptableError("it is bound to another key than that of the proof")
        shown = None if call.certificate is None else call.certificate.thumbprint
        if "x5t#S256" in held and held["x5t#S256"] != shown:
            raise NotAcceptableError("it is bound to another certificate than that of the connection")

    def _proven(self, call: Call, token: str) -> str:
        proofs = [value for name, value in call.headers if name == "dpop"]
        if len(proofs) != 1:
            raise ChallengedError(401, "invalid_dpop_proof", "there must be one DPoP proof", scheme="DPoP")
        try:
            return self.proofs.check(proofs[0], method=call.method, url=call.url, token=token)
        except ProofRefusedError as error:
            raise ChallengedError(401, error.error, error.description, scheme="DPoP") from error


def credentials_of(call: Call, scope: str = "") -> tuple[str, str]:
    """Return scheme and token of the `Authorization` header.

    Args:
        call: The request.
        scope: What the token has to allow, for the challenge.

    Raises:
        ChallengedError: There is none, or it is malformed.
    """
    values = [value for name, value in call.headers if name == "authorization"]
    if not values:
        raise ChallengedError(401, "", "", scope=scope)
    scheme, _, token = values[0].partition(" ")
    scheme = {"bearer": "Bearer", "dpop": "DPoP"}.get(scheme.lower(), "")
    if not scheme or not token or len(values) > 1:
        raise ChallengedError(400, "invalid_request", "the Authorization header is malformed")
    return scheme, token

"""Which client is asking, and how it proves that (RFC 6749 §2.3 and its successors)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import unquote_plus

from spiffe_client._redact import Secret
from spiffe_client.dev.token_broker import _names as names
from spiffe_client.dev.token_broker._attestation import ATTESTATION, Attestations
from spiffe_client.dev.token_broker._jwt import Jwt, NotAcceptableError, check_times, verify
from spiffe_client.dev.token_broker._messages import Call, RefusedError
from spiffe_client.dev.token_broker._replays import Replays
from spiffe_client.dev.token_broker._rules import Client, Rules
from spiffe_client.dev.token_broker._trust import Trust, check_audience
from spiffe_client.errors import InvalidIdError
from spiffe_client.ids import SpiffeId

__all__ = ["METHODS", "Authenticator", "Caller"]

#: As metadata names them (draft-ietf-oauth-spiffe-client-auth §5, RFC 8705 §2.1, OpenID Connect Core §9).
METHODS: tuple[str, ...] = (
    "spiffe_jwt",
    "spiffe_wit",
    "spiffe_x509",
    "tls_client_auth",
    "private_key_jwt",
    "client_secret_basic",
    "client_secret_post",
    "none",
)
#: Longest life of a client assertion, in seconds: its `jti` is remembered that long.
_MAX_ASSERTION_LIFE = 3600.0


@dataclass(frozen=True, slots=True)
class Caller:
    """A client that proved to be it.

    Attributes:
        client_id: As it calls itself.
        rule: What it may have.
        method: How it proved itself.
    """

    client_id: str
    rule: Client = field(repr=False)
    method: str

    @property
    def subject(self) -> str:
        """Whom its tokens are about when they are about nobody else."""
        return self.client_id if self.rule.spiffe_id is None else str(self.rule.spiffe_id)

    def is_audience_of(self, audience: tuple[str, ...]) -> bool:
        """Whether a token with this audience is meant for it."""
        names = {self.client_id, self.subject, *self.rule.serves}
        if _is_workload(self.subject):  # transaction tokens are for a whole trust domain
            names.add(SpiffeId.parse(self.subject).trust_domain.name)
        return not names.isdisjoint(audience)


@dataclass(frozen=True, slots=True)
class Authenticator:
    """Authenticates clients.

    Attributes:
        issuer: The sole audience of what they sign (draft-ietf-oauth-rfc7523bis §4).
        rules: Gives the rules, as they are now.
        trust: Whose SVIDs are believed.
        attestations: Checks WIT-SVIDs.
        replays: The `jti` of client assertions.
    """

    issuer: str
    rules: Callable[[], Rules]
    trust: Trust
    attestations: Attestations
    replays: Replays = field(default_factory=Replays)

    def authenticate(self, call: Call) -> Caller:
        """Return the client that is asking.

        Raises:
            RefusedError: It did not prove itself (401 `invalid_client`), or in two ways at once.
        """
        basic = call.header("authorization") is not None
        try:
            return self._authenticate(call, basic=basic)
        except NotAcceptableError as error:
            headers = {"WWW-Authenticate": f'Basic realm="{self.issuer}"'} if basic else {}
            raise RefusedError(
                "invalid_client", f"client authentication failed: {error}", status=401, headers=headers
            ) from error

    def _authenticate(self, call: Call, *, basic: bool) -> Caller:
        form = call.form
        tried = [basic, *(form.one(n) is not None for n in ("client_secret", "client_assertion"))]
        tried.append(call.header(ATTESTATION) is not None)
        if tried.count(True) > 1:
            raise RefusedError("invalid_request", "the client authenticates in more than one way")
        if basic:
            return self._basic(call)
        client_id = form.need("client_id")
        rule = self._rule(client_id)
        if form.one("client_secret") is not None:
            return self._secret(client_id, rule, form.need("client_secret"), "client_secret_post")
        if form.one("client_assertion") is not None:
            return self._assertion(client_id, rule, call)
        if tried[3]:
            if self.attestations.check(call) != _spiffe_id(client_id, rule):
                raise NotAcceptableError("the WIT-SVID is somebody else's")
            return Caller(client_id, rule, "spiffe_wit")
        if call.certificate is not None and str(call.certificate.id) == _spiffe_id(client_id, rule):
            return Caller(client_id, rule, "tls_client_auth")
        if not rule.public:
            raise NotAcceptableError("this client must authenticate")
        return Caller(client_id, rule, "none")

    def _rule(self, client_id: str) -> Client:
        rule = self.rules().client(client_id)
        if rule is None or (rule.is_pattern and not _is_workload(client_id)):
            raise NotAcceptableError("there is no such client")
        return rule

    def _basic(self, call: Call) -> Caller:
        scheme, _, value = (call.header("authorization") or "").partition(" ")
        try:
            if scheme.lower() != "basic":
                raise NotAcceptableError("the Authorization header is not of the scheme Basic")
            client_id, _, secret = base64.b64decode(value.strip(), validate=True).decode().partition(":")
        except (binascii.Error, ValueError) as error:
            raise NotAcceptableError("the Authorization header is malformed") from error
        client_id, secret = unquote_plus(client_id), unquote_plus(secret)  # RFC 6749 §2.3.1
        if call.form.one("client_id") not in (None, client_id):
            raise NotAcceptableError("the client_id in the form is another one")
        return self._secret(client_id, self._rule(client_id), secret, "client_secret_basic")

    def _secret(self, client_id: str, rule: Client, secret: str, method: str) -> Caller:
        if not rule.has_secret(Secret(secret)):
            raise NotAcceptableError("the client secret is wrong")
        return Caller(client_id, rule, method)

    def _assertion(self, client_id: str, rule: Client, call: Call) -> Caller:
        kind = call.form.need("client_assertion_type")
        jwt = Jwt.parse(call.form.need("client_assertion"))
        if kind == names.JWT_SPIFFE_ASSERTION:
            # Neither `iss` nor `jti`: SVIDs are kept and shown again (§3.1 of the draft).
            if str(self.trust.jwt_svid(jwt, self.issuer, sole=True)) != _spiffe_id(client_id, rule):
                raise NotAcceptableError("the JWT-SVID is somebody else's")
            return Caller(client_id, rule, "spiffe_jwt")
        if kind != names.JWT_BEARER_ASSERTION:
            raise NotAcceptableError("the client_assertion_type is unknown")
        self._signed_by(client_id, rule, jwt)
        return Caller(client_id, rule, "private_key_jwt")

    def _signed_by(self, client_id: str, rule: Client, jwt: Jwt) -> None:
        """Check an assertion that the client signed itself (RFC 7523 §3)."""
        verify(jwt, rule.keys)
        now = self.trust.now()
        check_times(jwt, now)
        check_audience(jwt, self.issuer, sole=True)
        if (jwt.text("iss"), jwt.text("sub")) != (client_id, client_id):
            raise NotAcceptableError("`iss` and `sub` of the assertion must be the client_id")
        expires_at = jwt.time("exp") or 0.0
        if expires_at - now > _MAX_ASSERTION_LIFE:
            raise NotAcceptableError("the assertion lasts longer than an hour")
        if not self.replays.use(f"{client_id} {jwt.text('jti')}", until=expires_at + 60, now=now):
            raise NotAcceptableError("the assertion was used before")


def _spiffe_id(client_id: str, rule: Client) -> str:
    return client_id if rule.spiffe_id is None else str(rule.spiffe_id)


def _is_workload(client_id: str) -> bool:
    try:
        return bool(SpiffeId.parse(client_id).path)
    except InvalidIdError:
        return False

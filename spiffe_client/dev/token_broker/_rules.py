"""Who may ask the token broker for what."""

from __future__ import annotations

import hashlib
import hmac
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from spiffe_client._redact import Secret
from spiffe_client.dev._registration_file import MAX_FILE_BYTES
from spiffe_client.dev.token_broker._jwt import Key, NotAcceptableError, parse_key
from spiffe_client.errors import InvalidIdError, RegistrationError
from spiffe_client.ids import SpiffeId

__all__ = ["BINDINGS", "Client", "ForeignIssuer", "Rules", "SenderConstraint"]

#: What a client's tokens are bound to: whatever it offers; a DPoP key or a certificate, always; or
#: a DPoP key if it offers one, and a certificate never.
SenderConstraint: TypeAlias = Literal["any", "dpop", "mtls", "bearer"]
BINDINGS: tuple[SenderConstraint, ...] = ("any", "dpop", "mtls", "bearer")

_ANY = "*"
_MAX_TTL = 366 * 86400.0


@dataclass(frozen=True, slots=True)
class Client:
    """A client of the token broker, how it may authenticate, and what it may have.

    In each list `*` allows everything, and an empty list nothing.

    Attributes:
        id: Its `client_id`: a SPIFFE ID, all below one (`spiffe://dev.example/agents/*`), or a name
            of its own.
        spiffe_id: Whose SVIDs authenticate it, where `id` is a name of its own.
        secret_sha256: SHA-256 of its client secret in hex, if it has one.
        keys: Its public keys for `private_key_jwt`, if it has any.
        public: Whether it may come without any authentication.
        audiences: Audiences, resources and other token brokers that it may have tokens for.
        scopes: The scopes it may have.
        details: The types of authorization details it may have (RFC 9396 §2).
        serves: Audiences that it is itself: it may exchange and introspect tokens meant for these.
        may_delegate_to: Who may exchange its tokens, as actor.
        ttl: Seconds its tokens last, or None for the token broker's own.
        binding: What its tokens are bound to.
        where: Where it was read, for messages.

    Raises:
        RegistrationError: Something of this is malformed.
    """

    id: str
    spiffe_id: SpiffeId | None = None
    secret_sha256: str = field(default="", repr=False)
    keys: tuple[Key, ...] = field(default=(), compare=False)
    public: bool = False
    audiences: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()
    details: frozenset[str] = frozenset()
    serves: frozenset[str] = frozenset()
    may_delegate_to: frozenset[str] = frozenset()
    ttl: float | None = None
    binding: SenderConstraint = "any"
    where: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if self.id.lower().startswith("spiffe:"):
            self._check_spiffe_id()
        elif not self.id or not self.id.isprintable() or _ANY in self.id:
            raise RegistrationError("a client's id must be text, and only a SPIFFE ID can end in /*")
        elif not (self.spiffe_id or self.secret_sha256 or self.keys or self.public):
            raise RegistrationError(
                f"the client {self.id} has no way to authenticate: give it spiffe_id, secret, "
                "secret_sha256 or jwk, or say public = true"
            )
        if self.spiffe_id is not None and not self.spiffe_id.path:
            raise RegistrationError(f"spiffe_id names a trust domain, not a workload: {self.spiffe_id}")
        if self.ttl is not None and not (math.isfinite(self.ttl) and 1 <= self.ttl <= _MAX_TTL):
            raise RegistrationError(f"ttl must be seconds, at least one and at most a year, got {self.ttl!r}")
        if self.secret_sha256 and not _is_sha256(self.secret_sha256):
            raise RegistrationError("secret_sha256 must be 64 hexadecimal digits")
        if self.binding not in BINDINGS:
            raise RegistrationError(f"binding must be one of {', '.join(BINDINGS)}")

    def _check_spiffe_id(self) -> None:
        if self.spiffe_id is not None:
            raise RegistrationError(
                f"the id of the client {self.id} is its SPIFFE ID already: drop spiffe_id"
            )
        try:
            spiffe_id = SpiffeId.parse(self.id.removesuffix("/*"))
        except InvalidIdError as error:
            raise RegistrationError(f"the id of a client is no SPIFFE ID: {error}") from error
        if not spiffe_id.path and not self.is_pattern:
            raise RegistrationError(f"{self.id} names a trust domain, not a workload")
        object.__setattr__(self, "id", f"{spiffe_id}/*" if self.is_pattern else str(spiffe_id))

    @classmethod
    def of(
        cls,
        client_id: SpiffeId | str,
        *,
        spiffe_id: SpiffeId | str | None = None,
        secret: str = "",
        secret_sha256: str = "",
        jwk: Mapping[str, object] | None = None,
        public: bool = False,
        audiences: Collection[str] = (),
        scopes: Collection[str] | str = (),
        details: Collection[str] = (),
        serves: Collection[str] = (),
        may_delegate_to: Collection[SpiffeId | str] = (),
        ttl: float | None = None,
        binding: SenderConstraint = "any",
        where: str = "",
    ) -> Client:
        """Make a client from what comes to hand; the arguments are those of the class.

        Args:
            client_id: `id`.
            spiffe_id: As the attribute, also as text.
            secret: The client secret itself; only its SHA-256 is kept.
            secret_sha256: As the attribute, instead.
            jwk: A public key for `private_key_jwt`.
            public: As the attribute.
            audiences: As the attribute.
            scopes: As the attribute; text is split at spaces.
            details: As the attribute.
            serves: As the attribute.
            may_delegate_to: As the attribute.
            ttl: As the attribute.
            binding: As the attribute.
            where: As the attribute.

        Raises:
            InvalidIdError: `spiffe_id` is none.
            RegistrationError: Something else of it is malformed.
        """
        return cls(
            id=str(client_id),
            spiffe_id=None if spiffe_id is None else SpiffeId.parse(spiffe_id),
            secret_sha256=hashlib.sha256(secret.encode()).hexdigest() if secret else secret_sha256,
            keys=() if jwk is None else (_key(jwk),),
            public=public,
            audiences=frozenset(audiences),
            scopes=frozenset(scopes.split() if isinstance(scopes, str) else scopes),
            details=frozenset(details),
            serves=frozenset(serves),
            may_delegate_to=frozenset(map(str, may_delegate_to)),
            ttl=ttl,
            binding=binding,
            where=where,
        )

    @property
    def is_pattern(self) -> bool:
        """Whether all workloads below a SPIFFE ID are meant."""
        return self.id.endswith("/*")

    def may_have_scope(self, scope: str) -> bool:
        """Whether it may have this scope."""
        return bool(self.scopes & {scope, _ANY})

    def may_have_target(self, target: str) -> bool:
        """Whether it may have tokens for this audience, resource or token broker."""
        return bool(self.audiences & {target, _ANY})

    def may_have_detail(self, kind: object) -> bool:
        """Whether it may have authorization details of this type."""
        return isinstance(kind, str) and bool(self.details & {kind, _ANY})

    def lets_act(self, actor: str) -> bool:
        """Whether this actor may exchange its tokens."""
        return bool(self.may_delegate_to & {actor, _ANY})

    def has_secret(self, secret: Secret[str]) -> bool:
        """Whether this is its secret."""
        said = hashlib.sha256(secret.reveal().encode()).hexdigest()
        return hmac.compare_digest(said, self.secret_sha256.lower())


def _is_sha256(text: str) -> bool:
    return len(text) == 64 and all(digit in "0123456789abcdef" for digit in text.lower())


def _key(jwk: Mapping[str, object]) -> Key:
    try:
        return parse_key(jwk)
    except NotAcceptableError as error:
        raise RegistrationError(f"jwk: {error}") from error


@dataclass(frozen=True, slots=True)
class ForeignIssuer:
    """Somebody else whose tokens and assertions are accepted here.

    Attributes:
        id: Its issuer identifier, exactly.
        keys: Its public keys.
    """

    id: str
    keys: tuple[Key, ...] = field(compare=False)

    @classmethod
    def of(cls, issuer: str, *jwks: Mapping[str, object]) -> ForeignIssuer:
        """Make one from its JSON Web Keys.

        Raises:
            RegistrationError: A key is malformed, or there is none.
        """
        if not issuer or not jwks:
            raise RegistrationError("an issuer needs an id and at least one key")
        return cls(issuer, tuple(map(_key, jwks)))


@dataclass(frozen=True, slots=True)
class Rules:
    """All rules of a token broker: immutable.

    As a file, beside or without the `[[entry]]` tables of `Registrations`:

        [[client]]
        id = "spiffe://dev.example/orders-agent"                 # or all below: ".../agents/*"
        audiences = ["https://orders.dev.example"]               # resources too; "*" for any
        scopes = ["orders:read", "orders:refund"]
        details = ["payment"]                                    # types of authorization details
        may_delegate_to = ["spiffe://dev.example/auditor"]
        ttl = 60
        binding = "dpop"                                         # any, dpop, mtls, bearer

        [[client]]
        id = "batch"
        secret_sha256 = "…"                                      # or secret, jwk, spiffe_id, public
        serves = ["https://orders.dev.example"]                  # may introspect tokens for it

        [[issuer]]
        id = "https://idp.partner.example"
        jwks = [{ kty = "EC", crv = "P-256", x = "…", y = "…", kid = "1" }]

    Attributes:
        clients: In the order given; the exact `id` first, then the longest pattern.
        issuers: Whose tokens and assertions are accepted beside our own and the trust domain's.
    """

    clients: tuple[Client, ...] = ()
    issuers: tuple[ForeignIssuer, ...] = ()

    def __post_init__(self) -> None:
        for kind, ids in (("client", [c.id for c in self.clients]), ("issuer", [i.id for i in self.issuers])):
            for repeated in {i for i in ids if ids.count(i) > 1}:
                raise RegistrationError(f"the {kind} {repeated[:200]} is there twice")

    @classmethod
    def parse(cls, text: bytes, *, name: str = "rules") -> Rules:
        """Read rules from the text of a TOML file.

        Args:
            text: UTF-8, at most 1 MiB.
            name: What to call the file in messages.

        Raises:
            RegistrationError: It is malformed; the message names the line, or the table and field.
        """
        from spiffe_client.dev.token_broker._rules_file import read_rules

        return read_rules(text, name)

    @classmethod
    def load(cls, path: str | Path) -> Rules:
        """Read rules from a TOML file.

        Raises:
            RegistrationError: It cannot be read or is malformed.
        """
        try:
            with Path(path).open("rb") as file:
                text = file.read(MAX_FILE_BYTES + 1)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            why = getattr(error, "strerror", None) or error
            raise RegistrationError(f"{path}: cannot be read: {why}") from error
        return cls.parse(text, name=str(path))

    def __iter__(self) -> Iterator[Client]:
        return iter(self.clients)

    def client(self, client_id: str) -> Client | None:
        """Return the rule for a client, None if there is none."""
        for client in self.clients:
            if client.id == client_id:
                return client
        fitting = (c for c in self.clients if c.is_pattern and client_id.startswith(c.id[:-1]))
        return max(fitting, key=lambda c: len(c.id), default=None)

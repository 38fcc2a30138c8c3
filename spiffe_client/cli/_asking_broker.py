"""What the commands that ask a token broker have in common: who asks, and how it is reached."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

from spiffe_client._clock import SYSTEM_CLOCK
from spiffe_client._redact import Secret
from spiffe_client.bundle._certificates import parse_certificates_pem
from spiffe_client.cli._asking import WITH_SECRET, client_for, who_is_the_svid
from spiffe_client.cli._exit import UsageError
from spiffe_client.cli._reading import read_file
from spiffe_client.errors import DiscoveryError, InvalidIdError, SecretSourceError, TlsConfigurationError
from spiffe_client.ids import SpiffeId
from spiffe_client.svid import JwtSvid
from spiffe_client.tokens import (
    AccessToken,
    Binding,
    BindingMethod,
    ClientAuthentication,
    ClientSecret,
    JwtSpiffe,
    NoAuthentication,
    PrivateKeyJwt,
    SecretCommand,
    SecretFile,
    SecretSource,
    SecretVariable,
    ServerTrust,
    SpiffePeer,
    TokenBroker,
    TokenRequest,
    WebPki,
    X509SvidTls,
)
from spiffe_client.tokens._discovery import well_known_urls
from spiffe_client.tokens._urns import ACCESS_TOKEN, CLIENT_CREDENTIALS
from spiffe_client.workload_api import WorkloadApiClient, X509Context

__all__ = [
    "CurrentIdentity",
    "authentication_of",
    "check_broker",
    "check_secret",
    "client_id_of",
    "needs_identity",
    "open_broker",
    "somebodys",
    "trust_of",
]


class CurrentIdentity:
    """Who this process is at this moment: enough for one command, which follows no changes.

    Args:
        client: Asks the Workload API.
        context: What it said.
    """

    def __init__(self, client: WorkloadApiClient, context: X509Context) -> None:
        self._client = client
        self.x509_context: X509Context = context

    @classmethod
    async def fetch(cls, arguments: argparse.Namespace) -> CurrentIdentity:
        """Ask the Workload API of `--socket` who this process is."""
        client = client_for(arguments)
        return cls(client, await client.fetch_x509_context())

    @property
    def id(self) -> SpiffeId:
        """See `Identity.id`."""
        return self.x509_context.svid.id

    async def jwt_svid(self, audience: str, /) -> JwtSvid:
        """See `Identity.jwt_svid`."""
        svid, *_ = await self._client.fetch_jwt_svids(audience, subject=self.id)
        return svid

    def before_publish(self, prepare: Callable[[X509Context], object]) -> None:
        """Nothing else is published."""

    def after_publish(self, notify: Callable[[], object]) -> None:
        """Nothing changes."""


def check_broker(arguments: argparse.Namespace) -> None:
    """Refuse beforehand what makes no sense of the words about the token broker.

    Raises:
        UsageError: So it is.
    """
    try:
        well_known_urls(arguments.token_broker)
    except DiscoveryError as error:
        raise UsageError(f"--token-broker: {error}", command=f"spiffe-client {arguments.command}") from error
    check_secret(arguments)


def check_secret(arguments: argparse.Namespace) -> None:
    """Refuse an authentication without what it needs, and a secret without one.

    Raises:
        UsageError: So it is.
    """
    command = f"spiffe-client {arguments.command}"
    secret = arguments.secret_file or arguments.secret_env or arguments.secret_command
    wants_secret = arguments.auth in WITH_SECRET
    if wants_secret and not secret:
        raise UsageError(
            f"--auth {arguments.auth} needs --secret-file, --secret-env or --secret-command", command=command
        )
    if secret and not wants_secret:
        raise UsageError(f"--auth {arguments.auth} has no secret", command=command)
    if wants_secret and not arguments.client_id:
        raise UsageError(f"--auth {arguments.auth} needs --client-id", command=command)


def trust_of(arguments: argparse.Namespace) -> ServerTrust:
    """Return how the token broker is verified: `--ca`, `--broker-id`, or the system's authorities.

    Raises:
        UsageError: `--broker-id` is no SPIFFE ID.
        OSError: The file of `--ca` cannot be read.
        TlsConfigurationError: It holds no certificates.
    """
    command = f"spiffe-client {arguments.command}"
    if arguments.broker_id is not None:
        try:
            return SpiffePeer(arguments.broker_id)
        except InvalidIdError as error:
            raise UsageError(f"--broker-id: {error}", command=command) from error
    if arguments.ca is None:
        return WebPki()
    roots = read_file(arguments.ca, command=command)
    try:
        parse_certificates_pem(roots, error=TlsConfigurationError)
    except TlsConfigurationError as error:
        raise TlsConfigurationError(f"{arguments.ca}: {error}") from error
    return WebPki(roots=roots.decode("ascii", "replace"))


def authentication_of(arguments: argparse.Namespace, trust: ServerTrust) -> ClientAuthentication:
    """Return how `--auth` shows who asks.

    Raises:
        UsageError: `--secret-command` is no command line.
    """
    if arguments.auth == "spiffe-x509":
        return X509SvidTls(trust)
    if arguments.auth == "private-key-jwt":
        return PrivateKeyJwt(_secret_source(arguments))
    if arguments.auth == "client-secret":
        return ClientSecret(_secret_source(arguments))
    return NoAuthentication() if arguments.auth == "none" else JwtSpiffe()


def needs_identity(arguments: argparse.Namespace, trust: ServerTrust, binding: BindingMethod) -> bool:
    """Whether this workload's identity says or shows who asks, or is what verifies or binds."""
    shown = arguments.auth in ("spiffe-jwt", "spiffe-x509") or binding == "mtls"
    return shown or who_is_the_svid(arguments) or isinstance(trust, SpiffePeer)


def client_id_of(arguments: argparse.Namespace, identity: CurrentIdentity | None) -> str:
    """Return who asks: what `--client-id` says, else the SPIFFE ID; empty for nobody."""
    if arguments.client_id is None and identity is not None:
        return str(identity.id)
    return arguments.client_id or ""


def _secret_source(arguments: argparse.Namespace) -> SecretSource:
    if arguments.secret_file is not None:
        return SecretFile(arguments.secret_file)
    if arguments.secret_env is not None:
        return SecretVariable(arguments.secret_env)
    try:
        return SecretCommand(*shlex.split(arguments.secret_command), timeout=arguments.timeout)
    except (ValueError, SecretSourceError) as error:
        # A quotation mark that is not closed; or nothing but spaces.
        raise UsageError(
            f"--secret-command: {error}", command=f"spiffe-client {arguments.command}"
        ) from error


@asynccontextmanager
async def open_broker(
    arguments: argparse.Namespace, *, binding: BindingMethod = "none", identity: bool = False
) -> AsyncIterator[TokenBroker]:
    """Open a token broker's client as the words say.

    Args:
        arguments: Of the command line.
        binding: What tokens are to be bound to.
        identity: Whether the identity is needed for more than authentication and binding.

    Raises:
        UsageError: The words make no sense.
        WorkloadApiError: An identity is needed, and there is none.
    """
    check_broker(arguments)
    trust = trust_of(arguments)
    authentication = authentication_of(arguments, trust)
    needed = identity or needs_identity(arguments, trust, binding)
    me = await CurrentIdentity.fetch(arguments) if needed else None
    async with TokenBroker(
        arguments.token_broker,
        identity=me,
        client_id=client_id_of(arguments, me),
        authentication=authentication,
        binding=binding,
        trust=trust,
        allowed_origins=arguments.allow_origin,
        timeout=arguments.timeout,
        on_event=lambda _: None,  # what comes of it is said once, by the command
    ) as broker:
        yield broker


def somebodys(token: Secret[str], broker: TokenBroker) -> AccessToken:
    """Return a token that was handed to us, of which nothing is known, as one of this token broker's."""
    return AccessToken(
        token=token,
        token_type="Bearer",  # noqa: S106 - a type
        issuer=broker.issuer,
        request=TokenRequest.of(grant=CLIENT_CREDENTIALS),
        scope=frozenset(),
        authorization_details="",
        issued_token_type=ACCESS_TOKEN,
        expires_at=SYSTEM_CLOCK.now() + timedelta(hours=1),
        binding=Binding(),
    )

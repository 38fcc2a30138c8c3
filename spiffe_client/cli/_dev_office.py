"""What `spiffe-client dev --token-broker` runs beside the trust domain: who issues tokens, and who takes them."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from tempfile import TemporaryDirectory

import anyio

from spiffe_client.cli._exit import UsageError
from spiffe_client.cli._lines import Line, line
from spiffe_client.dev import DevTokenBroker, DevTrustDomain, ProtectedService
from spiffe_client.dev.token_broker import Client, Rules, require_extra

__all__ = ["Office", "open_office", "token_broker_for"]

_INSTALL = "pip install 'spiffe-client[dev]'"


@dataclass(frozen=True, slots=True)
class Office:
    """A token broker and a sample service that takes its tokens, both open.

    Attributes:
        broker: Issues tokens.
        clients: To whom it issues anything.
        service: Takes them.
        rules: The file that says who gets what; None where every workload gets what it asks for.
        web_roots: The file that holds the authorities of both on their ports with TLS, PEM.
    """

    broker: DevTokenBroker
    clients: tuple[str, ...]
    service: ProtectedService
    rules: str | None
    web_roots: str

    def record(self) -> dict[str, object]:
        """Return it for programs."""
        broker, service = self.broker, self.service
        return {
            "token_broker": {
                "issuer": broker.issuer,
                "clients": list(self.clients),
                "mtls": broker.url_at("web"),
                "web_roots": broker.web_roots,
                "web_roots_file": self.web_roots,
            },
            "service": {"url": service.url, "id": str(service.id), "mtls": service.url_at("web")},
        }

    def lines(self) -> Iterator[Line]:
        """Return it for people."""
        yield line(("# ", "faint"), (self.broker.issuer, "name"), (self._what_it_is(), "faint"))
        for client in self.clients:
            yield line(("#   ", "faint"), (client, "name"))
        service = f"{self.service.url}/v1/orders"
        yield line(("# ", "faint"), (service, "name"), (" takes its tokens, for orders:read", "faint"))
        yield line(("# for --binding mtls: --ca ", "faint"), (self.web_roots, "name"))

    def _what_it_is(self) -> str:
        if self.rules is None:
            return " is a token broker; whatever they ask for is given to:"
        if not self.clients:
            return f" is a token broker, and nobody is its client: {self.rules} has no [[client]]"
        return " is a token broker for:"


def token_broker_for(arguments: argparse.Namespace, domain: DevTrustDomain) -> DevTokenBroker | None:
    """Make the token broker that the words ask for, if they do.

    Raises:
        UsageError: What serves it is not installed.
        RegistrationError: The file does not say who gets what.
    """
    if not arguments.token_broker:
        return None
    try:
        require_extra()
    except ModuleNotFoundError as error:
        message = f"--token-broker needs {error.name}, which comes with the extra `dev`"
        raise UsageError(message, command="spiffe-client dev", advice=_INSTALL) from error
    if arguments.file is not None:
        return DevTokenBroker(domain, rules=Rules.load(arguments.file))
    everything = frozenset("*")
    anybody = Client(
        f"{domain.trust_domain.id}/*", audiences=everything, scopes=everything, details=everything
    )
    return DevTokenBroker(domain, rules=[anybody])


@asynccontextmanager
async def open_office(broker: DevTokenBroker, rules: str | None) -> AsyncIterator[Office]:
    """Open the token broker and a service beside it, until the block is left.

    Args:
        broker: Not open yet.
        rules: The file that its rules are from, if they are from one.
    """
    clients = tuple(client.id for client in broker.rules)  # the service becomes one more
    async with broker, ProtectedService(broker) as service:
        with TemporaryDirectory(prefix="spiffe-dev-", ignore_cleanup_errors=True) as folder:
            roots = anyio.Path(folder, "web-roots.pem")
            await roots.write_text(broker.web_roots + service.web_roots, encoding="ascii")
            yield Office(broker, clients, service, rules, str(roots))

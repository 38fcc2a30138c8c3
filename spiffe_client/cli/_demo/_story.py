"""What is played, in this order: what must go well, then what must not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from spiffe_client.cli._demo._agent import agent, approval, audit, delegation, stop, tenant
from spiffe_client.cli._demo._process import Broken
from spiffe_client.cli._demo._refusals import call_as, forgery, stranger, withdrawal
from spiffe_client.cli._demo._rotation import rotation
from spiffe_client.cli._demo._stage import CALLER, HOME, PARTNER, SERVER, Stage
from spiffe_client.cli._demo._tokens import excess, exchange, revocation, theft
from spiffe_client.cli._lines import Line
from spiffe_client.errors import NoIdentityIssuedError
from spiffe_client.workload_api import WorkloadApiClient

__all__ = ["STORY", "Scene"]

#: Words and values of what came out, and lines to look at.
Outcome: TypeAlias = tuple[str, Mapping[str, object], *tuple[Line, ...]]


@dataclass(frozen=True, slots=True)
class Scene:
    """One step of the demo.

    Attributes:
        name: Stable, lower case with underscores.
        about: What is going on while it plays.
        play: Returns what came out; raises `Broken` or a `SpiffeError` if it went wrong. It can
            say how it goes.
        tokens: Whether it needs a token broker, which is served by what the extra `dev` brings.
    """

    name: str
    about: str
    play: Callable[[Stage, Callable[[str], None]], Awaitable[Outcome]]
    tokens: bool = False


async def trust_domain(stage: Stage, say: Callable[[str], None]) -> Outcome:
    """There is a trust domain, and it gives nothing to just anybody."""
    del say
    try:
        await WorkloadApiClient(stage.home.endpoint).fetch_x509_context()
    except NoIdentityIssuedError:
        return (
            f"{HOME} is up; an unknown process asks, and gets nothing",
            {"trust_domain": str(HOME), "endpoint": stage.home.endpoint},
        )
    raise Broken("a process that is not registered was given an identity")


async def identity(stage: Stage, say: Callable[[str], None]) -> Outcome:
    """Two processes are told apart by the kernel, and get an identity each."""
    del say
    stage.home.register(SERVER, pid=stage.server.pid)
    stage.home.register(CALLER, pid=stage.caller.pid)
    server, caller = await stage.server.reply(), await stage.caller.reply()
    if (server["id"], caller["id"]) != (str(SERVER), str(CALLER)):
        raise Broken(f"the processes were given {server['id']} and {caller['id']}")
    stage.port = server["port"]
    await stage.caller.order(port=stage.port)
    return (
        f"process {stage.server.pid} is {SERVER}\nprocess {stage.caller.pid} is {CALLER}",
        {
            "server": server["id"],
            "server_pid": stage.server.pid,
            "caller": caller["id"],
            "caller_pid": stage.caller.pid,
        },
    )


async def call(stage: Stage, say: Callable[[str], None]) -> Outcome:
    """One process calls the other, and each knows who the other is."""
    del say
    answer = await stage.caller.ask(do="call")
    if (answer["status"], answer["server"], answer["caller"]) != (200, str(SERVER), str(CALLER)):
        raise Broken(f"the answer was {answer}")
    return f"{answer['tls']}, 200: each has proven to the other who it is", answer


async def federation(stage: Stage, say: Callable[[str], None]) -> Outcome:
    """A workload of the federated trust domain is let in."""
    del say
    auditor = f"spiffe://{PARTNER}/auditor"
    endpoint = await stage.partner.endpoint_for(auditor)
    answer = await call_as(stage, await WorkloadApiClient(endpoint).fetch_x509_context())
    if answer.get("caller") != auditor:
        raise Broken(f"the server took {auditor} for {answer.get('caller')}")
    return f"{auditor} is let in,\nby the bundle of its own trust domain", answer


STORY = (
    Scene("trust_domain", "opening a trust domain", trust_domain),
    Scene("identity", "two processes start and ask who they are", identity),
    Scene("call", "one calls the other", call),
    Scene("rotation", "replacing every identity under load", rotation),
    Scene("federation", "a workload of another trust domain calls", federation),
    Scene("stranger", "a stranger calls", stranger),
    Scene("forgery", "the other trust domain's authority forges the caller's identity", forgery),
    Scene("exchange", "an agent trades its identity for a token", exchange, tokens=True),
    Scene("excess", "it asks for more than it may have", excess, tokens=True),
    Scene("theft", "its token is stolen", theft, tokens=True),
    Scene("revocation", "its token is revoked", revocation, tokens=True),
    Scene("withdrawal", "taking the caller's identity back", withdrawal),
    Scene("agent", "an agent works at a task", agent, tokens=True),
    Scene("tenant", "it is talked into another tenant's invoices", tenant, tokens=True),
    Scene("approval", "it asks for refunds", approval, tokens=True),
    Scene("delegation", "it hands some of its work on", delegation, tokens=True),
    Scene("stop", "it is stopped in the middle of a tool", stop, tokens=True),
    Scene("audit", "looking at its audit trail", audit, tokens=True),
)

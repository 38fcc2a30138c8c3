"""A token for one service and one purpose: traded for an SVID, refused to who has no key, taken back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from spiffe_client import Workload
from spiffe_client._clock import SYSTEM_CLOCK
from spiffe_client.cli._demo._process import Broken
from spiffe_client.cli._demo._stage import AGENT, Stage
from spiffe_client.cli._facts import span
from spiffe_client.errors import InvalidScopeError

if TYPE_CHECKING:
    from spiffe_client.dev import DevTokenBroker, ProtectedService
    from spiffe_client.tokens import AccessToken
    from spiffe_client.tokens._dpop import DpopKey

__all__ = ["Office", "excess", "exchange", "revocation", "theft"]

_Outcome = tuple[str, Mapping[str, object]]

_SCOPE, _TOO_MUCH, _PURPOSE = "orders:read", "orders:refund", "close the books"
#: What each path of the service asks for.
_SCOPES = {"/v1/orders": "orders:read", "/v1/refunds": "orders:refund", "/v1/invoices": "invoices:read"}


@dataclass(slots=True)
class Office:
    """What the scenes about tokens play with.

    Attributes:
        service: Takes tokens.
        me: The agent.
        token: What it was given.
        broker: Who gave it.
        path: What of the service it is for.
    """

    service: ProtectedService
    me: Workload
    token: AccessToken
    broker: DevTokenBroker
    path: str = "/v1/orders"

    async def present(self, *, key: DpopKey | None) -> httpx.Response:
        """Call the service with the token, with a proof of this key or as a bearer token."""
        url = f"{self.service.url}{self.path}"
        token = self.token.token.reveal()
        headers = {"Authorization": f"{'Bearer' if key is None else 'DPoP'} {token}"}
        if key is not None:
            headers["DPoP"] = key.proof("GET", url, at=SYSTEM_CLOCK.now(), token=token)
        async with httpx.AsyncClient(trust_env=False) as http:
            return await http.get(url, headers=headers)


async def exchange(stage: Stage, say: Callable[[str], None]) -> _Outcome:
    """An agent trades its SVID for a token, and is let in by it."""
    del say
    from spiffe_client.dev import DevTokenBroker, ProtectedService
    from spiffe_client.dev.token_broker import Client

    rule = Client.of(AGENT, audiences=["*"], scopes=_SCOPE)
    enter = stage.stack.enter_async_context
    broker = await enter(DevTokenBroker(stage.home, rules=[rule], dpop_nonces="always"))
    service = await enter(ProtectedService(broker, scopes=_SCOPES))
    endpoint = await stage.home.endpoint_for(AGENT)
    me = await enter(Workload(endpoint, token_broker=broker.issuer, on_event=lambda _: None))
    auth = me.auth(_SCOPE, audience=service.url, purpose=_PURPOSE)
    async with httpx.AsyncClient(auth=auth, trust_env=False) as http:
        response = await http.get(f"{service.url}/v1/orders")
    # From memory: nobody waits for a second one.
    token = await me.token(_SCOPE, audience=service.url, purpose=_PURPOSE)
    stage.office = Office(service, me, token, broker)
    found = (response.status_code, response.json().get("sub"), token.token_type, me.tokens.health.misses)
    if found != (200, str(AGENT), "DPoP", 1):
        what = f"a token, of type {found[2]}, was waited for {found[3]} times"
        raise Broken(f"the service answered {found[0]} to {found[1]}; {what}")
    left = span(round((token.expires_at - SYSTEM_CLOCK.now()).total_seconds(), -1))
    detail = (
        f"{AGENT} trades its SVID for a token:\n"
        f"{_SCOPE}, at one service, to {_PURPOSE}, for {left},\n"
        "bound to its key; the service lets it in"
    )
    facts = {
        "scope": sorted(token.scope),
        "binding": token.binding.method,
        "purpose": token.purpose,
        "fingerprint": token.fingerprint,
        "status": response.status_code,
    }
    return detail, facts


async def excess(stage: Stage, say: Callable[[str], None]) -> _Outcome:
    """The agent asks for more than it may have."""
    del say
    office = _office(stage)
    try:
        token = await office.me.token(_TOO_MUCH, audience=office.service.url)
    except InvalidScopeError as error:
        return f"it asks for {_TOO_MUCH}, and gets nothing: {error.error}", {
            "error": error.error,
            "status": error.status,
        }
    raise Broken(f"the token broker has granted {' '.join(sorted(token.scope))}")


async def theft(stage: Stage, say: Callable[[str], None]) -> _Outcome:
    """Somebody has the token, and not the key that it is bound to (RFC 9449)."""
    del say
    from spiffe_client.tokens._dpop import DpopKey

    office = _office(stage)
    facts = {
        "as_bearer": await _refused(office, None),
        "with_another_key": await _refused(office, DpopKey()),
        "with_its_key": (await office.present(key=office.me.tokens.dpop)).status_code,
    }
    if facts["with_its_key"] != 200:
        raise Broken(f"its holder is refused, too: {facts['with_its_key']}")
    return "a thief has the token, and not its key:\nrefused as a bearer token, and with another key", facts


async def revocation(stage: Stage, say: Callable[[str], None]) -> _Outcome:
    """The token is revoked, and what was let in a moment ago is refused."""
    del say
    office = _office(stage)
    done = await office.me.tokens.revoke(office.token)
    if done.outcome != "revoked":
        raise Broken(f"the token was to be revoked, and that is {done.outcome}")
    status = await _refused(office, office.me.tokens.dpop)
    return (
        "the token is revoked: the request that was let in before\nis refused now, with the right key, too",
        {"outcome": done.outcome, "status": status, "fingerprint": done.fingerprint},
    )


async def _refused(office: Office, key: DpopKey | None) -> int:
    """Call, and return the status of the refusal.

    Raises:
        Broken: It is none, or for another reason.
    """
    response = await office.present(key=key)
    challenge = response.headers.get("www-authenticate", "")
    if response.status_code != 401 or "invalid_token" not in challenge:
        raise Broken(f"the service answered {response.status_code} {challenge}".rstrip())
    return response.status_code


def _office(stage: Stage) -> Office:
    assert stage.office is not None  # an earlier scene went well
    return stage.office

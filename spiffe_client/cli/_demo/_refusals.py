"""What must be refused: an identity that is not allowed, one that is forged, one that was taken back."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import httpx

from spiffe_client.bundle import BundleSet
from spiffe_client.cli._demo._process import Broken
from spiffe_client.cli._demo._stage import CALLER, HOME, PARTNER, SERVER, Stage
from spiffe_client.http import AsyncClient
from spiffe_client.workload_api import WorkloadApiClient, X509Context

__all__ = ["call_as", "forgery", "stranger", "withdrawal"]

_Outcome = tuple[str, Mapping[str, object]]


async def call_as(stage: Stage, identity: X509Context) -> dict[str, str]:
    """Call the server with another identity.

    Raises:
        httpx.TransportError: It does not answer.
    """
    async with AsyncClient(peer=SERVER, workload=identity, trust_env=False) as http:
        answer: dict[str, str] = (await http.get(stage.url)).json()
    return answer


async def stranger(stage: Stage, say: Callable[[str], None]) -> _Outcome:
    """A genuine identity of the same trust domain, which nobody has allowed."""
    del say
    spiffe_id = f"spiffe://{HOME}/stranger"
    endpoint = await stage.home.endpoint_for(spiffe_id)
    context = await WorkloadApiClient(endpoint).fetch_x509_context()
    refusal = await _refused(stage, context, "not_allowed", spiffe_id)
    return f"{spiffe_id} is refused by name: not allowed by\n{refusal['rule']}", refusal


async def forgery(stage: Stage, say: Callable[[str], None]) -> _Outcome:
    """The allowed caller's ID, signed by an authority of another domain that the server trusts too."""
    del say
    forged = stage.partner.ca.forge_x509_svid(CALLER)
    bundles = BundleSet([stage.home.ca.x509_bundle, stage.partner.ca.x509_bundle])
    context = X509Context((forged,), bundles, forged)
    refusal = await _refused(stage, context, "foreign_authority", str(CALLER))
    return f"{PARTNER} signs the caller's ID, and is refused:\n{refusal['message']}", refusal


async def _refused(stage: Stage, context: X509Context, reason: str, peer: str) -> dict[str, object]:
    """Call, and return what the server says of its refusal.

    Raises:
        Broken: It did not refuse, or for another reason, or a request got through to the service.
    """
    before = (await stage.server.ask(do="count"))["requests"]
    try:
        answer = await call_as(stage, context)
    except httpx.TransportError:
        event = await stage.server.event("peer.refused")
    else:
        raise Broken(f"the server has answered {peer}: {answer}")
    said = event["attributes"]
    if (said["reason"], said.get("peer")) != (reason, peer):
        raise Broken(
            f"the server has refused {said.get('peer')} because of {said['reason']}: {event['message']}"
        )
    after = (await stage.server.ask(do="count"))["requests"]
    if after != before:
        raise Broken(f"a request got through to the service: {before} before, {after} after")
    return {"message": event["message"], **said}


async def withdrawal(stage: Stage, say: Callable[[str], None]) -> _Outcome:
    """The caller's registration is deleted: it can prove nothing any more, and calls nobody."""
    del say
    stage.home.deregister(CALLER)
    end = await stage.caller.ask(do="until_refused")
    # A call that was under way is cut off; from then on none begins.
    if not {"stale"} <= set(end["refusals"]) <= {"stale", "identity_unavailable"}:
        raise Broken(f"the caller still calls, or fails for another reason: {end}")
    return (
        f"{CALLER} is withdrawn by its issuer:\nafter {end['seconds']:.1f} s every call fails, before anything is sent",
        end,
    )

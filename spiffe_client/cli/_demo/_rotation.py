"""Every certificate is replaced again and again, and no request fails."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from spiffe_client._clock import SYSTEM_CLOCK
from spiffe_client.cli._demo._players import loading
from spiffe_client.cli._demo._process import Broken
from spiffe_client.cli._demo._stage import Stage

__all__ = ["rotation"]

_ROTATIONS = 20
#: Seconds from one to the next.
_EVERY = 0.1


async def rotation(stage: Stage, say: Callable[[str], None]) -> tuple[str, Mapping[str, object]]:
    """Replace all SVIDs often, and the authority itself once, while requests run."""
    await stage.caller.ask(do="load")
    async with loading():  # the other processes work, and nothing else is imported
        for number in range(1, _ROTATIONS + 1):
            await SYSTEM_CLOCK.sleep(_EVERY)
            await stage.home.rotate()
            if number == _ROTATIONS // 2:
                await stage.home.rotate_authority()
            calls, failed = stage.caller.progress.get("calls", 0), stage.caller.progress.get("failed", 0)
            say(f"rotation {number} of {_ROTATIONS} under load: {calls} calls, {failed} failed")
    load = await stage.caller.ask(do="stop")
    served = await stage.server.ask(do="count")
    facts = {
        "calls": load["calls"],
        "failed": len(load["failures"]),
        "rotations": _ROTATIONS,
        "authority_rotations": 1,
        "caller_certificates_seen": served["certificates"],
        "server_certificates_seen": load["certificates"],
    }
    if load["failures"]:
        raise Broken(f"{len(load['failures'])} of {load['calls']} calls failed: {load['failures'][0]}")
    if min(load["certificates"], served["certificates"]) < 3:
        raise Broken(f"new certificates were not put to use: {facts}")
    detail = (
        f"{load['calls']} calls, 0 failed,\n"
        f"while every SVID was replaced {_ROTATIONS} times and the root once;\n"
        f"in use: {served['certificates']} certificates of the caller, {load['certificates']} of the server"
    )
    return detail, facts

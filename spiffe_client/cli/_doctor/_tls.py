"""The last step of `doctor`: TLS as this Python does it, without a network."""

from __future__ import annotations

from spiffe_client.cli._doctor._patient import Ailment, Found, Patient
from spiffe_client.tls import self_test

__all__ = ["look_at_tls"]


async def look_at_tls(patient: Patient) -> Found:
    """Do three handshakes in memory come out as they must?"""
    del patient  # the identities of the test are its own
    results = self_test()
    for result in results:
        if not result.ok:
            raise Ailment(
                f"TLS on this machine does not verify peers as it must: {result.name}: {result.detail}",
                code=f"tls_{result.name}",
                advice="do not use it: report this with the versions of Python and OpenSSL",
            )
    return Found(
        "three handshakes in memory: the right peer is accepted, a forged one and a stranger are refused",
        {result.name: result.detail for result in results},
    )

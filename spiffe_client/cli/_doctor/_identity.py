"""Steps of `doctor` from an answer to an identity that others will accept."""

from __future__ import annotations

import os
import sys
from datetime import datetime

from spiffe_client._clock import SYSTEM_CLOCK
from spiffe_client._grpc import Limits
from spiffe_client.bundle import BundleSet, X509Bundle
from spiffe_client.cli._doctor._patient import Ailment, Found, Patient
from spiffe_client.cli._facts import span, until
from spiffe_client.cli._report import timestamp
from spiffe_client.errors import SpiffeError
from spiffe_client.svid import X509Svid, examine_x509_svid
from spiffe_client.workload_api._messages import Empty, X509SvidResponse
from spiffe_client.workload_api._rpc import Caller
from spiffe_client.workload_api._x509 import read_x509_context

__all__ = ["look_at_chain", "look_at_clock", "look_at_expiry", "look_at_issuance", "who_asks"]


async def look_at_issuance(patient: Patient) -> Found:
    """Does this process get an identity, and is it one (X509-SVID §2-4)?"""
    caller = Caller(patient.endpoint, timeout=patient.timeout, limits=Limits())
    patient.answer = await caller.first("FetchX509SVID", Empty())
    response = X509SvidResponse.decode(patient.answer)
    patient.svids = tuple(
        X509Svid.parse_der(e.x509_svid, e.x509_svid_key, hint=e.hint) for e in response.svids
    )
    if not patient.svids:
        raise Ailment(
            "the Workload API answers without an identity",
            code="no_identity_issued",
            advice="register this process with the issuer (its user, path or pod)",
        )
    bundles = {
        svid.id.trust_domain: X509Bundle.parse_der(svid.id.trust_domain, entry.bundle)
        for svid, entry in zip(patient.svids, response.svids, strict=True)
    }
    patient.bundles = BundleSet(bundles.values())
    ids = [str(svid.id) for svid in patient.svids]
    return Found(f"this process is {', '.join(ids)}", {"ids": ids})


def who_asks() -> Found:
    """Say who this process is, as registrations have it."""
    uid, gid, pid, path = os.geteuid(), os.getegid(), os.getpid(), os.path.realpath(sys.executable)
    return Found(
        f"asked by uid {uid}, gid {gid}, pid {pid}, executable {path}",
        {"uid": uid, "gid": gid, "pid": pid, "path": path},
    )


async def look_at_clock(patient: Patient) -> Found:
    """Is this machine's clock behind the issuer's?"""
    now = SYSTEM_CLOCK.now()
    newest = max(svid.not_before for svid in patient.svids)
    if newest > now:
        behind = span((newest - now).total_seconds())
        raise Ailment(
            f"this machine's clock says {timestamp(now)}, and the identity is valid only from {timestamp(newest)}",
            code="clock_behind",
            advice=f"set the clock: it is at least {behind} behind the issuer's (is NTP running?)",
        )
    return Found(f"{timestamp(now)}, not behind the issuer's", {"now": timestamp(now)})


async def look_at_expiry(patient: Patient) -> Found:
    """Is the identity still valid?"""
    now = SYSTEM_CLOCK.now()
    ends: datetime = min(svid.not_after for svid in patient.svids)
    if ends <= now:
        raise Ailment(
            f"the identity expired at {until(ends, now)}, and the Workload API still hands it out",
            code="expired",
            advice="can the agent reach its server? its log says; or this machine's clock is ahead",
        )
    return Found(f"valid until {until(ends, now)}", {"not_after": timestamp(ends)})


async def look_at_chain(patient: Patient) -> Found:
    """Does the chain lead to the bundle that came with it, and is the rest of the answer of use?"""
    now = SYSTEM_CLOCK.now()
    for svid in patient.svids:
        for check in examine_x509_svid(svid.chain, patient.bundles, at=now):
            if not check.ok:
                raise Ailment(
                    f"{svid.id}: {check.detail} ({check.section})",
                    code=f"chain_{check.name}",
                    advice="nobody will accept it: restart the agent; if it stays so, look at the server's authority",
                )
    left_out: list[SpiffeError] = []
    context = read_x509_context(patient.answer, at=now, refused=left_out.append)
    if left_out:
        raise Ailment(
            str(left_out[0]),
            code="bundle_invalid",
            advice="workloads of that trust domain are not trusted here until its bundle is mended",
        )
    domains = [str(domain) for domain in context.bundles]
    return Found(f"leads to its bundle; trusts {', '.join(domains)}", {"trust_domains": domains})

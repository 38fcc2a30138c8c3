"""`spiffe-client bundles`: which authorities of which trust domains are trusted."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from spiffe_client._clock import SYSTEM_CLOCK
from spiffe_client.bundle import BundleSet, JwtBundle, SpiffeBundle, X509Bundle
from spiffe_client.cli._asking import LeftOut, client_for, events_to, refuse_together
from spiffe_client.cli._exit import Exit, UsageError
from spiffe_client.cli._facts import certificate_facts, key_kind, sha256, until
from spiffe_client.cli._lines import Line, line, pair, verbatim
from spiffe_client.cli._report import Report, timestamp
from spiffe_client.errors import BundleError, BundleNotFoundError, StaleError
from spiffe_client.ids import TrustDomain
from spiffe_client.sources import BundleSource
from spiffe_client.workload_api import WorkloadApiClient

__all__ = ["run"]


@dataclass(frozen=True, slots=True)
class _Bundles:
    """Of both kinds; None for the kind that was not asked for."""

    x509: BundleSet[X509Bundle] | None
    jwt: BundleSet[JwtBundle] | None

    @property
    def trust_domains(self) -> list[TrustDomain]:
        return sorted({*(self.x509 or ()), *(self.jwt or ())})

    def of(self, domain: TrustDomain) -> SpiffeBundle:
        """Both kinds of one trust domain together."""
        if domain not in self.trust_domains:
            raise BundleNotFoundError(domain)
        x509 = None if self.x509 is None else self.x509.get(domain)
        jwt = None if self.jwt is None else self.jwt.get(domain)
        return SpiffeBundle(
            domain,
            x509_authorities=() if x509 is None else x509.authorities,
            jwt_authorities=() if jwt is None else jwt.authorities,
        )


async def run(arguments: argparse.Namespace, report: Report) -> int:
    """Fetch once, or watch."""
    refuse_together(arguments, "document", "json")
    refuse_together(arguments, "document", "watch")
    only: TrustDomain | None = arguments.trust_domain
    if arguments.document and only is None:
        raise UsageError(
            "--document needs --trust-domain: a document is of one", command="spiffe-client bundles"
        )
    client = client_for(arguments)
    if arguments.watch:
        return await _watch(client, only, arguments, report)
    left_out = LeftOut()
    with report.working("asking the Workload API"):
        bundles = await _fetch(client, arguments.type, left_out)
    if arguments.document and only is not None:
        report.give({}, [verbatim(bundles.of(only).to_json().decode())])
    else:
        _give(bundles, only, left_out, arguments, report)
    return Exit.FINE


async def _fetch(client: WorkloadApiClient, kind: str, left_out: LeftOut) -> _Bundles:
    return _Bundles(
        None if kind == "jwt" else await client.fetch_x509_bundles(refused=left_out.add),
        None if kind == "x509" else await client.fetch_jwt_bundles(refused=left_out.add),
    )


async def _watch(
    client: WorkloadApiClient, only: TrustDomain | None, arguments: argparse.Namespace, report: Report
) -> int:
    source = BundleSource(client, timeout=arguments.timeout, on_event=events_to(report))
    with report.working("watching, until Ctrl-C"):
        async with source:
            while True:
                _give(_held(source, arguments.type), only, LeftOut(), arguments, report)
                await source.wait_updated()


def _held(source: BundleSource, kind: str) -> _Bundles:
    x509: BundleSet[X509Bundle] = BundleSet()
    jwt: BundleSet[JwtBundle] = BundleSet()
    with suppress(StaleError):  # withdrawn, which an event has said already
        x509 = source.x509_bundles
    with suppress(StaleError):
        jwt = source.jwt_bundles
    return _Bundles(None if kind == "jwt" else x509, None if kind == "x509" else jwt)


def _give(
    bundles: _Bundles,
    only: TrustDomain | None,
    left_out: LeftOut,
    arguments: argparse.Namespace,
    report: Report,
) -> None:
    # Who watches for one trust domain also wants to see it go.
    gone = only is not None and arguments.watch and only not in bundles.trust_domains
    domains = bundles.trust_domains if only is None else [] if gone else [only]
    wanted = [bundles.of(d) for d in domains]
    now = timestamp(SYSTEM_CLOCK.now())
    report.give(
        {"time": now, "bundles": [_record(b) for b in wanted], "left_out": left_out.records()},
        [*_lines(wanted, now, arguments), *left_out.lines()],
    )


def _record(bundle: SpiffeBundle) -> dict[str, object]:
    return {
        "trust_domain": str(bundle.trust_domain),
        "x509_authorities": [certificate_facts(c) for c in bundle.x509_authorities],
        "jwt_authorities": [
            {"key_id": a.key_id, "algorithm": a.alg, "key": key_kind(a.public_key)}
            for a in bundle.jwt_authorities
        ],
        "document": _document(bundle),
    }


def _document(bundle: SpiffeBundle) -> object:
    try:
        return json.loads(bundle.to_json())
    except BundleError:  # an authority whose key has no JSON form
        return None


def _lines(bundles: list[SpiffeBundle], now: str, arguments: argparse.Namespace) -> Iterator[Line]:
    if arguments.watch:
        yield line((now, "faint"))
    for bundle in bundles:
        yield line((str(bundle.trust_domain), "name"))
        for certificate in bundle.x509_authorities:
            yield pair("X.509", f"{sha256(certificate)[:16]}…  {certificate.subject.rfc4514_string()}")
            yield pair("", f"expires {until(certificate.not_valid_after_utc, SYSTEM_CLOCK.now())}")
        for authority in bundle.jwt_authorities:
            yield pair("JWT", f"{authority.key_id or 'no key id'}, {key_kind(authority.public_key)}")
        if not bundle.x509_authorities and not bundle.jwt_authorities:
            yield pair("", "no authorities: nothing from it is trusted")

"""Steps of `doctor` from a token broker's name to its metadata."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from email.utils import parsedate_to_datetime
from functools import partial
from types import TracebackType
from typing import Self, TypeAlias

from spiffe_client._clock import SYSTEM_CLOCK
from spiffe_client.cli._asking_broker import (
    CurrentIdentity,
    authentication_of,
    check_secret,
    needs_identity,
    trust_of,
)
from spiffe_client.cli._broker_trouble import trouble_with
from spiffe_client.cli._doctor._broker_client import (
    Consultation,
    look_at_client,
    look_at_exchange,
    look_at_offers,
    what_was_tried,
)
from spiffe_client.cli._doctor._patient import Ailment, Examination, Found, Patient
from spiffe_client.cli._facts import span
from spiffe_client.cli._failure import failure_of
from spiffe_client.cli._report import timestamp
from spiffe_client.cli._wanted import request_for, subject_of
from spiffe_client.errors import DiscoveryError, TokenBrokerUnavailableError, TokenProtocolError
from spiffe_client.tokens import Metadata, SpiffePeer
from spiffe_client.tokens._channel import Channel
from spiffe_client.tokens._discovery import well_known_urls
from spiffe_client.tokens._http import get
from spiffe_client.tokens._origin import origin_of
from spiffe_client.tokens._reply import Reply, read_object

__all__ = ["Practice"]

_Look: TypeAlias = Callable[[Consultation], Awaitable[Found]]

#: Seconds that clocks may differ: what token brokers and services forgive at least.
_FORGIVEN = 30.0
_AN_ISSUER = "write it like https://tokens.prod.example, without query and fragment; http is for this machine alone: http://127.0.0.1:PORT"


class Practice:
    """The steps for one token broker; an async context manager around walking them.

    Args:
        case: What is found out on the way.

    Attributes:
        identity: Whether the way to an identity is walked first: one is needed, or it was said where.
    """

    def __init__(self, case: Consultation) -> None:
        self._case = case
        self._stack = AsyncExitStack()
        self.identity: bool = case.identity or case.own or case.arguments.socket is not None

    @classmethod
    async def of(cls, arguments: argparse.Namespace) -> Practice:
        """Make one as the command line says.

        Raises:
            UsageError: It makes no sense.
            TokenRequestError: There is no token in the file that is to be exchanged.
            OSError: A file cannot be read.
        """
        check_secret(arguments)
        trust = trust_of(arguments)
        # Before anything is looked at: what is malformed is refused.
        request = request_for(arguments, await subject_of(arguments)) if _asks(arguments) else None
        identity = needs_identity(arguments, trust, arguments.binding)
        return cls(Consultation(arguments, trust, authentication_of(arguments, trust), identity, request))

    async def __aenter__(self) -> Self:
        self._case.stack = await self._stack.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    @property
    def steps(self) -> Sequence[Examination]:
        """In the order in which one needs the other."""
        case = self._case
        spiffe, identity = isinstance(case.trust, SpiffePeer), case.identity

        def step(name: str, look: _Look, *, vital: bool = True, needs: bool = False) -> Examination:
            return Examination(name, partial(_for, look, case), vital, needs_identity=needs)

        steps = [
            step("token_broker", look_at_reach, needs=spiffe),
            step("broker_clock", look_at_clock, vital=False),
            step("discovery", look_at_discovery),
            # What it does not offer may not be what is asked for.
            step("offers", look_at_offers, vital=False),
            step("client", look_at_client, needs=identity),
        ]
        if case.request is not None:
            exchange = step("exchange", partial(look_at_exchange, case.request), needs=identity or case.own)
            steps.append(replace(exchange, about=partial(what_was_tried, case.request)))
        return steps


def _asks(arguments: argparse.Namespace) -> bool:
    """Whether a token is to be asked for: it is said what for, or whose is exchanged."""
    what = (arguments.scope, arguments.audience, arguments.resource, arguments.details)
    return any(what) or arguments.client_credentials or arguments.subject_token_file is not None


async def _for(look: _Look, case: Consultation, patient: Patient) -> Found:
    del patient  # who it is, is known from the steps before
    return await look(case)


async def look_at_reach(case: Consultation) -> Found:
    """Does it answer, and is it who it must be?"""
    url = _first_url(case.issuer)
    identity = await CurrentIdentity.fetch(case.arguments) if isinstance(case.trust, SpiffePeer) else None
    case.channel = Channel(case.trust, identity=identity)
    case.stack.push_async_callback(case.channel.aclose)
    try:
        case.first = await get(case.channel, url, timeout=case.timeout)
    except TokenBrokerUnavailableError as error:
        raise _unreachable(error) from error
    except TokenProtocolError as error:
        # A redirect, for example: it answers, and discovery says what of it is wrong.
        case.first = error
    origin = origin_of(case.issuer)
    facts = {"origin": str(origin), "tls": origin.scheme == "https"}
    if origin.scheme == "http":
        return Found(f"{origin} answers, without TLS: it is this machine", facts)
    return Found(f"{origin} answers; its certificate is good, by {_authorities(case)}", facts)


def _first_url(issuer: str) -> str:
    try:
        return well_known_urls(issuer)[0]
    except DiscoveryError as error:
        raise Ailment(str(error), code=error.code, advice=_AN_ISSUER) from error


def _authorities(case: Consultation) -> str:
    if isinstance(case.trust, SpiffePeer):
        return f"the bundle of its trust domain: {case.arguments.broker_id}"
    return "the system's authorities" if case.arguments.ca is None else f"those in {case.arguments.ca}"


def _unreachable(error: TokenBrokerUnavailableError) -> Ailment:
    code, advice = trouble_with(error) or (error.code, failure_of(error, "doctor").advice)
    return Ailment(str(error), code=code, advice=advice)


async def look_at_clock(case: Consultation) -> Found:
    """Do this machine and the token broker agree about the time (RFC 9110 §6.6.1)?"""
    said = case.first.headers.get("date", "") if isinstance(case.first, Reply) else ""
    now = SYSTEM_CLOCK.now()
    try:
        theirs = parsedate_to_datetime(said)
        ahead = (now - theirs).total_seconds()
    except (ValueError, TypeError, OverflowError):  # none; or one without a zone
        return Found("the token broker does not say what time it is")
    if abs(ahead) > _FORGIVEN:
        raise Ailment(
            f"this machine's clock is {span(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'} the token "
            f"broker's ({timestamp(theirs)}): assertions and proofs are refused as too old, or not valid yet",
            code="clock_differs",
            advice="set the clock that is wrong (is NTP running, here and there?)",
        )
    return Found(f"within {_FORGIVEN:g} s of the token broker's", {"ahead": round(ahead, 1)})


async def look_at_discovery(case: Consultation) -> Found:
    """Where is its metadata, and is it about this issuer (RFC 8414 §3)?"""
    misses: list[str] = []
    for url in well_known_urls(case.issuer):
        try:
            reply = case.take_first() or await get(case.channel, url, timeout=case.timeout)
            document = _document(reply)
        except TokenProtocolError as error:
            misses.append(f"{url}: {error}")
            continue
        case.metadata = _read(document, url, case)
        facts = {"url": url, "issuer": case.issuer, "token_endpoint": case.metadata.token_endpoint}
        return Found(f"{url}\nis of {case.issuer}, exactly", facts)
    raise Ailment(
        "\n".join(["no metadata was found:", *misses]),
        code="discovery",
        advice="is that its issuer identifier, with its path? one without metadata works by Metadata(…) in code",
    )


def _document(reply: Reply) -> dict[str, object]:
    if reply.status != 200:
        raise TokenProtocolError(f"HTTP status {reply.status}", status=reply.status)
    return read_object(reply)


def _read(document: dict[str, object], url: str, case: Consultation) -> Metadata:
    try:
        return Metadata.read(document, case.issuer, allowed_origins=case.arguments.allow_origin)
    except DiscoveryError as error:
        if document.get("issuer") != case.issuer:
            advice = "if that is whom you mean, say --token-broker exactly as its metadata does"
        else:
            advice = "if its endpoints are elsewhere on purpose, say so with --allow-origin; else it is misconfigured"
        raise Ailment(f"{url}: {error}", code="discovery", advice=advice) from error

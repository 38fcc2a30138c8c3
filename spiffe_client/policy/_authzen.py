"""Asking a decision point that speaks AuthZEN (Authorization API 1.0)."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, Self

import anyio

from spiffe_client._clock import SYSTEM_CLOCK, Clock
from spiffe_client._retry import Backoff
from spiffe_client.errors import PolicyError
from spiffe_client.policy._authzen_metadata import AuthZenMetadata, well_known_url
from spiffe_client.policy._authzen_wire import (
    ResourceType,
    Semantic,
    evaluation_of,
    is_settled,
    not_evaluated,
    read_evaluation,
    read_evaluations,
    type_of_action,
    unambiguous_batches,
)
from spiffe_client.policy._combined import unavailable
from spiffe_client.policy._decision import Decision, Question
from spiffe_client.policy._exchange import Document, Exchange, Failure

if TYPE_CHECKING:
    import httpx

__all__ = ["AuthZenPdp"]

_BACKOFF: Final = Backoff(first=0.05, cap=0.5)
_TRIES: Final = 3


class AuthZenPdp:
    """A decision point: asked about each call, and whatever is not a clear yes from it is a no.

    Only status 200 with JSON's `true` allows. A `false` is `decision_point_denied`; everything else
    is `decision_point_unavailable`, and the decision's evidence has the cause. Connections that fail
    and the statuses 429, 502, 503 and 504 are tried again while there is time.

    Use it as `async with`, or call `aclose`, unless the client is yours.

    Args:
        url: The decision point's identifier: https, or http to a loopback address.
        client: An `httpx.AsyncClient` of yours, such as `me.http(peer=…)` or one that reaches a unix
            socket; None for one of its own, which trusts the web PKI.
        timeout: Seconds for a decision, with all tries.
        discover: Whether to read the endpoints from its metadata, before the first decision; else they
            are at their usual places below `url`.
        resource_type: Says of what type a question's resource is; by default what stands before the
            last colon of the action, such as `invoices` for `invoices:read`.
        clock: Waits between the tries.

    Raises:
        PolicyError: `url` may not be asked: answers could be changed on their way.
    """

    def __init__(
        self,
        url: str,
        *,
        client: httpx.AsyncClient | None = None,
        timeout: float = 1.0,
        discover: bool = False,
        resource_type: ResourceType = type_of_action,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._usual = AuthZenMetadata.of(url)
        self._metadata = None if discover else self._usual
        self._exchange = Exchange(client)
        self._timeout = timeout
        self._resource_type = resource_type
        self._clock = clock
        self.url = url

    def __repr__(self) -> str:
        return f"AuthZenPdp({self.url!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections, unless the client is the caller's; every decision is a denial from then on."""
        await self._exchange.aclose()

    async def metadata(self) -> AuthZenMetadata:
        """Return where its endpoints are; asked once, where they are to be discovered.

        Raises:
            PolicyError: The metadata cannot be had in time, or is not this decision point's.
        """
        if self._metadata is None:
            with anyio.move_on_after(self._timeout):
                found = await self._discovered()
                if isinstance(found, AuthZenMetadata):
                    return found
                raise PolicyError(f"the metadata of {self.url} cannot be used: {found.evidence}")
            raise PolicyError(f"{self.url} did not give its metadata within {self._timeout:g} s")
        return self._metadata

    async def decide(self, question: Question) -> Decision:
        """Ask about one call; see `Decider.decide`."""
        answer = await self._ask("access_evaluation_endpoint", evaluation_of(question, self._resource_type))
        if isinstance(answer, Decision):
            return answer
        return read_evaluation(answer, policy=self.url)

    async def decide_all(
        self, questions: Sequence[Question], *, semantic: Semantic = "execute_all"
    ) -> tuple[Decision, ...]:
        """Ask about several calls in one request; in several, where a decision point may take one for another.

        Args:
            questions: In the order that matters to `semantic`.
            semantic: `deny_on_first_deny` and `permit_on_first_permit` stop at the first such decision:
                what comes after it was not evaluated, and is denied.

        Returns:
            A decision for each question, in their order.
        """
        documents = [evaluation_of(question, self._resource_type) for question in questions]
        late = unavailable(self.url, cause="timeout")
        decisions: list[Decision] = []
        with anyio.move_on_after(self._timeout):
            for batch in unambiguous_batches(documents):
                decisions += await self._batch(batch, semantic)
                if is_settled(decisions, semantic):
                    late = not_evaluated(self.url)
                    break
        return (*decisions, *[late] * (len(questions) - len(decisions)))

    async def _batch(self, batch: Sequence[Document], semantic: Semantic) -> tuple[Decision, ...]:
        document = {"evaluations": batch, "options": {"evaluations_semantic": semantic}}
        answer = await self._ask("access_evaluations_endpoint", document)
        if isinstance(answer, Decision):
            return (answer,) * len(batch)
        return read_evaluations(answer, len(batch), policy=self.url)

    async def _ask(self, endpoint: str, document: Mapping[str, object]) -> Document | Decision:
        request_id = secrets.token_hex(16)
        answer: Document | Failure | None = None
        with anyio.move_on_after(self._timeout) as deadline:
            metadata = self._metadata or await self._discovered()
            if isinstance(metadata, Failure):
                answer = metadata
            elif (url := getattr(metadata, endpoint)) is None:
                answer = Failure("unsupported")
            else:
                answer = await self._tried(url, document, request_id, deadline)
        if answer is None:
            answer = Failure("timeout")
        if isinstance(answer, Failure):
            return unavailable(self.url, **answer.evidence, request=request_id)
        return answer

    async def _tried(
        self, url: str, document: Mapping[str, object], request_id: str, deadline: anyio.CancelScope
    ) -> Document | Failure:
        tries = 0
        while True:
            answer = await self._exchange.post(url, document, request_id=request_id)
            tries += 1
            if not isinstance(answer, Failure) or not answer.retryable or tries == _TRIES:
                return answer
            pause = max(_BACKOFF.delay(tries), answer.retry_after)
            # Said now, and not when the time is over: the answer would be the same.
            if anyio.current_time() + pause >= deadline.deadline:
                return answer
            await self._clock.sleep(pause)

    async def _discovered(self) -> AuthZenMetadata | Failure:
        document = await self._exchange.get(well_known_url(self.url))
        if isinstance(document, Failure):
            return document
        try:
            self._metadata = AuthZenMetadata.read(document, self.url)
        except PolicyError:
            return Failure("metadata")
        return self._metadata

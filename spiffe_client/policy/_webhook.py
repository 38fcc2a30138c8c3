"""An approver behind an HTTP address: a chat bot, a ticket system, an approval service."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Self

import anyio

from spiffe_client._clock import SYSTEM_CLOCK, Clock
from spiffe_client.errors import DecisionUnavailableError
from spiffe_client.policy._address import check_address
from spiffe_client.policy._approval import Approval, ApprovalRequest
from spiffe_client.policy._combined import unavailable
from spiffe_client.policy._exchange import Document, Exchange, Failure

if TYPE_CHECKING:
    import httpx

__all__ = ["WebhookApprover"]


class WebhookApprover:
    """Posts the request as JSON, and waits for the reply until the request expires.

    The request has `id`, `agent`, `task`, `tenant`, `purpose`, `action`, `resource`, `arguments`,
    `digest` (of all that it is about), `expires_at` and `text`. The reply is status 200 with
    `{"approved": true, "approver": "…", "id": …, "digest": …}`, the last two as they were in the
    request; `"approved": false` is a no. Nothing is sent twice: people would be asked twice.

    Use it as `async with`, or call `aclose`, unless the client is yours.

    Args:
        url: https, or http to a loopback address.
        client: An `httpx.AsyncClient` of yours, such as `me.http(peer=…)`; None for one of its own,
            which trusts the web PKI.
        clock: For when.

    Raises:
        PolicyError: `url` may not be asked: answers could be changed on their way.
    """

    def __init__(
        self, url: str, *, client: httpx.AsyncClient | None = None, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self.url: str = check_address(url, "approval webhook")
        self._exchange = Exchange(client)
        self._clock = clock

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections, unless the client is the caller's."""
        await self._exchange.aclose()

    async def approve(self, request: ApprovalRequest) -> Approval | None:
        """See `Approver.approve`.

        Raises:
            DecisionUnavailableError: There is no answer, or none to this request.
        """
        left = (request.expires_at - self._clock.now()).total_seconds()
        answer: Document | Failure = Failure("timeout")
        with anyio.move_on_after(left):
            answer = await self._exchange.post(self.url, _document(request), request_id=request.id)
        if isinstance(answer, Failure):
            raise self._unanswered(answer)
        approved, approver = answer.get("approved"), answer.get("approver")
        if approved is False:
            return None
        same = answer.get("id") == request.id and answer.get("digest") == request.digest
        if approved is not True or not same or not isinstance(approver, str):
            raise self._unanswered(Failure("malformed" if same else "another_request"))
        return request.approve(by=approver, clock=self._clock)

    def _unanswered(self, failure: Failure) -> DecisionUnavailableError:
        return DecisionUnavailableError(
            f"the approval webhook gave no answer that counts ({failure.cause})",
            decision=unavailable(self.url, **failure.evidence),
        )


def _document(request: ApprovalRequest) -> Document:
    return {
        "id": request.id,
        "agent": str(request.agent),
        "task": request.task,
        "tenant": request.tenant,
        "purpose": request.purpose,
        "action": request.action,
        "resource": request.resource,
        "arguments": request.arguments,
        "digest": request.digest,
        "expires_at": request.expires_at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "text": request.text,
        "shown": request.shown,
    }

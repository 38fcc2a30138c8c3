"""One guarded call: decided, bound, carried out, recorded; then closed for good."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Final, NoReturn, Self, TypeVar

from spiffe_client._door import Door
from spiffe_client.agents._admission import admit, consult, refused, same_call, take_turn
from spiffe_client.agents._arguments import arguments_digest, arguments_text
from spiffe_client.agents._authority import authority_of
from spiffe_client.agents._context import CALL
from spiffe_client.agents._credentials import CallCredentials, copied, over
from spiffe_client.agents._permit import Permit, permit_of
from spiffe_client.agents._records import Outcome, record_call
from spiffe_client.agents._scope import Scope
from spiffe_client.agents._scrub import scrub_error, scrubbed, shows_nothing
from spiffe_client.agents._spans import CallSpan, call_span
from spiffe_client.agents._taking_back import give_back, withdraw_single
from spiffe_client.errors import TaskError

if TYPE_CHECKING:
    from spiffe_client.agents._authority import Authority
    from spiffe_client.agents._task import Task
    from spiffe_client.policy import Approver, Decision
    from spiffe_client.tokens import AccessToken

__all__ = ["Call"]

_T = TypeVar("_T")

#: Characters of arguments that a person is shown.
_LONGEST: Final = 4000


class Call(CallCredentials):
    """Made by `Task.call` or by a guarded tool; `async with` decides, and raises if it may not be.

    `with` does the same for code that blocks in a thread. Nothing that it hands out is of any use
    once it has ended, wherever a copy was left.

    Attributes:
        id: Of this host alone: a random beginning, and a number.
        in_place: Whether its task's cancel scope will do, as for one that nobody ends alone (see `Scope.innermost`).
        task: Whose it is.
        permit: What that task has of the action, which is this one's for good.
        begun_at: When it was begun, in monotonic seconds; None before that.
        resource: To what; empty for nothing that has a name.
        classification: How confidential that is.
        digest: SHA-256 of the arguments, base64url; None if they are not JSON.
        decision: What was decided; None before that.
        authority: What it is made with; None if the action has no token.
        approver: Who is asked in place of the host's; None for the host's.
        approval: The id of the approval it was made with; empty if it needed none.
        replayable: Whether it may be made again, and is counted once.
        token: Of that authority.
        redacted: How many secrets were taken out of what came back.
    """

    replayable: bool = False
    approval: str = ""
    redacted: int = 0
    decision: Decision | None = None
    authority: Authority | None = None
    token: AccessToken | None = None
    begun_at: float | None = None
    _scope: Scope | None = None
    _outer: Call | None = None
    _span: CallSpan | None = None
    _single: Sequence[Authority] = ()
    _inside: bool = False
    _open: bool = False

    def __init__(
        self,
        task: Task,
        action: str,
        resource: str,
        *,
        arguments: Mapping[str, object],
        classification: str = "",
        call_id: str = "",
        approver: Approver | None = None,
        in_place: bool = False,
    ) -> None:
        self.task: Task = task
        self.resource: str = resource
        self.classification: str = classification
        self.digest: str | None = arguments_digest(arguments) if arguments else ""
        self._arguments: Mapping[str, object] | None = arguments  # until it is decided
        self.approver: Approver | None = approver
        self.permit: Permit = task.permits.get(action) or permit_of(task, action)
        self.in_place: bool = in_place
        self.id: str = task.host.new_id()
        if call_id:  # made again, as after a pause for a person, it is the same call
            self.id, self.replayable = same_call(task, (call_id, action, resource, self.digest), self.id)

    def __reduce__(self) -> NoReturn:
        raise copied(self)

    def __repr__(self) -> str:
        return f"Call({self.id}, {self.action!r:.60}, {'open' if self._open else 'closed'})"

    async def __aenter__(self) -> Self:
        scope = self.task.inside(in_place=self.in_place)
        self._begin()
        self._scope, self.in_place = scope, scope is None  # from here on the task's end is this one's
        if scope is not None:
            scope.__enter__()
        try:
            decision = admit(self)
            if decision.obligations or self.task.host.points is not None:
                decision = await consult(self, decision)
            authority = self.authority = authority_of(self.task, self)
            if authority is not None:
                self.token = authority.peek() or await authority.fetch()
            self._enter(decision)
        except BaseException as error:  # noqa: BLE001 - raised below, as a denial where it is one
            self._leave()
            if scope is not None:
                scope.__exit__(type(error), error, error.__traceback__)
            told = refused(self, self.task.ending() if scope is not None and scope.caught else error)
            await give_back(self.task, self._single)  # what came, and too late
            raise told from told.__cause__
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        scope = self._scope
        self._leave()
        passes = kind is not None and not issubclass(kind, Exception)
        try:
            if scope is not None:
                scope.__exit__(kind, error, trace)
        finally:  # the scope raises if it is left in the wrong order, as in a generator
            # What a thread, which cannot be stopped, brings back after the end is nobody's any more.
            caught = (scope is not None and scope.caught) or (self.task.ended is not None and not passes)
            self._record(error, cancelled=caught or passes)
        if self._single:
            await give_back(self.task, self._single)
        if caught:
            raise self.task.ending() from None
        return False

    def __enter__(self) -> Self:
        self._begin()
        self.in_place = False  # a thread is in no scope
        try:
            decision = admit(self)
            if decision.obligations or self.task.host.points is not None:
                decision = self.task.host.loop.wait_for(self._consult, decision)
            authority = self.authority = authority_of(self.task, self)
            if authority is not None:
                self.token = authority.peek() or authority.fetch_blocking()
            self._enter(decision)
        except BaseException as error:  # noqa: BLE001 - raised below, as a denial where it is one
            self._leave()
            told = refused(self, error)
            if self._single:
                self.task.host.loop.try_for(give_back, self.task, self._single)
            raise told from told.__cause__
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()
        self._record(error, cancelled=self.task.ended is not None)
        if self._single:
            self.task.host.loop.try_for(give_back, self.task, self._single)
        if self.task.ended is not None:
            raise self.task.ending() from error

    def refuse(self) -> None:
        """Return while the call is going on.

        Raises:
            TaskEndedError: It has ended, or its task has.
        """
        if not self._open:
            raise over(self)
        self.task.refuse(self.task.host.clock.monotonic())

    def shown(self) -> str | None:
        """Return the arguments for a person to read; None if they were changed since, or it is decided."""
        if self._arguments is None or self.digest is None:
            return None
        if (text := arguments_text(self._arguments, self.digest)) is None:
            return None
        clean, _ = scrubbed(text, ())  # before it is cut: half a token is none to look at
        more = len(clean) - _LONGEST
        return f"{clean[:_LONGEST]}… ({more} more)" if more > 0 else clean

    def secrets(self) -> list[str]:
        """Return the texts that must not get out with what comes back."""
        return [] if self.token is None else [self.token.token.reveal()]

    def clean(self, result: _T) -> _T:
        """Return what came back without tokens and keys.

        Raises:
            TypeError: It would run after the call has ended.
        """
        secrets = self.secrets()
        if shows_nothing(result, secrets):
            return result
        result, found = scrubbed(result, secrets)
        self.redacted += found
        return result

    def clean_error(self, error: BaseException) -> None:
        """Take tokens and keys out of an exception, and out of all that it leads to.

        Raises:
            TaskError: There is one that cannot be taken out.
        """
        found, left = scrub_error(error, self.secrets())
        self.redacted += found
        if left:
            raise TaskError("the tool failed, and its error is not shown: a credential is in it") from None

    def cancel(self) -> None:
        """End it, from any thread; where it is in its task's place, which can only end together, that task."""
        self.task.end("cancelled", "a call of it was cancelled") if self.in_place else self.end()

    def end(self) -> bool:
        """End it with its task; return whether that has to cancel its own scope."""
        self._open = False
        if self._scope is not None:
            self._scope.cancel()
        return self.in_place

    @property
    def action(self) -> str:
        """What is done, as the contract calls it."""
        return self.permit.action

    @property
    def seconds(self) -> float:
        """How long it has been going on."""
        return self.task.host.clock.monotonic() - (self.begun_at or 0.0)

    def _begin(self) -> None:
        task = self.task
        if self.begun_at is not None:
            raise over(self, "this call was made before; make a new one")
        self.begun_at = task.host.clock.monotonic()
        if self.id in task.calls:  # made again while it goes on, it is another one
            self.id, self.replayable = task.host.new_id(), False
        task.calls[self.id] = self

    def _enter(self, decision: Decision) -> None:
        # The task may have ended while this waited for a decision, a person or a token.
        task = self.task
        task.refuse(task.host.clock.monotonic())
        if self.permit.ordered:
            take_turn(self)
        else:
            task.previous = self.permit.action
        self.decision, self._arguments, self._outer = decision, None, CALL.get()
        CALL.set(self)
        self._inside = self._open = True
        self._span = call_span(self)

    def _leave(self) -> None:
        if self._inside:
            CALL.set(self._outer)
        self._open = False
        if self._span is not None:
            self._span.leave()
        self.task.calls.pop(self.id, None)
        if self.permit.sensitive:
            self._single = withdraw_single(self.task, self.id)

    async def _consult(self, decision: Decision) -> Decision:
        # On the host's loop, for a thread, which nobody can cancel: so it is this that ends with its task.
        scope = self._scope = Scope(Door())
        with scope:
            self.task.refuse(self.task.host.clock.monotonic())
            return await consult(self, decision)
        raise self.task.ending()

    def _record(self, error: BaseException | None, *, cancelled: bool) -> None:
        outcome: Outcome = "cancelled" if cancelled else "ok" if error is None else "error"
        if self._span is not None:
            self._span.end(outcome, error)
        record_call(self, outcome, error)

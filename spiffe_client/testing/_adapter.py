"""What the suite asks an adapter for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Final

import pytest

from spiffe_client.testing._play import Play, ToolCall
from spiffe_client.testing._scene import Scene, Way

__all__ = ["WAYS", "AdapterChecks", "denied", "read_order", "the_task_is_over"]

#: Parametrizes a check over all ways to run a script.
WAYS: Final = pytest.mark.parametrize("way", ["async", "async, blocking tools", "blocking"])


class AdapterChecks(ABC):
    """The part of `AdapterContract` that a subclass fills in."""

    pytestmark: pytest.MarkDecorator = pytest.mark.anyio

    #: Ways in which the framework runs a script; checks of others are skipped.
    ways: ClassVar[frozenset[Way]] = frozenset(("async", "async, blocking tools", "blocking"))
    #: Whether the framework has ids for calls, and the adapter passes them on.
    has_call_ids: ClassVar[bool] = True
    #: Whether tools are told apart by names that a gate lists.
    has_gate: ClassVar[bool] = True
    #: Whether a call that needs a person's approval pauses the framework's run. If not, the agent's
    #: own approver is asked.
    pauses: ClassVar[bool] = True

    @abstractmethod
    async def run(self, play: Play) -> None:
        """Run a script through the framework, with the adapter around `play.tools`.

        The model asks for the calls of `play.turns`, then says that it is done. Report what it was shown
        as each call's result by `play.show`, and all that the framework keeps and traces by `play.see`,
        also if the run fails. What the run raises passes. Where it pauses for a person, ask
        `play.person` with the digest that the framework got, and go on with the answer.
        """

    def run_blocking(self, play: Play) -> None:
        """Do the same by the framework's blocking entry; called in a thread."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it runs a script in a thread")

    def skip_unless(self, way: Way) -> None:
        """Skip a check where the framework has no such way."""
        if way not in self.ways:
            pytest.skip(f"the framework has no way {way!r}")


def read_order(call_id: str = "c1", order: str = "7", **more: object) -> ToolCall:
    """Return the call of a tool that reads one of acme's orders."""
    return ToolCall("read_order", {"order": order, "tenant": "acme", **more}, call_id)


def denied(play: Play, scene: Scene, call_id: str, *words: str) -> None:
    """Check that the model was shown the public text of a denial, and that the audit has it."""
    shown = play.shown.get(call_id, "")
    assert "not permitted: " in shown, (
        f"the model was shown {shown!r} for {call_id}, and {play.error!r} was raised"
    )
    for word in words:
        assert word in shown, f"{word!r} is missing in {shown!r}"
    refs = {facts["call"] for facts in scene.told("call.denied")}
    assert any(f"(ref {ref})" in shown for ref in refs), f"the audit knows nothing of {shown!r}"


def the_task_is_over(play: Play) -> bool:
    """Return whether the run was ended by an error, or each call after that was refused."""
    return play.error is not None or "not permitted: " in play.shown.get("c2", "")

"""A person's approval is for one call with these arguments, and nothing goes on without it."""

from __future__ import annotations

from spiffe_client.policy import Approval, ApprovalRequest
from spiffe_client.testing._adapter import WAYS, AdapterChecks, denied, read_order
from spiffe_client.testing._play import Play, Reply, ToolCall
from spiffe_client.testing._scene import Scene, Way, open_scene

__all__ = ["PeopleChecks"]

_REFUND = ToolCall("refund", {"order": "7", "amount": 5}, "c1")


class _Person:
    """Who is asked: keeps what the questions were about."""

    def __init__(self, name: str, about: str = "") -> None:
        self.asked: list[str] = []
        self._name = name
        self._about = about

    def __call__(self, arguments: str) -> Reply:
        self.asked.append(arguments)
        return Reply(self._name, self._about or arguments)

    async def approve(self, request: ApprovalRequest) -> Approval | None:
        """See `Approver.approve`: for adapters that leave it to the agent's own."""
        reply = self(request.arguments)
        about = request.digest if reply.arguments == request.arguments else reply.arguments
        return Approval(request.id, reply.name, request.expires_at, about) if reply.name else None


class PeopleChecks(AdapterChecks):
    """A call that a person must approve: yes, no, and a yes to something else."""

    async def _played(self, person: _Person, way: Way) -> tuple[Scene, Play]:
        self.skip_unless(way)
        async with open_scene(self, approver=None if self.pauses else person) as scene:
            play = await scene.play([_REFUND], [read_order("c2")], way=way, person=person)
            assert len(person.asked) == 1, f"a person was asked {len(person.asked)} times"
            assert play.error is None, f"the run raised {play.error!r}"
            assert "order 7 of acme: 200" in play.shown["c2"], f"the model was shown {play.shown}"
            return scene, play

    @WAYS
    async def test_a_yes(self, way: Way) -> None:
        """The call is made once, with a token for just this call; who said yes is told."""
        person = _Person("alice")
        scene, play = await self._played(person, way)
        assert scene.tools.bodies("refund") == 1, f"the tool ran {scene.tools.bodies('refund')} times"
        assert "refunded 5" in play.shown["c1"], f"the model was shown {play.shown}"
        facts = scene.told("call.finished")[0]
        assert person.asked == [facts["arguments"]], "the person was asked about other arguments"
        assert [told["approver"] for told in scene.told("approval.granted")] == ["alice"]

    @WAYS
    async def test_a_no(self, way: Way) -> None:
        """The tool does not run."""
        scene, play = await self._played(_Person(""), way)
        assert scene.tools.bodies("refund") == 0, "the tool ran against a person's no"
        denied(play, scene, "c1", "a person's approval")

    @WAYS
    async def test_a_yes_to_something_else(self, way: Way) -> None:
        """An answer about other arguments is none."""
        scene, play = await self._played(_Person("alice", "of-something-else"), way)
        assert scene.tools.bodies("refund") == 0, "the tool ran on an approval of something else"
        denied(play, scene, "c1", "a person's approval")

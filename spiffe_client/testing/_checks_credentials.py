"""Credentials are a call's own: of use while it lasts, at one origin, and never shown to a model."""

from __future__ import annotations

from spiffe_client.errors import TokenOriginError, find
from spiffe_client.testing._adapter import WAYS, AdapterChecks, read_order
from spiffe_client.testing._play import ToolCall
from spiffe_client.testing._scene import Way, open_scene

__all__ = ["CredentialChecks"]


class CredentialChecks(AdapterChecks):
    """Tools that spill what they got, keep it, or take it elsewhere."""

    @WAYS
    async def test_a_tool_that_spills(self, way: Way) -> None:
        """Token, JWT-SVID and private key in a result: the model sees gaps, and so does all else."""
        self.skip_unless(way)
        async with open_scene(self) as scene:
            play = await scene.play([ToolCall("spill", {"order": "7"}, "c1")], way=way)
            assert scene.tools.ran[0].token, "the tool had no token that it could spill"
            assert "here it is:" in play.shown["c1"], f"the model was shown {play.shown}"
            assert play.shown["c1"].count("[redacted]") == 3, "the model was shown no gaps, but secrets"
            assert play.seen, "the adapter's driver reports no messages, state or traces"
            (facts,) = scene.told("call.finished")
            assert facts.get("redacted"), "the audit does not say that something was taken out"

    @WAYS
    async def test_a_tool_that_spills_in_a_value(self, way: Way) -> None:
        """The same, where a tool returns no text, but something that a framework makes text of."""
        self.skip_unless(way)
        async with open_scene(self) as scene:
            play = await scene.play([ToolCall("spill_value", {"order": "7"}, "c1")], way=way)
            assert scene.tools.ran[0].token, "the tool had no token that it could spill"
            shown = play.shown.get("c1", "")
            assert shown.count("[redacted]") == 3, f"the model was shown no gaps, but {play.shown}"
            (facts,) = scene.told("call.finished")
            assert facts.get("redacted"), "the audit does not say that something was taken out"

    @WAYS
    async def test_a_tool_that_fails(self, way: Way) -> None:
        """Its error passes as the framework passes it, without the secrets in it, and is told."""
        self.skip_unless(way)
        async with open_scene(self) as scene:
            play = await scene.play([ToolCall("fail", {"order": "7"}, "c1")], way=way)
            assert scene.tools.bodies("fail") == 1
            passed = find(play.error, ValueError) if play.error is not None else None
            texts = f"{passed} {play.shown.get('c1', '')}"
            assert "the order 7 is broken" in texts or "rror" in play.shown.get("c1", ""), "it was swallowed"
            (facts,) = scene.told("call.finished")
            assert facts["outcome"] == "error", f"the audit says {facts['outcome']!r}"

    @WAYS
    async def test_what_a_tool_left_behind(self, way: Way) -> None:
        """Work that goes on after the call has no authority, though it has a copy of its context."""
        self.skip_unless(way)
        async with open_scene(self) as scene:
            leaves = ToolCall("leave_behind", {"order": "7"}, "c1")
            play = await scene.play([leaves], [read_order("c2")], way=way)
            assert "order 7 of acme: 200" in play.shown["c2"], f"the model was shown {play.shown}"
            assert scene.tools.left, "the tool ran outside of any call"
            assert [("TaskEndedError" in it or "TaskError" in it) for it in scene.tools.came_to] == [True], (
                f"what was left behind came to {scene.tools.came_to}"
            )

    @WAYS
    async def test_other_origins(self, way: Way) -> None:
        """The token is not sent to whom it is not for."""
        self.skip_unless(way)
        async with open_scene(self) as scene:
            play = await scene.play([ToolCall("reach_out", {"order": "7"}, "c1")], way=way)
            assert scene.tools.bodies("reach_out") == 1
            assert not scene.other.answers, "the other origin was called"
            error = play.error
            raised = error is not None and find(error, TokenOriginError) is not None
            assert raised or "it went there" not in play.shown.get("c1", "")

"""Each call is decided before its tool runs, and a denial is something that a model can go on from."""

from __future__ import annotations

import threading

import anyio
import anyio.to_thread

from spiffe_client.errors import DeniedError, NoTaskError, find
from spiffe_client.policy import Decision, Question
from spiffe_client.testing._adapter import WAYS, AdapterChecks, denied, read_order, the_task_is_over
from spiffe_client.testing._play import Play, ToolCall
from spiffe_client.testing._scene import CALLS, Way, open_scene

__all__ = ["CallChecks"]


class _Broken:
    """A decision point with a bug."""

    async def decide(self, question: Question) -> Decision:
        raise RuntimeError(f"a bug, about {question.action}")


class CallChecks(AdapterChecks):
    """Calls: allowed and denied ones, many at once, the same again."""

    @WAYS
    async def test_an_allowed_call(self, way: Way) -> None:
        """It runs once, with the call's credentials, which the service takes; it is told."""
        self.skip_unless(way)
        async with open_scene(self) as scene:
            play = await scene.play([read_order()], way=way)
            assert play.error is None, f"the run raised {play.error!r}"
            (ran,) = scene.tools.ran
            assert ran.call, "the tool ran outside of any call"
            assert play.task is not None
            assert (play.task.id, "tenants/acme/orders/7") == (ran.task, ran.resource)
            assert scene.tools.statuses == [200], f"the service answered {scene.tools.statuses}"
            assert "order 7 of acme: 200" in play.shown["c1"], f"the model was shown {play.shown}"
            facts = [(f["call"], f["outcome"], f["arguments"] != "") for f in scene.told("call.finished")]
            assert [(ran.call, "ok", True)] == facts, f"the audit has {facts}"

    @WAYS
    async def test_another_tenants(self, way: Way) -> None:
        """It is denied before the tool runs, in public words, and the model goes on."""
        self.skip_unless(way)
        async with open_scene(self) as scene:
            play = await scene.play(
                [read_order(tenant="globex")], [read_order("c2", "../7")], [read_order("c3")], way=way
            )
            assert scene.tools.bodies("read_order") == 1, "the tool ran though its call was denied"
            assert scene.tools.ran[0].arguments == ("acme", "7")
            denied(play, scene, "c1", "tenants/globex/orders/7", "another tenant's")
            denied(play, scene, "c2", "this task may do it on: tenants/acme/orders/")
            assert "order 7 of acme: 200" in play.shown["c3"], f"the model was shown {play.shown}"
            assert play.error is None, f"the run raised {play.error!r}"

    @WAYS
    async def test_a_default_is_an_argument(self, way: Way) -> None:
        """What the model leaves out is decided about as the tool gets it."""
        self.skip_unless(way)
        async with open_scene(self) as scene:
            play = await scene.play([ToolCall("read_far", {"order": "7"}, "c1")], way=way)
            assert scene.tools.ran == [], "the tool ran with a default that nobody decided about"
            denied(play, scene, "c1")

    @WAYS
    async def test_an_unlisted_tool(self, way: Way) -> None:
        """What the gate does not name is denied."""
        self.skip_unless(way)
        async with open_scene(self) as scene:
            play = await scene.play([ToolCall("erase", {"order": "7"}, "c1")], [read_order("c2")], way=way)
            assert scene.tools.bodies("erase") == 0, "a tool ran that is on nobody's list"
            if self.has_gate:
                denied(play, scene, "c1", "erase")
            assert "order 7 of acme: 200" in play.shown["c2"], f"the model was shown {play.shown}"

    @WAYS
    async def test_outside_of_a_task(self, way: Way) -> None:
        """There is no authority: the model is told so, or the run ends."""
        self.skip_unless(way)
        async with open_scene(self) as scene:
            play = await scene.play_for_nobody([read_order()], way=way)
            assert scene.tools.ran == [], "the tool ran outside of any task"
            ended = play.error is not None and find(play.error, NoTaskError) is not None
            assert ended or "not permitted: " in play.shown.get("c1", ""), f"{play.error!r} was raised"

    @WAYS
    async def test_many_at_once(self, way: Way) -> None:
        """Calls of one message and runs side by side have each their own call, task and token."""
        self.skip_unless(way)
        async with open_scene(self) as scene:
            scene.tools.meeting = threading.Barrier(4)
            orders = [[[read_order(f"c{n}{m}", f"{n}{m}") for m in range(2)]] for n in range(2)]
            plays: list[Play] = []

            async def one(number: int) -> None:
                plays.append(await scene.play(*orders[number], way=way))

            async with anyio.create_task_group() as group:
                for number in range(2):
                    group.start_soon(one, number)
            errors = [play.error for play in plays]
            assert errors == [None, None], f"the runs raised {errors}"
            ran = scene.tools.ran
            assert len(ran) == 4, (
                f"{len(ran)} of 4 tools ran; the model was shown {[it.shown for it in plays]}"
            )
            assert len({each.call for each in ran} - {""}) == 4, "calls were shared"
            expected = [f"tenants/acme/orders/{each.arguments[1]}" for each in ran]
            assert expected == [each.resource for each in ran], "a tool ran in another one's call"
            runs = {(each.arguments[1][0], each.task, each.token) for each in ran}
            assert (len(runs), len({token for _, _, token in runs})) == (2, 2), "runs shared tasks or tokens"
            for play in plays:
                for call_id, text in play.shown.items():
                    assert f"order {call_id[1:]} of acme: 200" in text, f"{call_id} was shown {text!r}"

    @WAYS
    async def test_the_same_call_again(self, way: Way) -> None:
        """A framework that makes a call again, as after a pause, has it counted once; other calls count."""
        self.skip_unless(way)
        async with open_scene(self) as scene:
            play = await scene.play(
                [read_order()], [read_order()], [read_order("c2", "8")], [read_order("c1", "9")], way=way
            )
            assert play.task is not None
            counted = 3 if self.has_call_ids else 4
            assert counted == play.task.budget.spent, f"{play.task.budget.spent} calls were counted"
            assert scene.tools.bodies("read_order") == 4

    @WAYS
    async def test_a_budget(self, way: Way) -> None:
        """It ends: denied calls count, too."""
        self.skip_unless(way)
        async with open_scene(self) as scene:
            tries = [[read_order(f"c{n}", str(n), tenant="globex")] for n in range(CALLS)]
            play = await scene.play(*tries, [read_order("last")], way=way)
            assert scene.tools.ran == [], "a tool ran though all calls were used up"
            denied(play, scene, "last", "used up")

    @WAYS
    async def test_a_decider_that_breaks(self, way: Way) -> None:
        """Nobody said yes, so the tool does not run."""
        self.skip_unless(way)
        async with open_scene(self, deciders=[_Broken()]) as scene:
            play = await scene.play([read_order()], way=way)
            assert scene.tools.ran == [], "the tool ran though nobody had decided"
            denied(play, scene, "c1")
            assert "a bug" not in "".join(play.shown.values()), "the model was shown a policy's internals"

    @WAYS
    async def test_a_token_broker_that_is_away(self, way: Way) -> None:
        """There is no token, so the tool does not run."""
        self.skip_unless(way)
        async with open_scene(self) as scene:
            await scene.broker.pause()
            play = await scene.play([read_order()], way=way)
            assert scene.tools.ran == [], "the tool ran without a token"
            denied(play, scene, "c1", "no credential")

    @WAYS
    async def test_a_token_broker_that_says_no(self, way: Way) -> None:
        """The same."""
        self.skip_unless(way)
        async with open_scene(self) as scene:
            scene.broker.rules = type(scene.broker.rules)()
            play = await scene.play([read_order()], way=way)
            assert scene.tools.ran == [], "the tool ran without a token"
            denied(play, scene, "c1", "no credential is issued")

    @WAYS
    async def test_a_task_that_ends(self, way: Way) -> None:
        """What runs is cancelled, or is nobody's any more where it is a thread; nothing comes after it."""
        self.skip_unless(way)
        async with open_scene(self) as scene:

            def stop(play: Play) -> None:
                scene.tools.waiting.wait(30)
                assert play.task is not None
                play.task.end("stopped", "enough")
                scene.tools.go_on.set()

            def begun(play: Play) -> None:
                threading.Thread(target=stop, args=(play,), daemon=True).start()

            waits = ToolCall("wait_here", {"order": "7"}, "c1")
            play = await scene.play([waits], [read_order("c2")], way=way, begun=begun)
            assert scene.tools.bodies("wait_here") == 1
            assert scene.tools.bodies("read_order") == 0, "a tool ran after the task had ended"
            assert "it went on" not in "".join(play.shown.values()), "what came too late was shown"
            assert the_task_is_over(play)
            (facts,) = scene.told("call.finished")
            assert facts["outcome"] == "cancelled", f"the audit says {facts['outcome']!r}"
            ended = play.error is None or find(play.error, DeniedError) is not None
            assert ended, f"the run raised {play.error!r}"

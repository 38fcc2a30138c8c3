"""`spiffe-client demo`: the story is real, it can fail, and nothing is left behind."""

from __future__ import annotations

import json
import os
import re
import select
import signal
from collections import deque
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from spiffe_client import TokenBrokerOptions, Workload
from spiffe_client.cli import _demo
from spiffe_client.cli._demo import _caller, _process, _refusals, _rotation, _story, _tokens
from spiffe_client.cli._demo._process import Broken, child_process
from spiffe_client.cli._demo._stage import CALLER, HOME, PARTNER, SERVER, Stage
from spiffe_client.cli._demo._story import Scene
from spiffe_client.cli._lines import line
from spiffe_client.dev import DevTokenBroker, DevTrustDomain
from spiffe_client.errors import SpiffeError, StaleError, UnavailableError
from spiffe_client.tokens import _lifetime
from spiffe_client.tokens._cache import TokenCache
from tests.support.command import on_terminal, run_command, start_command

NAMES = [
    "trust_domain", "identity", "call", "rotation", "federation", "stranger", "forgery",
    "exchange", "excess", "theft", "revocation", "withdrawal",
    "agent", "tenant", "approval", "delegation", "stop", "audit",
]  # fmt: skip


class TestStory:
    def test_it_goes_as_it_must(self) -> None:
        """Every step, with what was measured in this run."""
        outcome = run_command("demo", "--json", env={"HTTPS_PROXY": "http://192.0.2.1:9", "ALL_PROXY": "http://192.0.2.1:9"})
        *steps, summary = outcome.records
        assert NAMES == [step["step"] for step in steps]
        assert [] == [step["detail"] for step in steps if step["state"] != "ok"]
        assert (0, True, 18, 18) == (outcome.code, summary["ok"], summary["passed"], summary["steps"])
        facts = {step["step"]: step["facts"] for step in steps}
        assert facts["identity"]["server_pid"] != facts["identity"]["caller_pid"]
        assert (0, 20) == (facts["rotation"]["failed"], facts["rotation"]["rotations"])
        assert facts["rotation"]["calls"] > 20
        assert f"spiffe://{HOME}/stranger" == facts["stranger"]["peer"]
        assert "foreign_authority" == facts["forgery"]["reason"]
        assert {"stale"} <= set(facts["withdrawal"]["refusals"])
        assert (200, "dpop", ["orders:read"]) == (
            facts["exchange"]["status"], facts["exchange"]["binding"], facts["exchange"]["scope"],
        )  # fmt: skip
        assert "invalid_scope" == facts["excess"]["error"]
        assert {"as_bearer": 401, "with_another_key": 401, "with_its_key": 200} == facts["theft"]
        assert ("revoked", 401, facts["exchange"]["fingerprint"]) == (
            facts["revocation"]["outcome"], facts["revocation"]["status"], facts["revocation"]["fingerprint"],
        )  # fmt: skip
        framework = "langchain" if find_spec("spiffe_client_langchain") else "none"
        assert [framework, "invoices:read"] == [facts["agent"][name] for name in ("framework", "scope")]
        assert "it is another tenant's; this task works for acme" in facts["tenant"]["told"]
        assert ["tenants/acme/orders/6/chf/4000", "tenants/acme/orders/7/chf/40"] == facts["approval"]["asked"]
        assert 2 == facts["delegation"]["refused"]
        assert (401, False) == (facts["stop"]["status"], facts["stop"]["begins"])
        assert 1 <= facts["stop"]["revoked"]
        whole, part, late = facts["audit"]["tasks"]
        assert (facts["agent"]["task"], "stopped", 2) == (whole["task"], whole["ended"], whole["denials"])
        assert (facts["delegation"]["child"], whole["task"], 2) == (part["task"], part["parent"], part["denials"])
        assert ("refused", 0) == (late["ended"], late["calls"])  # it was stopped before


async def fine(stage: Stage, say: Any) -> tuple[str, dict[str, object]]:
    say("going well")
    return "went well\nin two lines", {}


def breaking(error: Exception) -> Any:
    async def play(stage: Stage, say: Any) -> tuple[str, dict[str, object]]:
        raise error

    return play


async def showing(stage: Stage, say: Any) -> tuple[Any, ...]:
    return "look", {}, line("a tree"), line("├─ of it", hang=3)


class TestLooking:
    def test_lines_to_look_at(self, monkeypatch: pytest.MonkeyPatch, empty_stage: None) -> None:
        """A step may show more than words; programs get its facts."""
        monkeypatch.setattr(_demo, "STORY", [Scene("one", "", showing)])
        outcome = run_command("demo")
        assert (0, ["✓ one           look", "  a tree", "  ├─ of it"]) == (outcome.code, outcome.out.splitlines()[:3])


@pytest.fixture
def empty_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    """No processes: the scenes of these tests need none."""

    @asynccontextmanager
    async def empty():
        yield None

    monkeypatch.setattr(_demo, "open_stage", empty)


@pytest.mark.usefixtures("empty_stage")
class TestFailing:
    @pytest.mark.parametrize(
        ("error", "says"),
        [
            (Broken("a stranger got in"), "a stranger got in"),
            (UnavailableError("no agent", cause_kind="missing"), "no agent"),
            (httpx.ConnectError("no route"), "ConnectError: no route"),
        ],
    )
    def test_what_is_not_as_it_must_be_fails_it(
        self, monkeypatch: pytest.MonkeyPatch, error: Exception, says: str
    ) -> None:
        """Exit code 1; what comes behind is not reached."""
        scenes = [Scene("one", "", fine), Scene("two", "", breaking(error)), Scene("three", "", fine)]
        monkeypatch.setattr(_demo, "STORY", scenes)
        outcome = run_command("demo")
        lines = outcome.out.splitlines()
        assert (1, "✓ one           went well") == (outcome.code, lines[0])
        assert "                in two lines" == lines[1]
        assert f"✗ two           {says}" == lines[2]
        assert "· three         not reached: two went wrong" == lines[-2]
        assert lines[-1].startswith("1 of 3 as it must be, in ")
        told = isinstance(error, SpiffeError)
        assert told == ("                next: play it again; if it fails again, report it with these lines" in lines)

    def test_without_the_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Steps about tokens are skipped, what needs none is played; not all was shown, so the exit code is 1."""
        monkeypatch.setattr("spiffe_client.dev.token_broker._broker.find_spec", lambda name: None)
        scenes = [
            Scene("one", "", fine), Scene("token", "", breaking(Broken("played")), tokens=True), Scene("three", "", fine),
        ]  # fmt: skip
        monkeypatch.setattr(_demo, "STORY", scenes)
        outcome = run_command("demo")
        lines = outcome.out.splitlines()
        assert 1 == outcome.code
        assert "· token         skipped: it needs the extra `dev`: pip install 'spiffe-client[dev]'" == lines[2]
        assert "✓ three         went well" == lines[3]
        assert (True, True) == (lines[-1].startswith("2 of 3 as it must be"), lines[-1].endswith("; 1 skipped"))
        about_tokens = {*NAMES[NAMES.index("exchange") :]} - {"withdrawal"}
        assert about_tokens == {scene.name for scene in _story.STORY if scene.tokens}

    def test_for_programs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The state of each step, and the sum."""
        monkeypatch.setattr(_demo, "STORY", [Scene("one", "", breaking(Broken("no")))])
        step, summary = run_command("demo", "--json").records
        assert ["step", "state", "detail", "advice", "facts"] == list(step)
        assert ["ok", "passed", "steps", "seconds"] == list(summary)
        assert ("failed", False) == (step["state"], summary["ok"])


class FakeChild:
    """A process that says what a test has put into its mouth."""

    def __init__(self, *replies: dict[str, Any], event: dict[str, Any] | None = None) -> None:
        self.pid = 1
        self.progress: dict[str, Any] = {}
        self._replies = deque(replies)
        self._event = event

    async def order(self, **order: object) -> None:
        pass

    async def reply(self) -> dict[str, Any]:
        return self._replies.popleft()

    async def ask(self, **order: object) -> dict[str, Any]:
        return self._replies.popleft()

    async def event(self, name: str) -> dict[str, Any]:
        assert self._event is not None
        return self._event


def silent(_: str) -> None:
    pass


@pytest.mark.anyio
class TestScenes:
    """Each scene notices when something is not as it must be."""

    @pytest.fixture
    async def stage(self):
        async with AsyncExitStack() as stack:
            home = await stack.enter_async_context(DevTrustDomain(HOME))
            partner = await stack.enter_async_context(DevTrustDomain(PARTNER))
            yield Stage(home, partner, FakeChild(), FakeChild())  # type: ignore[arg-type]

    @pytest.fixture
    def calls(self, monkeypatch: pytest.MonkeyPatch):
        """What comes of calls made from here."""

        def use(result: Any) -> None:
            async def call_as(*_: object) -> Any:
                if isinstance(result, Exception):
                    raise result
                return result

            monkeypatch.setattr(_refusals, "call_as", call_as)
            monkeypatch.setattr(_story, "call_as", call_as)

        return use

    async def test_an_identity_for_anybody(self, stage: Stage) -> None:
        """A Workload API that gives to processes it does not know."""
        stage.home.register(CALLER, any=True)
        with pytest.raises(Broken, match="was given an identity"):
            await _story.trust_domain(stage, silent)

    async def test_identities_mixed_up(self, stage: Stage) -> None:
        """The server believes to be the caller."""
        stage.server = FakeChild({"id": str(CALLER)})  # type: ignore[assignment]
        stage.caller = FakeChild({"id": str(SERVER)})  # type: ignore[assignment]
        with pytest.raises(Broken, match="were given"):
            await _story.identity(stage, silent)

    async def test_a_wrong_answer(self, stage: Stage) -> None:
        """Somebody else has answered."""
        answer = {"status": 200, "server": "spiffe://dev.example/else", "caller": str(CALLER), "tls": "TLSv1.3"}
        stage.caller = FakeChild(answer)  # type: ignore[assignment]
        with pytest.raises(Broken, match="the answer was"):
            await _story.call(stage, silent)

    async def test_failed_calls(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        """One is one too many."""
        monkeypatch.setattr(_rotation, "_EVERY", 0.0)
        load = {"calls": 10, "failures": ["ReadError: gone"], "certificates": 5}
        stage.caller = FakeChild({}, load)  # type: ignore[assignment]
        stage.server = FakeChild({"certificates": 5})  # type: ignore[assignment]
        with pytest.raises(Broken, match="1 of 10 calls failed: ReadError: gone"):
            await _rotation.rotation(stage, silent)

    async def test_certificates_that_stay(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without failures, and without rotation."""
        monkeypatch.setattr(_rotation, "_EVERY", 0.0)
        stage.caller = FakeChild({}, {"calls": 10, "failures": [], "certificates": 1})  # type: ignore[assignment]
        stage.server = FakeChild({"certificates": 5})  # type: ignore[assignment]
        with pytest.raises(Broken, match="new certificates were not put to use"):
            await _rotation.rotation(stage, silent)

    async def test_a_guest_taken_for_somebody_else(self, stage: Stage, calls: Any) -> None:
        """Federation does not change who one is."""
        calls({"caller": str(CALLER)})
        with pytest.raises(Broken, match="the server took spiffe://partner.example/auditor for"):
            await _story.federation(stage, silent)

    async def test_a_stranger_who_gets_an_answer(self, stage: Stage, calls: Any) -> None:
        """The worst of all."""
        calls({"caller": "spiffe://dev.example/stranger"})
        stage.server = FakeChild({"requests": {}})  # type: ignore[assignment]
        with pytest.raises(Broken, match="the server has answered spiffe://dev.example/stranger"):
            await _refusals.stranger(stage, silent)

    async def test_a_refusal_for_another_reason(self, stage: Stage, calls: Any) -> None:
        """A forger who is refused because he is not on the list was believed to be himself."""
        calls(httpx.ReadError("alert"))
        event = {"message": "no", "attributes": {"reason": "not_allowed", "peer": str(CALLER)}}
        stage.server = FakeChild({"requests": {}}, event=event)  # type: ignore[assignment]
        with pytest.raises(Broken, match="because of not_allowed"):
            await _refusals.forgery(stage, silent)

    async def test_a_request_that_gets_through(self, stage: Stage, calls: Any) -> None:
        """Refused, and served all the same."""
        calls(httpx.ReadError("alert"))
        event = {"message": "no", "attributes": {"reason": "foreign_authority", "peer": str(CALLER)}}
        stage.server = FakeChild({"requests": {}}, {"requests": {"x": 1}}, event=event)  # type: ignore[assignment]
        with pytest.raises(Broken, match="a request got through"):
            await _refusals.forgery(stage, silent)

    @pytest.mark.parametrize("refusals", [[], ["other"], ["stale", "none"], ["identity_unavailable"]])
    async def test_a_withdrawn_identity_that_goes_on(self, stage: Stage, refusals: list[str]) -> None:
        """Not at all refused, for another reason, or only for a while."""
        stage.home.register(CALLER, any=True)
        stage.caller = FakeChild({"seconds": 1.0, "calls": 9, "refusals": refusals})  # type: ignore[assignment]
        with pytest.raises(Broken, match="the caller still calls"):
            await _refusals.withdrawal(stage, silent)


@pytest.mark.anyio
class TestTokenScenes:
    """The same for those about tokens: each notices when something is let in that must not be."""

    @pytest.fixture
    async def stage(self):
        async with DevTrustDomain(HOME) as home:
            stage = Stage(home, None, FakeChild(), FakeChild())  # type: ignore[arg-type]
            async with stage.stack:
                await _tokens.exchange(stage, silent)
                yield stage

    async def test_a_token_that_is_bound_to_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The service lets it in all the same."""

        def loose(endpoint: str, token_broker: str, **options: Any) -> Workload:
            return Workload(endpoint, token_broker=TokenBrokerOptions(token_broker, binding="none"), **options)

        monkeypatch.setattr(_tokens, "Workload", loose)
        async with DevTrustDomain(HOME) as home:
            stage = Stage(home, None, FakeChild(), FakeChild())  # type: ignore[arg-type]
            async with stage.stack:
                with pytest.raises(Broken, match="of type Bearer"):
                    await _tokens.exchange(stage, silent)

    async def test_a_token_that_is_refreshed_meanwhile(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Regression: on a slow machine a refresh in the background was taken for a token that was not kept."""
        monkeypatch.setitem(TokenCache.__init__.__kwdefaults__, "draw", lambda: 0.0)
        monkeypatch.setattr(_lifetime, "_FLOOR_SECONDS", 0.0)
        async with DevTrustDomain(HOME) as home:
            stage = Stage(home, None, FakeChild(), FakeChild())  # type: ignore[arg-type]
            async with stage.stack:
                await _tokens.exchange(stage, silent)
                with anyio.fail_after(20):
                    while stage.office.broker.issued.total() < 2:
                        await anyio.sleep(0.001)

    async def test_more_than_may_be_had(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        """Granted."""
        monkeypatch.setattr(_tokens, "_TOO_MUCH", "orders:read")
        with pytest.raises(Broken, match="the token broker has granted orders:read"):
            await _tokens.excess(stage, silent)

    @pytest.mark.parametrize("letting_in", ["thief", "nobody"])
    async def test_a_service_that_does_not_look(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch, letting_in: str
    ) -> None:
        """At the key: everybody is let in; or at what is right: nobody is."""
        refused = httpx.Response(401, headers={"www-authenticate": 'DPoP error="invalid_token"'})

        async def present(self: object, *, key: object) -> httpx.Response:
            return httpx.Response(200) if letting_in == "thief" else refused

        monkeypatch.setattr(_tokens.Office, "present", present)
        says = "the service answered 200" if letting_in == "thief" else "its holder is refused, too"
        with pytest.raises(Broken, match=says):
            await _tokens.theft(stage, silent)

    async def test_a_token_that_is_not_revoked(self, stage: Stage) -> None:
        """The second time it was not active before: that proves nothing."""
        await _tokens.revocation(stage, silent)
        with pytest.raises(Broken, match="that is unknown"):
            await _tokens.revocation(stage, silent)


@pytest.mark.anyio
class TestChildren:
    async def test_one_that_fails_says_why(self) -> None:
        """Its own words are in the error, not a traceback on the terminal."""
        async with child_process("server", "_server") as child:
            with pytest.raises(Broken, match="the server process ended: internal_error: ValueError in _server.py"):
                await child.reply()

    async def test_one_that_is_gone_takes_no_orders(self) -> None:
        """It does not come to a hang, or a broken pipe."""
        async with child_process("server", "_server") as child:
            await child._process.wait()
            with pytest.raises(Broken, match="the server process ended"):
                while True:
                    await child.order(do="count")

    async def test_one_that_does_not_answer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It waits for an identity that nobody gives it: neither an answer nor an event comes."""
        monkeypatch.setattr(_process, "_LONGEST_WAIT", 0.01)
        monkeypatch.setattr(_process, "_GOODBYE", 0.01)
        async with DevTrustDomain(HOME) as home:
            async with child_process("caller", "_caller", home.endpoint, str(SERVER)) as child:
                with pytest.raises(Broken, match="the caller process did not answer"):
                    await child.reply()
                with pytest.raises(Broken, match="did not say peer.refused"):
                    await child.event("peer.refused")
            # It could not be told to go, and was made to.
            assert -signal.SIGKILL == child._process.returncode

    async def test_one_that_is_told_to_go_before_it_began(self) -> None:
        """When its orders end, it ends."""
        async with DevTrustDomain(HOME) as home:
            async with child_process("caller", "_caller", home.endpoint, str(SERVER)) as child:
                home.register(CALLER, pid=child.pid)
                assert {"id": str(CALLER)} == await child.reply()
            assert 0 == child._process.returncode

    async def test_events_are_found_by_name(self) -> None:
        """Others before it are passed over."""
        async with child_process("server", "_server") as child:
            for name in ("svid.updated", "peer.refused"):
                child._take({"kind": "event", "name": name})
            assert {"name": "peer.refused"} == await child.event("peer.refused")


class TestCaller:
    """What the caller process counts."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"  # the process has no other

    class Http:
        """Answers, or fails as it is told."""

        def __init__(self, *outcomes: Exception | None) -> None:
            self._outcomes = deque(outcomes)

        async def get(self, _: str) -> httpx.Response:
            await anyio.lowlevel.checkpoint()
            if len(self._outcomes) > 1:
                outcome = self._outcomes.popleft()
            else:
                outcome = self._outcomes[0]
            if outcome is not None:
                raise outcome
            return httpx.Response(200, request=httpx.Request("GET", "https://x/"))

    @pytest.mark.anyio
    async def test_failures_are_counted(self) -> None:
        """Also an answer from somebody who cannot be named."""
        load = _caller._Load(self.Http(httpx.ReadError("gone"), None))  # type: ignore[arg-type]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(load.work)
            while load.calls < 2:
                await anyio.lowlevel.checkpoint()
            load.over = True
        assert "ReadError: gone" == load.failures[0]
        assert "PeerUnverifiedError" in load.failures[1]

    @pytest.mark.anyio
    async def test_what_comes_of_a_withdrawal(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Calls that go through after a refusal are told, too."""
        monkeypatch.setattr(_caller, "_AGAIN", 0)
        monkeypatch.setattr(_caller, "_REFUSALS", 2)
        stale = httpx.ConnectError("no identity")
        stale.__cause__ = StaleError("withdrawn", reason="withdrawn")
        http = self.Http(None, stale, None, httpx.ReadError("else"), stale)
        await _caller._until_refused(http)  # type: ignore[arg-type]
        said = json.loads(capsys.readouterr().out)
        assert (["stale", "none", "other", "stale"], 2) == (said["refusals"], said["calls"])

    @pytest.mark.anyio
    async def test_one_that_is_never_refused(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """It gives up, and says that nothing was refused."""
        monkeypatch.setattr(_caller, "_LONGEST_WAIT", 0.01)
        await _caller._until_refused(self.Http(None))  # type: ignore[arg-type]
        said = json.loads(capsys.readouterr().out)
        assert ([], None) == (said["refusals"], said["seconds"])


def pids_in(text: str) -> list[int]:
    """The child processes that the demo names."""
    return [int(pid) for pid in re.findall(r"process (\d+) is", text)]


def wait_ended(pid: int) -> None:
    """Wait until a process that is not ours has ended."""
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ready, _, _ = select.select([watched], [], [], 30)
    os.close(watched)
    assert ready, f"process {pid} is still there"


class TestNothingIsLeftBehind:
    def test_ctrl_c_on_a_terminal(self) -> None:
        """Both processes are gone when the command is, the terminal is as it was."""
        terminal = on_terminal("demo")
        terminal.read_until("rotation 2 of ")
        terminal.press("\x03")
        outcome = terminal.end()
        assert (130, 2) == (outcome.code, len(pids_in(outcome.out)))
        for pid in pids_in(outcome.out):
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
        assert "Traceback" not in outcome.out
        assert outcome.out.rfind("\x1b[?25h") > outcome.out.rfind("\x1b[?25l")

    def test_sigterm(self) -> None:
        """From a supervisor."""
        with start_command("demo") as process:
            assert process.stdout is not None
            seen = "".join(process.stdout.readline() for _ in range(3))
            process.terminate()
            _, err = process.communicate(timeout=60)
        assert (143, "") == (process.returncode, err)
        for pid in pids_in(seen):
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)

    def test_a_parent_that_is_killed(self, tmp_path: Path) -> None:
        """The children notice, and go. Only its folder is left, here among those of the test."""
        with start_command("demo", env={**os.environ, "TMPDIR": str(tmp_path)}) as process:
            assert process.stdout is not None
            seen = "".join(process.stdout.readline() for _ in range(3))
            process.kill()
            process.communicate(timeout=60)
        assert 2 == len(pids_in(seen))
        for pid in pids_in(seen):
            wait_ended(pid)


class TestServer:
    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"  # the process has no other

    @pytest.mark.anyio
    async def test_a_caller_that_hangs_up(self) -> None:
        """In the middle of a request: the service goes on."""
        import asyncio

        from spiffe_client.cli._demo._server import Service

        class Writer:
            closed = False

            def close(self) -> None:
                self.closed = True

        reader, writer = asyncio.StreamReader(), Writer()
        reader.feed_data(b"GET / HT")
        reader.feed_eof()
        await Service().connected(reader, writer)  # type: ignore[arg-type]
        assert writer.closed

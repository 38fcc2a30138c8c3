"""`spiffe-client doctor`: the first thing in the way is named, with what to do about it."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from spiffe_client._grpc import Status
from spiffe_client.dev import DevTrustDomain
from spiffe_client.workload_api._messages import X509SvidEntry, X509SvidResponse
from tests.support.command import Outcome, run_command
from tests.support.pki import Authority, days, new_authority
from tests.support.scripted_workload_api import HOLD, NO_IDENTITY, Fail, ScriptedWorkloadApi

STEPS = ["endpoint", "socket", "header", "issuance", "clock", "expiry", "chain", "tls"]
PEER = "spiffe://dev.example/peer"


def doctor(*words: str, **options: Any) -> Outcome:
    return run_command("doctor", "--json", *words, **options)


def states(outcome: Outcome) -> dict[str, str]:
    """How each step came out."""
    *steps, summary = outcome.records
    assert STEPS == [step["step"] for step in steps]
    failed = [step["step"] for step in steps if step["state"] == "failed"]
    assert {"ok": not failed, "failed": failed} == summary
    assert (1 if failed else 0) == outcome.code
    return {step["step"]: step["state"] for step in steps}


def failed(outcome: Outcome) -> dict[str, Any]:
    """The one step that failed; those behind it were not reached."""
    (step,) = [r for r in outcome.records if r.get("state") == "failed"]
    at = STEPS.index(step["step"])
    expected = {name: "ok" if i < at else "failed" if i == at else "not_reached" for i, name in enumerate(STEPS)}
    assert expected == states(outcome)
    assert step["advice"]
    return {"step": step["step"], "code": step["facts"]["code"], "detail": step["detail"], "advice": step["advice"]}


def answer(root: Authority, **leaf: Any) -> X509SvidResponse:
    """What an agent of this authority sends."""
    identity = root.leaf(PEER, **leaf)
    entry = X509SvidEntry(PEER, b"".join(identity.ders), identity.key_der, root.bundle().to_der(), "")
    return X509SvidResponse((entry,))


class TestHealthy:
    def test_all_is_well(self, domain: DevTrustDomain) -> None:
        """Every step is ok, with what it found."""
        outcome = doctor("--socket", domain.endpoint)
        assert {"ok"} == set(states(outcome).values())
        assert ["step", "state", "detail", "advice", "facts"] == list(outcome.records[0])
        facts = {step["step"]: step["facts"] for step in outcome.records[:-1]}
        assert "--socket" == facts["endpoint"]["source"]
        assert os.getuid() == facts["socket"]["uid"]
        assert ["spiffe://dev.example/workload"] == facts["issuance"]["ids"]
        assert ["dev.example"] == facts["chain"]["trust_domains"]
        assert {"good", "forged", "unauthorised"} == set(facts["tls"])

    def test_for_people(self, domain: DevTrustDomain) -> None:
        """A line each, and the verdict last."""
        outcome = run_command("doctor", env={"SPIFFE_ENDPOINT_SOCKET": domain.endpoint})
        lines = outcome.out.splitlines()
        assert (0, "all is well") == (outcome.code, lines[-1])
        assert all(line.startswith("✓ ") for line in lines[:-1])
        assert "says SPIFFE_ENDPOINT_SOCKET" in lines[0]

    def test_a_socket_that_goes_meanwhile(self, domain: DevTrustDomain, monkeypatch: pytest.MonkeyPatch) -> None:
        """It was there when it was connected to, and that counts."""

        def gone(_: Path) -> None:
            raise FileNotFoundError

        monkeypatch.setattr("spiffe_client.cli._doctor._reach.Path.stat", gone)
        outcome = doctor("--socket", domain.endpoint)
        assert ("ok", {}) == (states(outcome)["socket"], outcome.records[1]["facts"])

    def test_over_tcp(self, domain: DevTrustDomain, world) -> None:
        """There a socket has no owner and no mode (Workload Endpoint §4)."""
        port = world.enter(lambda: _tcp_to(domain.endpoint))
        outcome = doctor("--socket", f"tcp://127.0.0.1:{port}")
        assert "ok" == states(outcome)["socket"]
        assert {} == outcome.records[1]["facts"]


class TestReach:
    @pytest.mark.parametrize("words", [[], ["--socket", "localhost:8081"], ["--socket", "unix:relative"]])
    def test_no_address_or_a_malformed_one(self, words: list[str]) -> None:
        """Workload Endpoint §4."""
        assert ("endpoint", "endpoint_invalid") == tuple(failed(doctor(*words)).values())[:2]

    def test_what_to_do_without_an_address(self) -> None:
        """Where none is set, try it without an agent; where nonsense is set, correct that."""
        assert "run `spiffe-client dev`" in failed(doctor())["advice"]
        finding = failed(doctor(env={"SPIFFE_ENDPOINT_SOCKET": "nonsense"}))
        assert finding["advice"].startswith("correct SPIFFE_ENDPOINT_SOCKET")

    def test_no_socket(self, tmp_path: Path) -> None:
        """The agent is not running, or elsewhere."""
        finding = failed(doctor("--socket", f"unix://{tmp_path}/none.sock"))
        assert ("socket", "unavailable") == (finding["step"], finding["code"])
        assert "start the agent" in finding["advice"]

    def test_no_listener(self, tmp_path: Path) -> None:
        """A socket that an agent has left behind."""
        with socket.socket(socket.AF_UNIX) as left_behind:
            left_behind.bind(str(tmp_path / "old.sock"))
        finding = failed(doctor("--socket", f"unix://{tmp_path}/old.sock"))
        assert "nobody listens there" in finding["detail"]

    @pytest.mark.parametrize(
        ("searchable", "detail", "advice"),
        [
            (lambda p: p.name != "private", "private (uid {uid}, mode 700) keeps uid {uid} out", "chmod o+x"),
            (lambda _: True, "uid {uid} may not write to it", "opened to this user"),
        ],
    )
    def test_a_locked_door(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, searchable, detail: str, advice: str
    ) -> None:
        """Which folder keeps us out, or that it is the socket itself.

        Root is kept out of nothing, so connecting and looking are made to fail.
        """
        (tmp_path / "private").mkdir(mode=0o700)

        def refuse(*_: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("spiffe_client.workload_api._connect._connect_unix", refuse)
        monkeypatch.setattr(os, "access", lambda path, _: searchable(Path(path)))
        finding = failed(doctor("--socket", f"unix://{tmp_path}/private/api.sock"))
        assert ("socket", "socket_forbidden") == (finding["step"], finding["code"])
        assert detail.format(uid=os.getuid()) in finding["detail"]
        assert advice in finding["advice"]

    def test_a_door_that_cannot_even_be_looked_at(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Below a folder that is closed one cannot see who owns what."""

        def refuse(*_: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("spiffe_client.workload_api._connect._connect_unix", refuse)
        monkeypatch.setattr(os, "access", lambda *_: False)
        monkeypatch.setattr(Path, "stat", refuse)
        assert "may not write to it" in failed(doctor("--socket", "unix:///a/api.sock"))["detail"]


    def test_an_address_that_swallows_everything(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """`--timeout` bounds connecting, too."""

        async def swallow(*_: object) -> None:
            await anyio.sleep_forever()

        monkeypatch.setattr("spiffe_client.cli._doctor._reach.connect", swallow)
        finding = failed(doctor("--timeout", "0.01", "--socket", "tcp://192.0.2.1:8081"))
        assert "no connection to tcp://192.0.2.1:8081 within 0.01 s" == finding["detail"]
        assert "too slow" in finding["advice"]


class TestHeader:
    def test_a_server_that_does_not_ask_for_it(self, world, api: ScriptedWorkloadApi) -> None:
        """It is a danger (Workload Endpoint §3), and in nobody's way."""
        api.header_required = False
        api.script("FetchX509SVID", answer(new_authority("dev.example")))
        outcome = doctor("--socket", api.endpoint)
        assert {name: "failed" if name == "header" else "ok" for name in STEPS} == states(outcome)
        assert "gives away keys" in outcome.records[2]["advice"]

    def test_something_else_listens_there(self, world, api: ScriptedWorkloadApi) -> None:
        """A web server, say."""
        api.greet_with(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        outcome = doctor("--socket", api.endpoint)
        finding = failed(outcome)
        assert "header" == finding["step"]
        assert "does not speak the Workload API" in finding["detail"]
        assert finding["advice"].startswith("it is no gRPC server: ")

    @pytest.mark.parametrize(
        ("rude", "advice"),
        [
            (b"", "is that the agent? the Workload API is gRPC without TLS"),
            (b"\x15\x03\x01\x00\x02\x02\x46", "it is no gRPC server: "),  # a TLS alert
            (None, "the agent is there and too slow"),
        ],
    )
    def test_who_hangs_up_or_says_nothing(self, world, rude: bytes | None, advice: str) -> None:
        """As a server of TLS does that meets none: what comes behind would only meet the same."""
        port = world.enter(lambda: _rude(rude))
        finding = failed(doctor("--timeout", "2", "--socket", f"tcp://127.0.0.1:{port}"))
        assert "header" == finding["step"]
        assert finding["advice"].startswith(advice)

    @pytest.mark.parametrize("status", [Status.PERMISSION_DENIED, 99])
    def test_refused_for_another_reason(self, api: ScriptedWorkloadApi, status: Status | int) -> None:
        """It is refused all the same."""
        api.header_required = False
        api.script("FetchX509SVID", Fail(status, "no identity issued"))
        outcome = doctor("--socket", api.endpoint)
        assert "ok" == states(outcome)["header"]

    def test_a_server_that_says_nothing(self, api: ScriptedWorkloadApi) -> None:
        """A stream that ends without an answer is an answer, too: it demands nothing."""
        api.header_required = False
        api.script("FetchX509SVID")
        assert "failed" == states(doctor("--socket", api.endpoint))["header"]


class TestIdentity:
    @pytest.mark.parametrize(
        ("step", "code"),
        [
            (NO_IDENTITY, "no_identity_issued"),
            (X509SvidResponse(), "no_identity_issued"),
            (b"\xff", "protocol_error"),
            (HOLD, "unavailable"),
        ],
    )
    def test_nothing_is_issued(self, api: ScriptedWorkloadApi, step: Any, code: str) -> None:
        """The reason, and whom to see."""
        api.script("FetchX509SVID", step)
        finding = failed(doctor("--timeout", "2", "--socket", api.endpoint))
        assert ("issuance", code) == (finding["step"], finding["code"])

    def test_who_asked(self, api: ScriptedWorkloadApi) -> None:
        """A registration needs it, so it is said where none fits."""
        api.script("FetchX509SVID", NO_IDENTITY)
        outcome = doctor("--socket", api.endpoint)
        (step,) = [r for r in outcome.records if r.get("step") == "issuance"]
        path = os.path.realpath(sys.executable)
        expected = {"uid": os.geteuid(), "gid": os.getegid(), "pid": os.getpid(), "path": path}
        assert {"code": "no_identity_issued", **expected} == step["facts"]
        assert step["detail"].endswith("asked by uid {uid}, gid {gid}, pid {pid}, executable {path}".format(**expected))

    def test_what_is_issued_is_no_svid(self, api: ScriptedWorkloadApi) -> None:
        """X509-SVID §4: a leaf that is a CA."""
        api.script("FetchX509SVID", answer(new_authority("dev.example"), ca=True))
        assert ("issuance", "x509_svid_invalid") == tuple(failed(doctor("--socket", api.endpoint)).values())[:2]

    def test_a_clock_that_is_behind(self, api: ScriptedWorkloadApi) -> None:
        """An identity from the future means that this machine lives in the past."""
        api.script("FetchX509SVID", answer(new_authority("dev.example"), not_before=days(1), not_after=days(2)))
        finding = failed(doctor("--socket", api.endpoint))
        assert ("clock", "clock_behind") == (finding["step"], finding["code"])
        assert "at least 23 h behind" in finding["advice"] or "at least 24 h behind" in finding["advice"]

    def test_an_expired_identity(self, api: ScriptedWorkloadApi) -> None:
        """The agent has lost its server, or this clock is ahead."""
        api.script("FetchX509SVID", answer(new_authority("dev.example"), not_before=days(-3), not_after=days(-2)))
        finding = failed(doctor("--socket", api.endpoint))
        assert ("expiry", "expired") == (finding["step"], finding["code"])
        assert "ago" in finding["detail"]

    def test_a_chain_that_leads_nowhere(self, api: ScriptedWorkloadApi) -> None:
        """Signed by an authority that is not in the bundle that came with it."""
        root, other = new_authority("dev.example"), new_authority("dev.example")
        (entry,) = answer(root).svids
        sent = X509SvidEntry(PEER, entry.x509_svid, entry.x509_svid_key, other.bundle().to_der(), "")
        api.script("FetchX509SVID", X509SvidResponse((sent,)))
        finding = failed(doctor("--socket", api.endpoint))
        assert ("chain", "chain_signed") == (finding["step"], finding["code"])

    def test_a_federated_bundle_of_no_use(self, api: ScriptedWorkloadApi) -> None:
        """It harms only that trust domain, and somebody has to mend it."""
        response = answer(new_authority("dev.example"))
        api.script("FetchX509SVID", X509SvidResponse(response.svids, federated_bundles={"spiffe://b.test": b"?"}))
        finding = failed(doctor("--socket", api.endpoint))
        assert ("chain", "bundle_invalid") == (finding["step"], finding["code"])

    def test_a_message_that_we_would_not_use(self, api: ScriptedWorkloadApi) -> None:
        """Good certificates under another's name: the whole message is of no use (Workload API §4.5)."""
        (entry,) = answer(new_authority("dev.example")).svids
        sent = X509SvidEntry("spiffe://dev.example/else", entry.x509_svid, entry.x509_svid_key, entry.bundle, "")
        api.script("FetchX509SVID", X509SvidResponse((sent,)))
        assert ("chain", "x509_svid_invalid") == tuple(failed(doctor("--socket", api.endpoint)).values())[:2]


class TestTls:
    def test_a_python_that_does_not_verify(
        self, domain: DevTrustDomain, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The self-test is believed, not the version number."""
        from spiffe_client.tls import SelfTestResult

        results = (SelfTestResult("good", True, "connected"), SelfTestResult("forged", False, "connected"))
        monkeypatch.setattr("spiffe_client.cli._doctor._tls.self_test", lambda: results)
        finding = failed(doctor("--socket", domain.endpoint))
        assert ("tls", "tls_forged") == (finding["step"], finding["code"])

        outcome = run_command("doctor", "--socket", domain.endpoint)
        assert "see to: tls" == outcome.out.splitlines()[-1]
        assert "next: do not use it" in outcome.out


def _rude(answer: bytes | None):
    """A TCP port that takes a greeting, answers with these bytes and hangs up; None never does."""
    from contextlib import asynccontextmanager

    @asynccontextmanager
    async def serve():
        async def one(client):
            async with client:
                try:
                    await client.receive()
                except anyio.EndOfStream:  # who only looks whether somebody listens
                    return
                if answer is None:
                    await anyio.sleep_forever()
                if answer:
                    await client.send(answer)

        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        async with listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, one)
            yield listener.extra(anyio.abc.SocketAttribute.local_port)
            tasks.cancel_scope.cancel()

    return serve()


def _tcp_to(endpoint: str):
    """A TCP port that leads to a unix socket, while the context is entered."""
    from contextlib import asynccontextmanager

    import anyio

    @asynccontextmanager
    async def relay():
        async def both_ways(client):
            async with client, await anyio.connect_unix(endpoint.removeprefix("unix:")) as agent:
                async with anyio.create_task_group() as tasks:

                    async def copy(source, target):
                        try:
                            async for data in source:
                                await target.send(data)
                        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                            pass
                        tasks.cancel_scope.cancel()

                    tasks.start_soon(copy, client, agent)
                    tasks.start_soon(copy, agent, client)

        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        async with listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, both_ways)
            yield listener.extra(anyio.abc.SocketAttribute.local_port)
            tasks.cancel_scope.cancel()

    return relay()

"""A decision point is asked over real sockets, and whatever is not a clear yes from it is a no."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import httpx
import pytest

from spiffe_client.errors import PeerNotAllowedError, PolicyError
from spiffe_client.policy import AuthZenPdp, Decision
from spiffe_client.policy._address import is_here
from tests.support.manual_clock import ManualClock
from tests.support.questions import ask
from tests.support.raw_broker import HANG, Asked, RawBroker, json_reply, raw_reply, serve_raw

pytestmark = pytest.mark.anyio

YES = json_reply({"decision": True})
JSON = ("Content-Type", "application/json")


class Pdp:
    """A decision point that answers with what a test puts there: one after the other, the last for ever."""

    def __init__(self, server: RawBroker) -> None:
        self._server = server

    @property
    def url(self) -> str:
        return self._server.url

    @property
    def asked(self) -> list[Asked]:
        return self._server.asked

    def says(self, *answers: Any) -> None:
        script = list(answers)

        def answer(asked: Asked) -> Any:
            says = script.pop(0) if len(script) > 1 else script[0]
            return says(asked) if callable(says) else says

        self._server.script = answer


@pytest.fixture(scope="module")
def server() -> Iterator[RawBroker]:
    with serve_raw(lambda asked: YES) as server:
        yield server


@pytest.fixture
def pdp(server: RawBroker) -> Pdp:
    server.asked.clear()
    pdp = Pdp(server)
    pdp.says(YES)
    return pdp


async def decide(pdp: Pdp, **options: Any) -> Decision:
    options = {"timeout": 5.0, "clock": Instant(), **options}
    async with AuthZenPdp(pdp.url, **options) as client:
        return await client.decide(ask())


class Instant(ManualClock):
    """A clock that is not waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await anyio.lowlevel.checkpoint()


def cause(decision: Decision) -> object:
    assert (False, "decision_point_unavailable") == (decision.allowed, decision.reason)
    return dict(decision.evidence)["cause"]


class TestAsking:
    async def test_one(self, pdp: Pdp) -> None:
        """Is a POST of JSON at the usual place, with an id of its own."""
        assert (await decide(pdp)).allowed

        (asked,) = pdp.asked
        assert ("POST", "/access/v1/evaluation") == (asked.method, asked.target)
        assert "application/json" == asked.header("content-type") == asked.header("accept")
        assert "spiffe://prod.example/agent/closer" == json.loads(asked.body)["subject"]["id"]
        assert 32 == len(asked.header("x-request-id") or "")

    async def test_no(self, pdp: Pdp) -> None:
        """Is a denial with the decision point's code."""
        pdp.says(json_reply({"decision": False, "context": {"reason_code": "tenant"}}))

        decision = await decide(pdp)

        assert ("decision_point_denied", (("code", "tenant"),)) == (decision.reason, decision.evidence)
        assert pdp.url == decision.policy

    async def test_several(self, pdp: Pdp) -> None:
        """Are one request, and what is missing in its answer is denied."""
        pdp.says(json_reply({"evaluations": [{"decision": True}, {"decision": False}]}))
        questions = [ask(resource=f"tenants/acme/invoices/{n}") for n in range(3)]

        async with AuthZenPdp(pdp.url, timeout=5) as client:
            decisions = await client.decide_all(questions, semantic="deny_on_first_deny")

        assert [True, False, False] == [d.allowed for d in decisions]
        (asked,) = pdp.asked
        body = json.loads(asked.body)
        assert "/access/v1/evaluations" == asked.target
        assert {"evaluations_semantic": "deny_on_first_deny"} == body["options"]
        assert [q.resource for q in questions] == [e["resource"]["id"] for e in body["evaluations"]]

    @pytest.mark.parametrize(
        ("semantic", "says", "allowed"),
        [
            ("execute_all", [False, True, True], [False, True, True]),
            ("deny_on_first_deny", [False, True, True], [False, False, False]),
            ("permit_on_first_permit", [True, True, True], [True, False, False]),
        ],
    )
    async def test_alike_are_asked_apart(
        self, pdp: Pdp, semantic: Any, says: list[bool], allowed: list[bool]
    ) -> None:
        """In requests of their own, in order, and no further than was asked for."""
        pdp.says(*[json_reply({"evaluations": [{"decision": said}]}) for said in says])

        async with AuthZenPdp(pdp.url, timeout=5) as client:
            decisions = await client.decide_all([ask(tenant=t) for t in "abc"], semantic=semantic)

        assert allowed == [d.allowed for d in decisions]
        assert (3 if semantic == "execute_all" else 1) == len(pdp.asked)

    async def test_none(self, pdp: Pdp) -> None:
        """Needs no request."""
        async with AuthZenPdp(pdp.url) as client:
            assert () == await client.decide_all([])
        assert [] == pdp.asked

    async def test_type_of_ones_own(self, pdp: Pdp) -> None:
        """Is what the decision point sees."""
        await decide(pdp, resource_type=lambda question: "document")

        assert "document" == json.loads(pdp.asked[0].body)["resource"]["type"]

    async def test_client_of_ones_own(self, pdp: Pdp) -> None:
        """Is used, with what it is set to, and left open."""
        async with httpx.AsyncClient(headers={"authorization": "Bearer mine"}, trust_env=False) as http:
            for _ in range(2):
                assert (await decide(pdp, client=http)).allowed
            assert not http.is_closed

        assert ["Bearer mine"] * 2 == [asked.header("authorization") for asked in pdp.asked]

    async def test_it_says_what_it_is(self) -> None:
        """For who reads a log or a debugger."""
        assert "AuthZenPdp('https://pdp.example')" == repr(AuthZenPdp("https://pdp.example"))


class TestTrouble:
    @pytest.mark.parametrize("status", [429, 502, 503, 504])
    async def test_busy(self, pdp: Pdp, status: int) -> None:
        """It is asked again, under the same id."""
        pdp.says(raw_reply(status), raw_reply(status), YES)
        clock = Instant()

        assert (await decide(pdp, clock=clock)).allowed
        assert 2 == len(clock.slept)
        assert 1 == len({asked.header("x-request-id") for asked in pdp.asked})

    async def test_busy_for_ever(self, pdp: Pdp) -> None:
        """Three tries, and then it is a denial with the status and the id of the request."""
        pdp.says(raw_reply(503))

        decision = await decide(pdp)

        assert "status" == cause(decision)
        assert 3 == len(pdp.asked)
        assert (("cause", "status"), ("status", 503), ("request", pdp.asked[0].header("x-request-id"))) == decision.evidence

    @pytest.mark.parametrize("patience", ["1", "3"])
    async def test_patience(self, pdp: Pdp, patience: str) -> None:
        """Who asks to wait is waited for, if there is time."""
        pdp.says(raw_reply(429, b"", ("Retry-After", patience)), YES)
        clock = Instant()

        decision = await decide(pdp, timeout=2.5, clock=clock)

        assert ("1" == patience) == decision.allowed
        assert ([1.0] if decision.allowed else []) == clock.slept

    @pytest.mark.parametrize("patience", ["Wed, 21 Oct 2037 07:28:00 GMT", "9999999999", "-1", "\u0661"])
    async def test_odd_patience(self, pdp: Pdp, patience: str) -> None:
        """What is no small number is longer than anybody waits."""
        header = ("Retry-After", patience.encode("utf-8").decode("latin-1"))
        pdp.says(raw_reply(429, b"", header), YES)

        assert "status" == cause(await decide(pdp))
        assert 1 == len(pdp.asked)

    @pytest.mark.parametrize("status", [201, 204, 400, 401, 403, 404, 418, 500, 501])
    async def test_other_statuses(self, pdp: Pdp, status: int) -> None:
        """Are no decision, whatever the body says, and asking again would not help."""
        pdp.says(json_reply({"decision": True}, status) if status != 204 else raw_reply(204))

        assert "status" == cause(await decide(pdp))
        assert 1 == len(pdp.asked)

    async def test_connection_that_breaks(self, pdp: Pdp) -> None:
        """It is asked again."""
        pdp.says(b"\r", YES)

        assert (await decide(pdp)).allowed
        assert 2 == len(pdp.asked)

    async def test_nobody_there(self, pdp: Pdp) -> None:
        """Is a denial that says so."""
        with serve_raw(lambda asked: YES) as gone:
            url = gone.url
        async with AuthZenPdp(url, timeout=5, clock=Instant()) as client:
            decision = await client.decide(ask())

        assert "unreachable" == cause(decision)
        assert "ConnectError" == dict(decision.evidence)["error"]

    async def test_silence(self, pdp: Pdp) -> None:
        """Is a denial when the time is over."""
        pdp.says(HANG)

        assert "timeout" == cause(await decide(pdp, timeout=0.1))

    async def test_body_that_does_not_end(self, pdp: Pdp) -> None:
        """The deadline is for the whole answer."""
        pdp.says(b'HTTP/1.1 200 X\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{"decision": true}')

        # The server waits for the next request meanwhile.
        assert "timeout" == cause(await decide(pdp, timeout=0.1))

    async def test_silence_in_a_batch(self, pdp: Pdp) -> None:
        """Costs what was not answered, within one deadline for all."""
        pdp.says(json_reply({"evaluations": [{"decision": True}]}), HANG)

        async with AuthZenPdp(pdp.url, timeout=2) as client:  # in which the first answer has to come
            decisions = await client.decide_all([ask(tenant=t) for t in "abc"])

        assert [True, False, False] == [d.allowed for d in decisions]
        assert ["timeout"] * 2 == [cause(d) for d in decisions[1:]]

    async def test_batch_that_fails(self, pdp: Pdp) -> None:
        """Is denied as a whole."""
        pdp.says(raw_reply(500))

        async with AuthZenPdp(pdp.url, timeout=5) as client:
            decisions = await client.decide_all([ask(), ask()])

        assert ["status", "status"] == [cause(d) for d in decisions]

    async def test_caller_that_is_cancelled(self, pdp: Pdp) -> None:
        """Is cancelled, and no connection stays half read."""
        pdp.says(HANG)
        async with AuthZenPdp(pdp.url, timeout=30) as client:
            with anyio.move_on_after(0.1) as scope:
                await client.decide(ask())
        assert scope.cancelled_caught

    async def test_closed(self, pdp: Pdp) -> None:
        """Nothing is asked any more, with a client of ones own neither."""
        async with httpx.AsyncClient(trust_env=False) as http:
            for client in (AuthZenPdp(pdp.url), AuthZenPdp(pdp.url, client=http)):
                await client.aclose()
                await client.aclose()
                assert "error" == cause(await client.decide(ask()))
        assert [] == pdp.asked


class TestAttacks:
    @pytest.mark.parametrize(
        "body",
        [
            b'{"decision": "true"}', b'{"decision": 1}', b'{"decision": null}', b'{"decision": true, "decision": false}',
            b'{"decision": false, "decision": true}', b'{"decision": true', b'{"decision": true} {"decision": false}', b"true",
            b'[{"decision": true}]', b"", b'\xef\xbb\xbf{"decision": true}', b'{"decision": True}', b'{"decision": true, "x": NaN}',
            b'{"decision": true, "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        ],
        ids=lambda body: ascii(body)[2:40],
    )  # fmt: skip
    async def test_lying_types(self, pdp: Pdp, body: bytes) -> None:
        """What is not exactly one JSON object with `true` allows nothing."""
        pdp.says(raw_reply(200, body, JSON))

        assert cause(await decide(pdp)) in ("malformed", "not_json")
        assert 1 == len(pdp.asked)

    @pytest.mark.parametrize("kind", [None, "text/html", "text/json", "application/json-seq", "application/problem+json", "xapplication/json"])
    async def test_wrong_content_type(self, pdp: Pdp, kind: str | None) -> None:
        """A page that happens to be JSON is no answer."""
        pdp.says(raw_reply(200, b'{"decision": true}', *([("Content-Type", kind)] if kind else [])))

        assert "content_type" == cause(await decide(pdp))

    @pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/JSON ;x=y"])
    async def test_right_content_type(self, pdp: Pdp, kind: str) -> None:
        """Has parameters, and any case."""
        pdp.says(raw_reply(200, b'{"decision": true}', ("Content-Type", kind)))

        assert (await decide(pdp)).allowed

    async def test_oversize(self, pdp: Pdp) -> None:
        """A flood is not read to its end."""
        pdp.says(raw_reply(200, b'{"decision": true}' + b" " * (300 << 10), JSON))

        assert "too_large" == cause(await decide(pdp))

    async def test_compressed(self, pdp: Pdp) -> None:
        """Nothing is unpacked that nobody asked to be packed."""
        pdp.says(raw_reply(200, b'{"decision": true}', JSON, ("Content-Encoding", "gzip")))

        assert "encoding" == cause(await decide(pdp))
        assert "identity" == pdp.asked[0].header("accept-encoding")

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    @pytest.mark.parametrize("own", [True, False], ids=["own client", "caller's client"])
    async def test_redirect(self, pdp: Pdp, status: int, own: bool) -> None:
        """Is not followed, with a client that follows all others neither: who decides is not for the network to say."""
        with serve_raw(lambda asked: YES) as elsewhere:
            pdp.says(raw_reply(status, b'{"decision": true}', JSON, ("Location", f"{elsewhere.url}/yes")))
            async with httpx.AsyncClient(follow_redirects=True, trust_env=False) as http:
                assert "redirect" == cause(await decide(pdp, client=None if own else http))
            assert [] == elsewhere.asked

    async def test_answer_to_another_request(self, pdp: Pdp) -> None:
        """A proxy that mixes up answers is noticed where the decision point says whose they are."""
        pdp.says(json_reply({"decision": True}, 200, ("X-Request-ID", "another")))

        assert "another_request" == cause(await decide(pdp))

    async def test_id_that_comes_back(self, pdp: Pdp) -> None:
        """As AuthZEN has it."""
        pdp.says(lambda asked: json_reply({"decision": True}, 200, ("X-Request-ID", asked.header("x-request-id"))))

        assert (await decide(pdp)).allowed

    async def test_name_of_this_machine_that_leads_elsewhere(self, monkeypatch: pytest.MonkeyPatch, pdp: Pdp) -> None:
        """Without TLS the socket's own address counts, not a resolver's word for `localhost`."""
        monkeypatch.setattr("spiffe_client.policy._exchange.is_here", lambda address: not isinstance(address, tuple))

        assert "elsewhere" == cause(await decide(pdp))

    def test_addresses(self) -> None:
        """Of a socket that stays on this machine, and of some that do not."""
        here = [("127.0.0.1", 1), ("::1", 1, 0, 0), ("::ffff:127.0.0.1", 1), "/run/pdp.sock", None]
        elsewhere = [("10.0.0.1", 1), ("::ffff:10.0.0.1", 1), ("pdp.example", 1), ()]

        assert ([True] * 5, [False] * 4) == ([is_here(a) for a in here], [is_here(a) for a in elsewhere])

    async def test_client_that_breaks(self) -> None:
        """An error of the caller's client, such as of its authentication, is no permission and no crash."""

        async def broken(request: httpx.Request) -> httpx.Response:
            raise KeyError("a secret")

        async with httpx.AsyncClient(transport=httpx.MockTransport(broken)) as http:
            decision = await AuthZenPdp("https://pdp.example", client=http).decide(ask())

        assert ("error", "KeyError") == (cause(decision), dict(decision.evidence)["error"])
        assert "secret" not in repr(decision)

    async def test_impostor(self) -> None:
        """A peer with another SPIFFE ID is not asked a second time, and named by the error's code."""
        asked = 0

        async def impostor(request: httpx.Request) -> httpx.Response:
            nonlocal asked
            asked += 1
            raise httpx.ConnectError("TLS") from PeerNotAllowedError(ask().agent, rule="allow(pdp)")

        async with httpx.AsyncClient(transport=httpx.MockTransport(impostor)) as http:
            decision = await AuthZenPdp("https://pdp.example", client=http).decide(ask())

        assert ("unreachable", "peer_not_allowed") == (cause(decision), dict(decision.evidence)["error"])
        assert 1 == asked

    async def test_environment_that_names_a_proxy(self, pdp: Pdp, monkeypatch: pytest.MonkeyPatch) -> None:
        """The own client takes nothing from the environment: no proxy stands between."""
        with serve_raw(lambda asked: YES) as proxy:
            for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
                monkeypatch.setenv(name, proxy.url)
            pdp.says(json_reply({"decision": False}))

            assert "decision_point_denied" == (await decide(pdp)).reason
            assert [] == proxy.asked

    async def test_question_that_cannot_be_sent(self, pdp: Pdp) -> None:
        """Text that is no text goes as JSON has it, escaped, and nothing breaks."""
        async with AuthZenPdp(pdp.url, timeout=5) as client:
            assert (await client.decide(ask(resource="a\ud800\x00"))).allowed

        assert "a\ud800\x00" == json.loads(pdp.asked[0].body)["resource"]["id"]


class TestDiscovery:
    def configure(self, pdp: Pdp, then: Any = YES, **changes: Any) -> Callable[[Asked], Any]:
        document = {
            "policy_decision_point": pdp.url,
            "access_evaluation_endpoint": f"{pdp.url}/one",
            "access_evaluations_endpoint": f"{pdp.url}/many",
            **changes,
        }
        return lambda asked: json_reply(document) if asked.method == "GET" else then

    async def test_endpoints(self, pdp: Pdp) -> None:
        """Are read once, where the well-known path says."""
        pdp.says(self.configure(pdp))

        async with AuthZenPdp(pdp.url, discover=True, timeout=5) as client:
            assert (await client.decide(ask())).allowed
            assert (await client.decide(ask())).allowed
            assert f"{pdp.url}/many" == (await client.metadata()).access_evaluations_endpoint

        assert ["/.well-known/authzen-configuration", "/one", "/one"] == [asked.target for asked in pdp.asked]

    async def test_asked_for_alone(self, pdp: Pdp) -> None:
        """For who wants to look first, such as a health check."""
        pdp.says(self.configure(pdp))
        async with AuthZenPdp(pdp.url, discover=True, timeout=5) as client:
            assert f"{pdp.url}/one" == (await client.metadata()).access_evaluation_endpoint

    async def test_none_for_batches(self, pdp: Pdp) -> None:
        """Then batches are denied."""
        pdp.says(self.configure(pdp, access_evaluations_endpoint=None))
        async with AuthZenPdp(pdp.url, discover=True, timeout=5) as client:
            assert "unsupported" == cause((await client.decide_all([ask()]))[0])

    async def test_attack_metadata_of_another(self, pdp: Pdp) -> None:
        """Nothing is asked, and it may be right the next time."""
        pdp.says(self.configure(pdp, policy_decision_point="https://evil.example"))
        async with AuthZenPdp(pdp.url, discover=True, timeout=5) as client:
            assert "metadata" == cause(await client.decide(ask()))
            with pytest.raises(PolicyError, match="cannot be used"):
                await client.metadata()
            pdp.says(self.configure(pdp))
            assert (await client.decide(ask())).allowed

    async def test_no_metadata(self, pdp: Pdp) -> None:
        """Is a denial."""
        pdp.says(raw_reply(404))

        assert "status" == cause(await decide(pdp, discover=True))

    async def test_silence(self, pdp: Pdp) -> None:
        """Is a denial in time, and an error for who asks for the metadata."""
        pdp.says(HANG)

        assert "timeout" == cause(await decide(pdp, discover=True, timeout=0.1))
        async with AuthZenPdp(pdp.url, discover=True, timeout=0.1) as client:
            with pytest.raises(PolicyError, match="within 0.1 s"):
                await client.metadata()

"""The AuthZEN client against Cerbos: its decisions, its batches, its traps, and its absence."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import anyio
import httpx
import pytest

from spiffe_client.ids import SpiffeId
from spiffe_client.policy import AuthZenPdp, CachedDecisions, Decision, deny_wins
from tests.support.cerbos import serve_cerbos
from tests.support.peers import free_port
from tests.support.questions import ask

pytestmark = [pytest.mark.anyio, pytest.mark.peers]


@pytest.fixture
async def pdp(cerbos: str) -> AsyncIterator[AuthZenPdp]:
    async with AuthZenPdp(cerbos, timeout=10) as pdp:
        yield pdp


def invoice(number: int, **facts: object) -> object:
    return ask(resource=f"tenants/acme/invoices/{number}", **facts)


class TestDecisions:
    async def test_allow(self, pdp: AuthZenPdp, cerbos: str) -> None:
        """What its policy allows is allowed, in its name."""
        assert Decision(allowed=True, reason="allowed", policy=cerbos) == await pdp.decide(ask())

    @pytest.mark.parametrize(
        "facts",
        [
            {"tenant": "umbrella"},
            {"classification": "restricted"},
            {"agent": SpiffeId.parse("spiffe://prod.example/agent/other")},
            {"depth": 3},
            {"parents": ("task-0", "task-revoked")},
            {"action": "invoices:delete"},
            {"action": "orders:read"},
        ],
        ids=lambda facts: next(iter(facts)),
    )
    async def test_deny(self, pdp: AuthZenPdp, facts: dict) -> None:
        """Each fact of a question counts that its policy looks at; what it has no policy for is denied."""
        decision = await pdp.decide(ask(**facts))

        assert (False, "decision_point_denied") == (decision.allowed, decision.reason)

    async def test_context(self, pdp: AuthZenPdp) -> None:
        """What is in AuthZEN's context, such as the purpose, Cerbos shows to no policy."""
        assert "decision_point_denied" == (await pdp.decide(ask(action="invoices:by-context"))).reason

    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
    async def test_metadata(self, cerbos: str, host: str) -> None:
        """Cerbos names itself as it is called, so its metadata fits by whatever name that is."""
        url = cerbos.replace("127.0.0.1", host)
        async with AuthZenPdp(url, discover=True, timeout=10) as pdp:
            assert (await pdp.decide(ask())).allowed
            assert f"{url}/access/v1/evaluations" == (await pdp.metadata()).access_evaluations_endpoint

    async def test_tenant_it_does_not_know(self, cerbos: str) -> None:
        """There is no metadata at the place of a tenant's."""
        async with AuthZenPdp(f"{cerbos}/tenant1", discover=True, timeout=10) as pdp:
            assert (("cause", "status"), ("status", 404)) == (await pdp.decide(ask())).evidence[:2]

    async def test_combined_and_remembered(self, pdp: AuthZenPdp, cerbos: str) -> None:
        """A denial of one decider wins, and a remembered allowance needs no Cerbos."""
        remembered = CachedDecisions(pdp, seconds=60)
        assert (await deny_wins(remembered, pdp).decide(ask())).allowed
        await pdp.aclose()

        assert (await remembered.decide(ask())).allowed
        assert "decision_point_unavailable" == (await deny_wins(remembered, pdp).decide(ask())).reason


class TestBatches:
    async def test_all(self, pdp: AuthZenPdp) -> None:
        """A decision for each."""
        questions = [invoice(1), invoice(2, tenant="umbrella"), invoice(3)]

        assert [True, False, True] == [d.allowed for d in await pdp.decide_all(questions)]

    async def test_short_circuit(self, pdp: AuthZenPdp) -> None:
        """Cerbos answers with less than was asked, and what is missing is denied."""
        questions = [invoice(1), invoice(2, tenant="umbrella"), invoice(3)]

        first_no = await pdp.decide_all(questions, semantic="deny_on_first_deny")
        first_yes = await pdp.decide_all(questions, semantic="permit_on_first_permit")

        assert [True, False, False] == [d.allowed for d in first_no]
        assert [True, False, False] == [d.allowed for d in first_yes]
        assert (("cause", "not_evaluated"),) == first_no[2].evidence == first_yes[1].evidence

    async def test_semantic_it_does_not_know(self, pdp: AuthZenPdp) -> None:
        """Is a 400, which denies all."""
        decisions = await pdp.decide_all([ask(), ask()], semantic="all_at_once")  # type: ignore[arg-type]

        assert [("decision_point_unavailable", 400)] * 2 == [(d.reason, dict(d.evidence)["status"]) for d in decisions]

    @pytest.mark.parametrize("facts", [{"tenant": "umbrella"}, {"classification": "restricted"}, {"depth": 3}], ids=lambda f: next(iter(f)))
    async def test_attack_second_question_about_the_same(self, pdp: AuthZenPdp, facts: dict) -> None:
        """Ask twice about the same resource in one request, once for a tenant that is not one's own (real
        Cerbos).

        Whatever the decision point makes of that, the client asks them apart.
        """
        decisions = await pdp.decide_all([ask(), ask(**facts)])

        assert [True, False] == [decision.allowed for decision in decisions]
        assert "decision_point_denied" == decisions[1].reason


async def test_gone_and_back() -> None:
    """The decision point goes down and comes back, twice (real Cerbos).

    While it is down everything is denied, in time; when it is back, it is asked again.
    """
    if "CERBOS_BIN" not in os.environ:
        pytest.skip("CERBOS_BIN is not set: `nox -s peers` installs Cerbos with npm and sets it")
    port = free_port()
    async with AuthZenPdp(f"http://127.0.0.1:{port}", timeout=5) as pdp:
        with anyio.fail_after(20):
            assert "decision_point_unavailable" == (await pdp.decide(ask())).reason
        for _ in range(2):
            with serve_cerbos(port):
                assert (await pdp.decide(ask())).allowed
            with anyio.fail_after(20):
                assert "decision_point_unavailable" == (await pdp.decide(ask())).reason

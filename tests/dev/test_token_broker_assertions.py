"""Tokens that are no access tokens: chaining to another token broker, tickets, ID-JAG, transactions."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import httpx
import pytest

from spiffe_client.dev import DevTokenBroker, DevTrustDomain
from spiffe_client.dev.token_broker import Client
from tests.dev.conftest import AGENT, AUDITOR, ORDERS
from tests.support.oauth_client import JWT_BEARER, TYPE, OAuthClient, ProofKey, claims_of, header_of

pytestmark = pytest.mark.anyio

CHAT = "https://chat.partner.example"


def refused(reply: httpx.Response) -> tuple[int, str]:
    return reply.status_code, reply.json()["error"]


@pytest.fixture
async def partner(domain: DevTrustDomain) -> AsyncIterator[DevTokenBroker]:
    """A token broker elsewhere, that takes assertions of the first one."""
    rules = [Client.of(AGENT, audiences=[CHAT], scopes="chat chat:admin", ttl=60), Client.of(AUDITOR)]
    async with DevTokenBroker(domain, rules=rules, issuer_path="/partner/") as partner:
        yield partner


@pytest.fixture
async def agent(
    broker: DevTokenBroker, partner: DevTokenBroker, http: httpx.AsyncClient
) -> OAuthClient:
    partner.trust_issuer(broker)
    broker.trust_issuer(partner)
    broker.rules = type(broker.rules)(
        (
            Client.of(
                AGENT,
                audiences=[partner.issuer, CHAT, ORDERS],
                scopes="chat orders:read",
                may_delegate_to=[AUDITOR],
            ),
            Client.of(AUDITOR, audiences=["*"], scopes="orders:read"),
        )
    )
    return OAuthClient(broker, http, AGENT)


async def redeem(client: OAuthClient, assertion: str, **form: object) -> httpx.Response:
    headers = form.pop("headers", None)
    return await client.post("token", {"grant_type": JWT_BEARER, "assertion": assertion, **form}, headers=headers)


class TestIdentityChaining:
    async def test_two_legs(self, agent: OAuthClient, partner: DevTokenBroker, http: httpx.AsyncClient) -> None:
        """draft-ietf-oauth-identity-chaining §2.3-2.4: an assertion here, an access token there."""
        first = await agent.exchange(
            audience=partner.issuer, scope="chat", requested_token_type=f"{TYPE}jwt", purpose="p"
        )
        assert ("N_A", f"{TYPE}jwt", 60) == tuple(
            first.json()[n] for n in ("token_type", "issued_token_type", "expires_in")
        )
        assertion = first.json()["access_token"]
        assert {"iss": agent.broker.issuer, "aud": partner.issuer, "sub": AGENT}.items() <= claims_of(assertion).items()

        second = await redeem(OAuthClient(partner, http, AGENT), assertion, resource=CHAT)
        claims = claims_of(second.json()["access_token"])
        assert (partner.issuer, AGENT, CHAT, "chat", "p") == tuple(
            claims[n] for n in ("iss", "sub", "aud", "scope", "purpose")
        )
        assert 60 == second.json()["expires_in"]

    async def test_assertion_is_the_default_for_another_token_broker(
        self, agent: OAuthClient, partner: DevTokenBroker
    ) -> None:
        """The requested type may be left out (§2.3.1); `resource` may name the token broker, too."""
        for name in ("audience", "resource"):
            reply = await agent.exchange(scope="chat", **{name: partner.issuer})
            assert "N_A" == reply.json()["token_type"]
            assert partner.issuer == claims_of(reply.json()["access_token"])["aud"]

    async def test_second_leg_cannot_widen(
        self, agent: OAuthClient, partner: DevTokenBroker, http: httpx.AsyncClient
    ) -> None:
        """What the assertion allows is the limit, whatever the rules there say."""
        assertion = (await agent.exchange(audience=partner.issuer, scope="chat")).json()["access_token"]
        reply = await redeem(OAuthClient(partner, http, AGENT), assertion, resource=CHAT, scope="chat:admin")
        assert (400, "invalid_scope") == refused(reply)

    async def test_who_may_not_have_it_gets_none(self, agent: OAuthClient) -> None:
        """Another token broker is an audience like any other."""
        reply = await agent.exchange(audience="https://evil.example", requested_token_type=f"{TYPE}jwt")
        assert (400, "invalid_target") == refused(reply)

    @pytest.mark.parametrize("audience", [[], [CHAT, ORDERS]])
    async def test_assertion_is_for_one(self, agent: OAuthClient, audience: list[str]) -> None:
        """Whoever else it is for could redeem it."""
        form = {"audience": audience} if audience else {"resource": [CHAT, ORDERS]}
        reply = await agent.exchange(requested_token_type=f"{TYPE}jwt", **form)
        assert (400, "invalid_target") == refused(reply)

    async def test_access_token_is_no_assertion(
        self, agent: OAuthClient, partner: DevTokenBroker, http: httpx.AsyncClient
    ) -> None:
        """One with that audience by chance: told by its type (RFC 8725 §3.12)."""
        form = {"audience": partner.issuer, "requested_token_type": f"{TYPE}access_token"}
        token = (await agent.exchange(**form)).json()["access_token"]
        assert (400, "invalid_grant") == refused(await redeem(OAuthClient(partner, http, AGENT), token))

    @pytest.mark.parametrize("assertion", ["", "a.b.c", "FOREIGN", "SVID"])
    async def test_others_are_refused(self, agent: OAuthClient, assertion: str) -> None:
        """RFC 7523 §3.1: malformed, by an issuer that is not trusted, or for somebody else."""
        made = {
            "FOREIGN": ProofKey().assertion("x", agent.broker.issuer),
            "SVID": agent.svid(),
        }.get(assertion, assertion)
        wanted = "invalid_request" if assertion == "" else "invalid_grant"
        assert (400, wanted) == refused(await redeem(agent, made))

    async def test_assertion_for_another_token_broker_is_refused(
        self, agent: OAuthClient, partner: DevTokenBroker, http: httpx.AsyncClient
    ) -> None:
        """Neither here, where it was issued, nor as a subject."""
        assertion = (await agent.exchange(audience=partner.issuer, scope="chat")).json()["access_token"]
        assert (400, "invalid_grant") == refused(await redeem(agent, assertion))
        assert (400, "invalid_request") == refused(await agent.exchange(assertion, "jwt"))

    async def test_foreign_assertion_is_a_subject_too(
        self, agent: OAuthClient, partner: DevTokenBroker, http: httpx.AsyncClient
    ) -> None:
        """A JWT of a trusted issuer for this one can be exchanged; its scope is the limit."""
        assertion = (await agent.exchange(audience=partner.issuer, scope="chat")).json()["access_token"]
        there = OAuthClient(partner, http, AGENT)
        reply = await there.exchange(assertion, "jwt", audience=CHAT)
        assert "chat" == reply.json()["scope"]
        wider = await there.exchange(assertion, "jwt", audience=CHAT, scope="chat:admin")
        assert (400, "invalid_scope") == refused(wider)


class TestIdJag:
    async def test_two_legs(self, agent: OAuthClient, partner: DevTokenBroker, http: httpx.AsyncClient) -> None:
        """draft-ietf-oauth-identity-assertion-authz-grant §4-5."""
        first = await agent.exchange(
            audience=partner.issuer, resource=CHAT, scope="chat", requested_token_type=f"{TYPE}id-jag"
        )
        jag = first.json()["access_token"]
        assert ("N_A", f"{TYPE}id-jag") == (first.json()["token_type"], first.json()["issued_token_type"])
        assert "oauth-id-jag+jwt" == header_of(jag)["typ"]
        assert (AGENT, CHAT, partner.issuer) == tuple(claims_of(jag)[n] for n in ("client_id", "resource", "aud"))
        assert "cnf" not in claims_of(jag)

        second = await redeem(OAuthClient(partner, http, AGENT), jag)
        assert (CHAT, "chat") == tuple(claims_of(second.json()["access_token"])[n] for n in ("aud", "scope"))

    async def test_another_client_cannot_redeem_it(
        self, agent: OAuthClient, partner: DevTokenBroker, http: httpx.AsyncClient
    ) -> None:
        """§5.1: `client_id` is who redeems it."""
        form = {"audience": partner.issuer, "scope": "chat", "requested_token_type": f"{TYPE}id-jag"}
        jag = (await agent.exchange(**form)).json()["access_token"]
        assert (400, "invalid_grant") == refused(await redeem(OAuthClient(partner, http, AUDITOR), jag))

    async def test_several_resources(self, agent: OAuthClient, partner: DevTokenBroker) -> None:
        """§4.3: `resource` may be repeated."""
        form = {"audience": partner.issuer, "resource": [CHAT, ORDERS], "requested_token_type": f"{TYPE}id-jag"}
        assert [CHAT, ORDERS] == claims_of((await agent.exchange(**form)).json()["access_token"])["resource"]

    async def test_bound_to_a_key(
        self, agent: OAuthClient, partner: DevTokenBroker, http: httpx.AsyncClient
    ) -> None:
        """Where the client's tokens always are: redeemed with that key only."""
        key = ProofKey()
        rule = Client.of(AGENT, audiences=[partner.issuer], scopes="chat", binding="dpop")
        agent.broker.rules = type(agent.broker.rules)((rule,))
        form = {"audience": partner.issuer, "requested_token_type": f"{TYPE}id-jag"}
        jag = (await agent.exchange(**form, headers=agent.proven(key))).json()["access_token"]
        assert {"jkt": key.jkt} == claims_of(jag)["cnf"]
        there = OAuthClient(partner, http, AGENT)
        assert (400, "invalid_grant") == refused(await redeem(there, jag, resource=CHAT))
        assert (400, "invalid_grant") == refused(
            await redeem(there, jag, resource=CHAT, headers=there.proven(ProofKey()))
        )
        reply = await redeem(there, jag, resource=CHAT, headers=there.proven(key))
        assert "DPoP" == reply.json()["token_type"]


class TestTicket:
    async def ticket(self, agent: OAuthClient, parent: str | None = None, **form: object) -> str:
        said = {"audience": agent.broker.issuer, "requested_token_type": f"{TYPE}jwt", **form}
        return (await agent.exchange(parent, **said)).json()["access_token"]

    async def test_child_redeems_it_with_its_own_key(self, agent: OAuthClient, auditor: OAuthClient) -> None:
        """A bound token's holder lends less of it to another key holder."""
        key, theirs = ProofKey(), ProofKey()
        parent = (await agent.credentials("orders:read", audience=ORDERS, headers=agent.proven(key))).json()
        parent = parent["access_token"]
        headers = agent.proven(key, token=parent)
        ticket = await self.ticket(agent, parent, scope="orders:read", headers=headers)
        reply = await redeem(auditor, ticket, audience=ORDERS, headers=auditor.proven(theirs))
        claims = claims_of(reply.json()["access_token"])

        assert (AGENT, {"sub": AUDITOR}, {"jkt": theirs.jkt}) == tuple(claims[n] for n in ("sub", "act", "cnf"))
        assert 200 < reply.json()["expires_in"] <= 300

    async def test_it_is_good_once(self, agent: OAuthClient, auditor: OAuthClient) -> None:
        """Who overhears it comes too late."""
        ticket = await self.ticket(agent, scope="orders:read")
        replies = [await redeem(auditor, ticket, audience=ORDERS) for _ in range(2)]
        assert [200, 400] == [r.status_code for r in replies]

    async def test_who_is_not_let_act_cannot_redeem_it(self, agent: OAuthClient, auditor: OAuthClient) -> None:
        """A ticket that was found is not a permission."""
        ticket = await self.ticket(auditor, scope="orders:read")
        assert (400, "invalid_grant") == refused(await redeem(agent, ticket, audience=ORDERS))
        assert "act" not in claims_of((await redeem(auditor, ticket, audience=ORDERS)).json()["access_token"])

    async def test_ticket_is_a_subject_too(self, agent: OAuthClient) -> None:
        """One of ours, for us."""
        ticket = await self.ticket(agent, scope="orders:read")
        assert "orders:read" == (await agent.exchange(ticket, "jwt", audience=ORDERS)).json()["scope"]

    async def test_revoking_the_parent_reaches_what_the_child_got(
        self, agent: OAuthClient, auditor: OAuthClient
    ) -> None:
        """Through the ticket, also when that is long gone."""
        parent = await agent.token("orders:read", audience=ORDERS)
        ticket = await self.ticket(agent, parent, scope="orders:read")
        child = (await redeem(auditor, ticket, audience=ORDERS)).json()["access_token"]
        assert True is (await auditor.introspect(child))["active"]
        await agent.post("revocation", {"token": parent})
        assert {"active": False} == await auditor.introspect(child)


class TestTransactionToken:
    async def txn(self, client: OAuthClient, subject: str | None = None, kind: str = "jwt", **form: object):
        said = {"audience": "dev.example", "scope": "orders:read", "requested_token_type": f"{TYPE}txn_token"}
        return await client.exchange(subject, kind, **{**said, **form})

    async def test_is_issued(self, agent: OAuthClient) -> None:
        """draft-ietf-oauth-transaction-tokens §5: its type, its claims, and never an access token."""
        parent = await agent.token("orders:read", audience=ORDERS)
        reply = await self.txn(
            agent,
            parent,
            "access_token",
            request_details=json.dumps({"order": 7}),
            request_context=json.dumps({"ip": "::1"}),
        )
        token = reply.json()["access_token"]
        claims = claims_of(token)

        assert ("N_A", f"{TYPE}txn_token") == (reply.json()["token_type"], reply.json()["issued_token_type"])
        assert "txntoken+jwt" == header_of(token)["typ"]
        assert ("dev.example", AGENT, "orders:read", AGENT) == tuple(
            claims[n] for n in ("aud", "sub", "scope", "req_wl")
        )
        assert ({"order": 7}, {"ip": "::1"}) == (claims["tctx"], claims["rctx"])
        assert 1 == agent.broker.issued["txn_token"]

    async def test_replacement_keeps_the_transaction(self, agent: OAuthClient, auditor: OAuthClient) -> None:
        """§7: any workload of the trust domain, the same transaction, never wider."""
        first = (await self.txn(agent, scope="chat orders:read", request_details='{"a":1}')).json()["access_token"]
        second = await self.txn(auditor, first, "txn_token", request_details='{"a":2}')
        claims = claims_of(second.json()["access_token"])
        kept = ("txn", "sub", "aud", "tctx")
        assert [claims_of(first)[n] for n in kept] == [claims[n] for n in kept]
        assert ("orders:read", AUDITOR) == (claims["scope"], claims["req_wl"])
        wider = await self.txn(auditor, second.json()["access_token"], "txn_token", scope="chat")
        assert (400, "invalid_scope") == refused(wider)
        elsewhere = await self.txn(auditor, first, "txn_token", audience=ORDERS)
        assert (400, "invalid_target") == refused(elsewhere)

    async def test_is_never_an_access_token(self, agent: OAuthClient) -> None:
        """Not by exchange, either (§3)."""
        token = (await self.txn(agent)).json()["access_token"]
        reply = await agent.exchange(token, "txn_token", audience=ORDERS)
        assert (400, "invalid_request") == refused(reply)

    @pytest.mark.parametrize(
        "form",
        [
            {"scope": ""},
            {"audience": []},
            {"audience": ["dev.example", ORDERS]},
            {"request_details": "[]"},
            {"request_context": "x"},
        ],
    )
    async def test_scope_and_one_audience_are_required(self, agent: OAuthClient, form: dict[str, object]) -> None:
        """§6.1."""
        form = {**form, "resource": ORDERS} if form == {"audience": []} else form
        assert (400, "invalid_request") == refused(await self.txn(agent, **form))

    async def test_own_word(self, agent: OAuthClient) -> None:
        """§6.2: what the workload itself says, signed or not, and for nothing but a transaction token."""
        key = ProofKey()
        signer = Client.of("signer", spiffe_id=AGENT, jwk=key.jwk, scopes="orders:read")
        public = Client.of("public", public=True, scopes="orders:read")
        agent.broker.rules = type(agent.broker.rules)((*agent.broker.rules, signer, public))
        unsigned = json.dumps({"sub": "cron job 7"})
        signed = key.assertion("signer", agent.broker.issuer, sub="cron job 8")
        form = {"client_id": "signer"}
        subjects = [
            claims_of((await self.txn(agent, unsigned, "unsigned_json")).json()["access_token"])["sub"],
            claims_of((await self.txn(agent, signed, "self_signed", **form)).json()["access_token"])["sub"],
        ]
        assert ["cron job 7", "cron job 8"] == subjects
        others = [
            await self.txn(agent, "[]", "unsigned_json"),
            await self.txn(agent, "{}", "unsigned_json"),
            await self.txn(agent, signed, "self_signed"),
            await self.txn(agent, key.assertion("x", agent.broker.issuer), "self_signed", **form),
            await agent.exchange(unsigned, "unsigned_json", audience=ORDERS),
        ]
        assert [(400, "invalid_request")] * 5 == [refused(r) for r in others]
        form = {"client_id": "public", "client_assertion": "", "client_assertion_type": ""}
        assert (400, "invalid_request") == refused(await self.txn(agent, unsigned, "unsigned_json", **form))

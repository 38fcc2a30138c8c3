"""Token exchange: narrowing, delegation, and every way in which one could get more than one has."""

from __future__ import annotations

import json

import httpx
import jwt
import pytest

from spiffe_client.dev import CertificateAuthority, DevTokenBroker, DevTrustDomain
from spiffe_client.dev.token_broker import Client, ForeignIssuer, Rules
from spiffe_client.errors import RegistrationError
from tests.dev.conftest import AGENT, AUDITOR, ORDERS
from tests.support.manual_clock import ManualClock
from tests.support.oauth_client import TYPE, OAuthClient, ProofKey, claims_of, header_of

pytestmark = pytest.mark.anyio

IDP = ProofKey()
PAYMENT = {"type": "payment", "actions": ["refund", "charge"], "limit": 100}


def refused(reply: httpx.Response) -> tuple[int, str]:
    return reply.status_code, reply.json()["error"]


def details(*objects: object) -> dict[str, str]:
    return {"authorization_details": json.dumps(objects)}


class TestAccessToken:
    async def test_is_what_rfc_9068_says(self, agent: OAuthClient) -> None:
        """Its type, its claims, and a signature by a published key (RFC 9068 §2)."""
        reply = await agent.exchange(scope="orders:read", audience=ORDERS, purpose="close the books")

        assert {
            "access_token": reply.json()["access_token"],
            "token_type": "Bearer",
            "expires_in": 300,
            "scope": "orders:read",
            "issued_token_type": f"{TYPE}access_token",
        } == reply.json()
        token = reply.json()["access_token"]
        assert ("at+jwt", "ES256") == (header_of(token)["typ"], header_of(token)["alg"])
        jwks = (await agent.http.get(f"{agent.broker.issuer}/jwks")).json()
        key = jwt.PyJWKSet.from_dict(jwks)[header_of(token)["kid"]]
        claims = jwt.decode(token, key, ["ES256"], audience=ORDERS, issuer=agent.broker.issuer)
        assert {"sub": AGENT, "client_id": AGENT, "scope": "orders:read", "purpose": "close the books"}.items() <= claims.items()
        assert claims["exp"] - claims["iat"] in (300, 301)
        assert "act" not in claims

    async def test_keys_rotate_and_old_tokens_stay_good(self, agent: OAuthClient) -> None:
        """RFC 7517 §5: a set has old keys as long as something was signed with them."""
        token = await agent.token("orders:read", audience=ORDERS)
        agent.broker.rotate_key()
        new = await agent.token("orders:read", audience=ORDERS)

        assert header_of(token)["kid"] != header_of(new)["kid"]
        assert True is (await agent.introspect(token))["active"]
        jwks = (await agent.http.get(f"{agent.broker.issuer}/jwks")).json()
        assert [header_of(new)["kid"], header_of(token)["kid"]] == [k["kid"] for k in jwks["keys"]]

    @pytest.mark.parametrize("ttl", [0, 0.5, float("nan"), -1])
    async def test_ttl_is_a_second_at_least(self, domain: DevTrustDomain, ttl: float) -> None:
        """Tokens count whole seconds."""
        with pytest.raises(RegistrationError, match="token_ttl"):
            DevTokenBroker(domain, token_ttl=ttl)

    async def test_child_of_a_dying_token_says_so(self, domain: DevTrustDomain, http: httpx.AsyncClient) -> None:
        """Never 0 seconds, which many take for \"for ever\"; after its end there is nothing to exchange."""
        clock = ManualClock()
        clock.skew = domain._clock.now() - clock.now()
        async with DevTokenBroker(domain, rules=[Client.of(AGENT)], clock=clock) as broker:
            agent = OAuthClient(broker, http, AGENT)
            parent = await agent.token()
            svid = domain.ca.issue_jwt_svid(AGENT, broker.issuer, ttl=3600)
            agent.svid = lambda: svid
            left = claims_of(parent)["exp"] - clock.now().timestamp()
            await clock.advance(left - 0.5)
            dying = await agent.exchange(parent)
            await clock.advance(0.5)
            dead = await agent.exchange(parent)
        assert 1 == dying.json()["expires_in"]
        assert (400, "invalid_request") == refused(dead)

    async def test_ttl_is_the_rules(self, domain: DevTrustDomain, http: httpx.AsyncClient) -> None:
        """A client's own lifetime goes before the token broker's."""
        rules = [Client.of(AGENT, ttl=7), Client.of(AUDITOR)]
        async with DevTokenBroker(domain, rules=rules, token_ttl=20) as broker:
            ttls = [
                (await OAuthClient(broker, http, who).credentials()).json()["expires_in"]
                for who in (AGENT, AUDITOR)
            ]
        assert [7, 20] == ttls


class TestScope:
    async def test_what_may_be_had_of_it_is_granted_and_said(self, agent: OAuthClient) -> None:
        """RFC 6749 §3.3: narrower than asked for is visible in the reply."""
        reply = await agent.exchange(scope="orders:read orders:delete", audience=ORDERS)
        assert "orders:read" == reply.json()["scope"]

    async def test_none_asked_for_is_all_that_may_be_had(self, agent: OAuthClient) -> None:
        """RFC 6749 §3.3: a default."""
        reply = await agent.exchange(audience=ORDERS)
        assert "orders:read orders:refund ssf.read" == reply.json()["scope"]

    async def test_nothing_of_it_may_be_had(self, agent: OAuthClient) -> None:
        """RFC 6749 §5.2."""
        reply = await agent.exchange(scope="orders:delete", audience=ORDERS)
        assert (400, "invalid_scope") == refused(reply)

    async def test_own_token_is_narrowed(self, agent: OAuthClient) -> None:
        """A parent's scope is inherited, or less of it."""
        parent = await agent.token("orders:read orders:refund", audience=ORDERS, purpose="p")
        same = (await agent.exchange(parent)).json()
        less = (await agent.exchange(parent, scope="orders:read")).json()

        assert "orders:read orders:refund" == same["scope"]
        assert "orders:read" == less["scope"]
        assert (ORDERS, "p") == (claims_of(less["access_token"])["aud"], claims_of(less["access_token"])["purpose"])

    async def test_widening_a_token_is_refused(self, agent: OAuthClient) -> None:
        """What the rules allow the client does not matter: the token does not."""
        parent = await agent.token("orders:read", audience=ORDERS)
        reply = await agent.exchange(parent, scope="orders:read orders:refund")
        assert (400, "invalid_scope") == refused(reply)

    async def test_child_does_not_outlive_its_parent(self, domain: DevTrustDomain, http: httpx.AsyncClient) -> None:
        """Exchanging again and again must not keep authority alive."""
        rules = [Client.of(AGENT, ttl=5, scopes="*"), Client.of(AUDITOR)]
        async with DevTokenBroker(domain, rules=rules, token_ttl=300) as broker:
            agent = OAuthClient(broker, http, AGENT)
            parent = await agent.token("orders:read")
            broker.rules = Rules((Client.of(AGENT, ttl=300),))
            child = (await agent.exchange(parent)).json()["access_token"]
        assert claims_of(parent)["exp"] == claims_of(child)["exp"]


class TestTarget:
    async def test_resource_and_audience_can_be_mixed(self, agent: OAuthClient) -> None:
        """RFC 8693 §2.1, RFC 8707 §2: both may be repeated."""
        reply = await agent.exchange(resource=[ORDERS], audience=["https://stock.example", ORDERS])
        assert [ORDERS, "https://stock.example"] == claims_of(reply.json()["access_token"])["aud"]

    @pytest.mark.parametrize(
        "form",
        [
            {"audience": "https://elsewhere.example"},
            {"resource": "https://elsewhere.example"},
            {"resource": f"{ORDERS}#x"},
            {"resource": "orders"},
            {"resource": "https://[x"},
            {"audience": [ORDERS, "https://elsewhere.example"]},
            {},
        ],
    )
    async def test_others_are_refused(self, agent: OAuthClient, form: dict[str, object]) -> None:
        """RFC 8707 §2: also one with a fragment, and none where there are several to choose from."""
        assert (400, "invalid_target") == refused(await agent.exchange(**form))

    @pytest.mark.parametrize(
        ("resource", "status"), [("https://x", 200), ("urn:x:y", 200), ("https://x#y", 400), ("x", 400), ("https://[x", 400)]
    )
    async def test_resource_is_an_absolute_uri(self, agent: OAuthClient, resource: str, status: int) -> None:
        """RFC 8707 §2, also for who may have any; an audience is any text."""
        agent.broker.rules = Rules((Client.of(AGENT, audiences="*"),))
        assert status == (await agent.exchange(resource=resource)).status_code
        assert 200 == (await agent.exchange(audience=resource)).status_code

    async def test_only_one_is_the_default(self, auditor: OAuthClient) -> None:
        """RFC 9068 §3."""
        assert ORDERS == claims_of(await auditor.token())["aud"]


class TestAuthorizationDetails:
    async def test_are_granted_returned_and_in_the_token(self, agent: OAuthClient) -> None:
        """RFC 9396 §7, §9.1, §9.2."""
        reply = await agent.exchange(audience=ORDERS, **details(PAYMENT))
        token = reply.json()["access_token"]

        assert [PAYMENT] == reply.json()["authorization_details"]
        assert [PAYMENT] == claims_of(token)["authorization_details"]
        assert [PAYMENT] == (await agent.introspect(token))["authorization_details"]

    @pytest.mark.parametrize(
        "text",
        ["x", "{}", "[]", "[1]", "[{}]", '[{"type":"x"}]', '[{"type":7}]', '[],"x":1', '[{"type":"payment"},1]'],
    )
    async def test_others_are_refused(self, agent: OAuthClient, text: str) -> None:
        """RFC 9396 §5: malformed, without type, or of one that is not for this client."""
        reply = await agent.exchange(audience=ORDERS, authorization_details=text)
        assert (400, "invalid_authorization_details") == refused(reply)

    @pytest.mark.parametrize(
        ("asked", "status"),
        [
            (PAYMENT, 200),
            ({**PAYMENT, "actions": ["refund"]}, 200),
            ({**PAYMENT, "actions": ["refund", "void"]}, 400),
            ({**PAYMENT, "actions": []}, 400),
            ({**PAYMENT, "limit": 101}, 400),
            ({**PAYMENT, "limit": True}, 400),
            ({"type": "payment"}, 400),
            ({**PAYMENT, "more": 1}, 400),
        ],
    )
    async def test_exchange_only_narrows_them(self, agent: OAuthClient, asked: object, status: int) -> None:
        """What is left out would not be limited any more."""
        parent = (await agent.exchange(audience=ORDERS, **details(PAYMENT))).json()["access_token"]
        reply = await agent.exchange(parent, **details(asked))
        assert status == reply.status_code

    async def test_none_asked_for_are_none_granted(self, agent: OAuthClient) -> None:
        """They are for one purpose; nobody inherits them by silence."""
        parent = (await agent.exchange(audience=ORDERS, **details(PAYMENT))).json()["access_token"]
        assert "authorization_details" not in (await agent.exchange(parent)).json()

    @pytest.mark.parametrize("purpose", ["x" * 501, "a\nb"])
    async def test_purpose_is_a_line_of_text(self, agent: OAuthClient, purpose: str) -> None:
        """It ends in logs."""
        assert (400, "invalid_request") == refused(await agent.exchange(audience=ORDERS, purpose=purpose))


class TestDelegation:
    async def act(self, actor: OAuthClient, subject: str, **form: object) -> httpx.Response:
        said = {"actor_token": actor.svid(), "actor_token_type": f"{TYPE}jwt", **form}
        return await actor.exchange(subject, **said)

    async def test_actor_is_in_the_token(self, agent: OAuthClient, auditor: OAuthClient) -> None:
        """RFC 8693 §4.1: about the subject, by the actor."""
        parent = await agent.token("orders:read orders:refund", audience=ORDERS)
        reply = await self.act(auditor, parent, scope="orders:read")
        claims = claims_of(reply.json()["access_token"])

        assert {"sub": AUDITOR} == claims_of(parent)["may_act"]
        assert (AGENT, AUDITOR, {"sub": AUDITOR}) == (claims["sub"], claims["client_id"], claims["act"])

    async def test_chain_of_actors_is_nested(self, domain: DevTrustDomain, http: httpx.AsyncClient) -> None:
        """RFC 8693 §4.1: the current actor outermost, and no more than four."""
        names = [f"spiffe://dev.example/{n}" for n in "abcdef"]
        rules = [Client.of(n, scopes="s", may_delegate_to=["*"]) for n in names]
        async with DevTokenBroker(domain, rules=rules) as broker:
            token = await OAuthClient(broker, http, names[0]).token("s")
            for name in names[1:5]:
                token = (await self.act(OAuthClient(broker, http, name), token)).json()["access_token"]
            last = await self.act(OAuthClient(broker, http, names[5]), token)
        link, chain = claims_of(token), []
        while link := link.get("act"):
            chain.append(link["sub"])
        assert names[4:0:-1] == chain
        assert "may_act" not in claims_of(token)
        assert (400, "invalid_request") == refused(last)

    async def test_chain_is_inherited_without_actor(self, agent: OAuthClient, auditor: OAuthClient) -> None:
        """Narrowing does not wash off who acts."""
        parent = await agent.token("orders:read", audience=ORDERS)
        acting = (await self.act(auditor, parent)).json()["access_token"]
        narrower = (await auditor.exchange(acting)).json()["access_token"]
        assert {"sub": AUDITOR} == claims_of(narrower)["act"]

    async def test_who_is_not_let_act_does_not(self, agent: OAuthClient, auditor: OAuthClient) -> None:
        """A token that was found is not a permission: delegation is in the rules."""
        parent = await auditor.token("orders:read")
        assert (400, "invalid_request") == refused(await self.act(agent, parent))
        assert (400, "invalid_request") == refused(await agent.exchange(parent))

    async def test_svid_of_another_is_no_permission(self, agent: OAuthClient, auditor: OAuthClient) -> None:
        """JWT-SVIDs are shown to many; only whom the rules let act may use one as subject."""
        theirs, ours = auditor.svid(), agent.svid()
        assert (400, "invalid_request") == refused(await agent.exchange(theirs, "jwt", audience=ORDERS))
        assert AGENT == claims_of((await auditor.exchange(ours, "jwt", audience=ORDERS)).json()["access_token"])["sub"]

    async def test_borrower_lends_nothing_of_its_own(
        self, domain: DevTrustDomain, http: httpx.AsyncClient
    ) -> None:
        """A token about somebody allows what they may have, not what the one who acts may."""
        rules = [Client.of(AGENT, scopes="mine", may_delegate_to=[AUDITOR]), Client.of(AUDITOR, scopes="theirs")]
        async with DevTokenBroker(domain, rules=rules) as broker:
            agent, auditor = (OAuthClient(broker, http, who) for who in (AGENT, AUDITOR))
            both = await self.act(auditor, agent.svid(), subject_token_type=f"{TYPE}jwt", scope="mine theirs")
            theirs = await self.act(auditor, agent.svid(), subject_token_type=f"{TYPE}jwt", scope="theirs")
            target = await self.act(auditor, agent.svid(), subject_token_type=f"{TYPE}jwt", audience=ORDERS)
            broker.rules = Rules((Client.of(AUDITOR, scopes="theirs"),))
            unknown = domain.ca._jwt.active.sign(
                {**claims_of(agent.svid()), "may_act": {"sub": AUDITOR}}, typ="JWT"
            )
            nobodys = await self.act(auditor, unknown, subject_token_type=f"{TYPE}jwt", scope="theirs")
        assert "mine" == both.json()["scope"]
        assert [(400, "invalid_scope"), (400, "invalid_target"), (400, "invalid_scope")] == [
            refused(r) for r in (theirs, target, nobodys)
        ]

    async def test_actor_must_be_who_asks(self, agent: OAuthClient, auditor: OAuthClient) -> None:
        """Somebody else's token as actor would put the blame on them."""
        parent = await agent.token("orders:read", audience=ORDERS)
        reply = await auditor.exchange(parent, actor_token=agent.svid(), actor_token_type=f"{TYPE}jwt")
        assert (400, "invalid_request") == refused(reply)

    @pytest.mark.parametrize("form", [{"actor_token": "x"}, {"actor_token_type": f"{TYPE}jwt"}])
    async def test_actor_token_and_type_come_together(self, agent: OAuthClient, form: dict[str, str]) -> None:
        """RFC 8693 §2.1."""
        assert (400, "invalid_request") == refused(await agent.exchange(audience=ORDERS, **form))

    async def test_service_exchanges_what_it_was_shown(
        self, domain: DevTrustDomain, http: httpx.AsyncClient, rules: list[Client]
    ) -> None:
        """On behalf of: a token's audience may carry on with it."""
        service = "spiffe://dev.example/orders"
        rules.append(Client.of(service, serves=[ORDERS], audiences=["https://stock.example"]))
        async with DevTokenBroker(domain, rules=rules) as broker:
            shown = await OAuthClient(broker, http, AGENT).token("orders:read", audience=ORDERS)
            reply = await self.act(OAuthClient(broker, http, service), shown, audience="https://stock.example")
        claims = claims_of(reply.json()["access_token"])
        assert (AGENT, {"sub": service}) == (claims["sub"], claims["act"])


class TestSubject:
    @pytest.mark.parametrize("kind", ["access_token", "jwt", "id_token", "refresh_token", "saml2"])
    async def test_unacceptable_ones_are_refused(self, agent: OAuthClient, kind: str) -> None:
        """RFC 8693 §2.2.2: `invalid_request`, whatever is wrong with it."""
        assert (400, "invalid_request") == refused(await agent.exchange("a.b.c", kind, audience=ORDERS))
        other = CertificateAuthority("dev.example").issue_jwt_svid(AGENT, agent.broker.issuer)
        assert (400, "invalid_request") == refused(await agent.exchange(other, kind, audience=ORDERS))

    async def test_revoked_token_is_refused(self, agent: OAuthClient) -> None:
        """Or revocation would be no more than a word."""
        parent = await agent.token("orders:read", audience=ORDERS)
        agent.broker.revoke_all(AGENT)
        assert (400, "invalid_request") == refused(await agent.exchange(parent))

    async def test_token_is_of_the_type_it_is_said_to_be(self, agent: OAuthClient) -> None:
        """RFC 8693 §3."""
        broker = agent.broker.issuer
        access = await agent.token("orders:read", audience=broker)
        ticket = await agent.exchange(audience=broker, requested_token_type=f"{TYPE}jwt")
        form = {"audience": "dev.example", "scope": "orders:read", "requested_token_type": f"{TYPE}txn_token"}
        transaction = await agent.exchange(**form)
        ticket, transaction = (r.json()["access_token"] for r in (ticket, transaction))
        kinds = {access: "access_token", ticket: "jwt", transaction: "txn_token"}
        for token, right in kinds.items():
            for kind in kinds.values():
                wanted = {} if kind != "txn_token" else form
                reply = await agent.exchange(token, kind, **{"audience": broker, **wanted})
                assert (200 if kind == right else 400) == reply.status_code, (kind, right)

    async def test_unknown_requested_type_is_refused(self, agent: OAuthClient) -> None:
        """RFC 8693 §2.2.2."""
        reply = await agent.exchange(audience=ORDERS, requested_token_type=f"{TYPE}refresh_token")
        assert (400, "invalid_request") == refused(reply)

    @pytest.fixture
    async def with_idp(
        self, domain: DevTrustDomain, http: httpx.AsyncClient, rules: list[Client]
    ) -> OAuthClient:
        idp = ForeignIssuer.of("https://idp.example", IDP.jwk)
        async with DevTokenBroker(domain, rules=Rules(tuple(rules), (idp,))) as broker:
            yield OAuthClient(broker, http, AGENT)

    def id_token(self, agent: OAuthClient, **claims: object) -> str:
        return IDP.assertion("alice", AGENT, **{"iss": "https://idp.example", **claims})

    async def test_person_signed_in_elsewhere_is_the_subject(self, with_idp: OAuthClient) -> None:
        """An ID token of a configured issuer, for this client (OpenID Connect Core §2)."""
        reply = await with_idp.exchange(self.id_token(with_idp), "id_token", audience=ORDERS, scope="orders:read")
        claims = claims_of(reply.json()["access_token"])
        assert ("alice", AGENT) == (claims["sub"], claims["client_id"])

    @pytest.mark.parametrize(
        "claims",
        [{"iss": "https://evil.example"}, {"aud": "somebody"}, {"exp": 1}, {"sub": None}, {"iss": 7}],
    )
    async def test_id_token_is_checked(self, with_idp: OAuthClient, claims: dict[str, object]) -> None:
        """Issuer, audience, time, subject."""
        token = self.id_token(with_idp, **claims) if claims.get("iss") != 7 else "e30.e30.AA"
        reply = await with_idp.exchange(token, "id_token", audience=ORDERS)
        assert (400, "invalid_request") == refused(reply)

    async def test_id_token_for_this_client_is_no_jwt_for_the_broker(self, with_idp: OAuthClient) -> None:
        """A JWT of another issuer has to be for the token broker itself."""
        reply = await with_idp.exchange(self.id_token(with_idp), "jwt", audience=ORDERS)
        assert (400, "invalid_request") == refused(reply)

    async def test_foreign_access_token_is_no_identity(self, with_idp: OAuthClient) -> None:
        """Told by its type (RFC 9068 §2.1)."""
        token = IDP.sign(claims_of(self.id_token(with_idp)), typ="at+jwt")
        reply = await with_idp.exchange(token, "id_token", audience=ORDERS)
        assert (400, "invalid_request") == refused(reply)

    @pytest.mark.parametrize(("named", "status"), [(AGENT, 200), (AUDITOR, 400)])
    async def test_may_act_is_heeded(self, with_idp: OAuthClient, named: str, status: int) -> None:
        """RFC 8693 §4.4: who is named may, nobody else."""
        token = self.id_token(with_idp, may_act={"sub": named})
        reply = await with_idp.exchange(token, "id_token", audience=ORDERS)
        assert status == reply.status_code

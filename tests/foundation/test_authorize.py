"""Authorizers decide about proven identities, and say why not."""

from __future__ import annotations

import pytest

from spiffe_client.authorize import Authorizer, allow, any_of, custom, member_of, under
from spiffe_client.errors import InvalidIdError, PeerNotAllowedError
from spiffe_client.ids import SpiffeId, TrustDomain

ORDERS = SpiffeId.parse("spiffe://prod.example/orders")
PROD, STAGE = TrustDomain("prod.example"), TrustDomain("stage.example")


def refused(authorizer: Authorizer, peer: str) -> PeerNotAllowedError:
    with pytest.raises(PeerNotAllowedError) as e:
        authorizer(SpiffeId.parse(peer))
    return e.value


class TestAllow:
    def test_listed_peer_passes(self) -> None:
        """A peer on the list is let through."""
        allow(ORDERS, "spiffe://stage.example/b")(ORDERS)

    @pytest.mark.parametrize(
        "stranger",
        [
            "spiffe://prod.example/orders2",  # prefix of a segment is not the segment
            "spiffe://prod.example/orders/eu",  # a child is somebody else
            "spiffe://prod.example/Orders",  # paths keep their case
            "spiffe://prod.example",  # the authority is nobody
            "spiffe://stage.example/orders",  # same path, other trust root
        ],
    )
    def test_anyone_else_is_refused_by_name(self, stranger: str) -> None:
        """The error names the peer and the rule, so that a log line is enough to act on."""
        error = refused(allow(ORDERS), stranger)
        assert f"peer {stranger} is not allowed by allow(spiffe://prod.example/orders)" == str(error)
        assert "allow(spiffe://prod.example/orders)" == error.rule
        assert SpiffeId.parse(stranger) == error.peer

    def test_empty_list_is_a_mistake(self) -> None:
        """Nobody writes allow() to lock everyone out."""
        with pytest.raises(ValueError, match="at least one"):
            allow()

    def test_a_trust_domain_is_not_a_workload(self) -> None:
        """Allowing a whole domain is said with its own word."""
        with pytest.raises(InvalidIdError, match=r"member_of\('prod\.example'\)"):
            allow("spiffe://prod.example")

    def test_names_its_trust_domains(self) -> None:
        """TLS contexts load only these bundles."""
        assert {PROD, STAGE} == allow(ORDERS, "spiffe://stage.example/x").trust_domains


class TestMistakes:
    @pytest.mark.parametrize(
        ("peer", "hint"),
        [
            ("dev.example", "member_of('dev.example')"),
            ("spiffe://dev.example/", "member_of('dev.example')"),
            ("spiffe://dev.example/*", "member_of('dev.example')"),
            ("spiffe://dev.example", "member_of('dev.example')"),
            ("spiffe://dev.example/a/*", "under('spiffe://dev.example/a')"),
            ("dev.example/a", "allow('spiffe://dev.example/a')"),
        ],
    )
    def test_what_was_meant(self, peer: str, hint: str) -> None:
        """A string that is almost an ID says what to write instead, and allows nobody."""
        with pytest.raises(InvalidIdError) as e:
            Authorizer.parse(peer)
        assert hint in str(e.value)

    def test_nothing_is_guessed_from_nonsense(self) -> None:
        """No hint that is no help."""
        with pytest.raises(InvalidIdError) as e:
            Authorizer.parse("http://[")
        assert "did you mean" not in str(e.value)

    @pytest.mark.parametrize(
        ("peer", "hint"), [([ORDERS], "any_of(allow("), (lambda peer: True, "custom("), (None, "NoneType")]
    )
    def test_what_is_no_peer(self, peer: object, hint: str) -> None:
        """A list and a function have a word of their own."""
        with pytest.raises(TypeError) as e:
            Authorizer.parse(peer)
        assert hint in str(e.value)

    def test_a_coroutine_function_is_refused_when_made(self) -> None:
        """It would never be awaited and allow nobody."""

        async def permits(peer: SpiffeId) -> bool:
            return True

        class Rule:
            async def __call__(self, peer: SpiffeId) -> bool:
                return True

        for rule in (permits, Rule()):
            with pytest.raises(TypeError, match="plain function"):
                custom("mine", rule)


class TestMemberOf:
    @pytest.mark.parametrize("domain", ["prod.example", PROD, "spiffe://prod.example", PROD.id])
    def test_every_workload_of_the_domain(self, domain: str) -> None:
        """However the domain is written."""
        member_of(domain)(ORDERS)
        assert {PROD} == member_of(domain).trust_domains

    def test_not_the_authority_and_not_others(self) -> None:
        """X509-SVID §2: the trust domain's own ID is no workload."""
        refused(member_of("prod.example"), "spiffe://prod.example")
        refused(member_of("prod.example"), "spiffe://prod.example.evil/orders")

    @pytest.mark.parametrize("workload", [ORDERS, str(ORDERS)])
    def test_the_id_of_one_workload_does_not_widen_to_its_domain(self, workload: str) -> None:
        """member_of("spiffe://prod.example/orders") must not mean everybody in prod.example."""
        with pytest.raises(InvalidIdError, match="names one workload"):
            member_of(workload)


class TestUnder:
    def test_below_the_prefix(self) -> None:
        """Whole segments below the prefix."""
        rule = under("spiffe://prod.example/billing")
        rule(SpiffeId.parse("spiffe://prod.example/billing/api"))
        assert {PROD} == rule.trust_domains

    @pytest.mark.parametrize(
        "stranger",
        [
            "spiffe://prod.example/billing",
            "spiffe://prod.example/billing-eu/api",
            "spiffe://stage.example/billing/api",
        ],
    )
    def test_neighbours_are_refused(self, stranger: str) -> None:
        """A prefix of text is not a prefix of segments."""
        refused(under("spiffe://prod.example/billing"), stranger)

    def test_a_whole_domain_is_not_a_prefix(self) -> None:
        """That is member_of."""
        with pytest.raises(InvalidIdError):
            under("spiffe://prod.example")


class TestAnyOf:
    def test_one_is_enough(self) -> None:
        """The union of rules and of their domains."""
        rule = any_of(allow(ORDERS), member_of("stage.example"))
        rule(ORDERS)
        rule(SpiffeId.parse("spiffe://stage.example/x"))
        assert {PROD, STAGE} == rule.trust_domains
        assert "any_of(allow(spiffe://prod.example/orders), member_of(stage.example))" == rule.rule
        refused(rule, "spiffe://prod.example/x")

    def test_a_rule_without_domains_makes_the_union_unknown(self) -> None:
        """Otherwise a permitted peer's bundle would not be loaded."""
        assert None is any_of(custom("all", lambda _: True), allow(ORDERS)).trust_domains
        assert None is any_of(allow(ORDERS), custom("all", lambda _: True)).trust_domains

    def test_empty_is_a_mistake(self) -> None:
        """Nobody is allowed by nothing."""
        with pytest.raises(ValueError, match="at least one"):
            any_of()


class TestCustom:
    def test_only_true_allows(self) -> None:
        """A coroutine, a match object or a 1 is a bug in the rule and lets nobody in."""

        async def forgotten_await(peer: SpiffeId) -> bool:
            return True

        coroutine = forgotten_await(ORDERS)
        for truthy in (1, "yes", object(), coroutine):
            refused(custom("odd", lambda _, t=truthy: t), str(ORDERS))  # type: ignore[misc]
            refused(any_of(custom("odd", lambda _, t=truthy: t)), str(ORDERS))  # type: ignore[misc]
        coroutine.close()
        custom("fine", lambda _: True)(ORDERS)

    def test_stays_within_its_domains(self) -> None:
        """The function is not even asked about other domains."""
        rule = custom("all of prod", lambda _: True, trust_domains={"prod.example"})
        rule(ORDERS)
        assert {PROD} == rule.trust_domains
        refused(rule, "spiffe://stage.example/orders")

    def test_empty_domains_are_a_mistake(self) -> None:
        """An empty allow-list allows nothing, so it is never meant."""
        with pytest.raises(ValueError, match="nobody"):
            custom("x", lambda _: True, trust_domains=set())


class TestParse:
    def test_what_users_pass_as_peer(self) -> None:
        """A rule, an ID, or its text."""
        rule = member_of("prod.example")
        assert rule is Authorizer.parse(rule)
        Authorizer.parse(ORDERS)(ORDERS)
        Authorizer.parse(str(ORDERS))(ORDERS)

    @pytest.mark.parametrize("nothing", [None, True, [], ["spiffe://a.test/x"]])
    def test_there_is_no_default(self, nothing: object) -> None:
        """peer=None is not "anybody"."""
        with pytest.raises(TypeError, match="peer= must say who"):
            Authorizer.parse(nothing)  # type: ignore[arg-type]

    def test_a_bare_domain_is_refused(self) -> None:
        """A string never widens to a whole trust domain."""
        with pytest.raises(InvalidIdError, match="member_of"):
            Authorizer.parse("spiffe://prod.example")

"""A JwtSource hands out tokens that are fresh, asks as rarely as it can, and never for nobody."""

from __future__ import annotations

import logging

import anyio
import pytest

from spiffe_client import (
    AccessDeniedError,
    AudienceError,
    BundleNotFoundError,
    BundleSet,
    ExpiredError,
    FirstUpdateTimeoutError,
    InvalidIdError,
    InvalidRequestError,
    JwtSvidError,
    NoIdentityIssuedError,
    SourceClosedError,
    SourceError,
    StaleError,
    UnavailableError,
)
from spiffe_client.dev import CertificateAuthority
from spiffe_client.errors import InvalidAudienceError
from spiffe_client.sources import JwtSource
from tests.support.manual_clock import settle

pytestmark = pytest.mark.anyio

DENIED = NoIdentityIssuedError("no identity issued")
MISSING = UnavailableError("there is no socket at /run/agent.sock", cause_kind="missing")


@pytest.fixture
def source(world) -> JwtSource:
    return JwtSource(world.api, **world.terms)


class TestFetching:
    async def test_a_token_from_memory(self, world, source) -> None:
        """Asked twice, fetched once."""
        async with source:
            one = await source.fetch_jwt_svid("reports")
            assert one is await source.fetch_jwt_svid("reports")
            assert frozenset({"reports"}) == one.audience
            assert 1 == len(world.api.asked)

    async def test_the_order_of_the_audience_means_nothing(self, world, source) -> None:
        """The key is the set; what is sent is what was given first, unchanged (Workload API §6.2)."""
        async with source:
            one = await source.fetch_jwt_svid("b", "a")
            assert one is await source.fetch_jwt_svid(["a", "b", "a"])
            assert [(("b", "a"), None)] == world.api.asked

    async def test_each_subject_audience_and_hint_is_its_own(self, world, source) -> None:
        """A token for one is never handed out for another."""
        world.api.jwt_hints = ["", "internal"]
        asked = [
            (("a",), {}),
            (("a", "b"), {}),
            (("a",), {"subject": "spiffe://prod.example/other"}),
            (("a",), {"hint": "internal"}),
        ]
        async with source:
            got = [await source.fetch_jwt_svid(*audience, **more) for audience, more in asked]
            assert 4 == len({id(svid) for svid in got}) == len(world.api.asked)
            assert "spiffe://prod.example/other" == str(got[2].id)
            assert "internal" == got[3].hint

    @pytest.mark.parametrize("audience", [[], [""], ["a", ""], ""])
    async def test_no_audience_is_an_error(self, world, source, audience) -> None:
        """An audience of nobody is a mistake, not a token for everybody."""
        async with source:
            with pytest.raises(InvalidAudienceError, match="audience"):
                await source.fetch_jwt_svid(audience)
            assert [] == world.api.asked

    async def test_a_malformed_subject_is_an_error(self, source) -> None:
        """A subject is a SPIFFE ID."""
        async with source:
            with pytest.raises(InvalidIdError):
                await source.fetch_jwt_svid("a", subject="billing")

    async def test_single_flight(self, world, source) -> None:
        """A crowd that asks for the same waits for one answer."""
        world.api.jwt_gate = anyio.Event()
        got = []

        async def ask() -> None:
            got.append(await source.fetch_jwt_svid("reports"))

        async with source, anyio.create_task_group() as tasks:
            for _ in range(100):
                tasks.start_soon(ask)
            await settle()
            assert [] == got
            world.api.jwt_gate.set()
        assert (1, 1, 100) == (len(world.api.asked), len({id(s) for s in got}), len(got))

    async def test_cancelled_caller_takes_only_itself_away(self, world, source) -> None:
        """The first caller is cancelled, the second gets the answer to the first one's request."""
        world.api.jwt_gate = anyio.Event()
        got = []

        async def ask() -> None:
            got.append(await source.fetch_jwt_svid("reports"))

        async with source, anyio.create_task_group() as tasks:
            first = anyio.CancelScope()

            async def ask_and_leave() -> None:
                with first:
                    await ask()

            tasks.start_soon(ask_and_leave)
            await settle()
            tasks.start_soon(ask)
            await settle()
            first.cancel()
            await settle()
            world.api.jwt_gate.set()
        assert (1, 1) == (len(world.api.asked), len(got))

    async def test_picker_and_hint(self, world) -> None:
        """Of several JWT-SVIDs the picker chooses among those of the source's hint."""
        world.api.jwt_hints = ["a", "b", "c"]
        async with JwtSource(world.api, hint="b", **world.terms) as source:
            assert "b" == (await source.fetch_jwt_svid("x")).hint
            assert "c" == (await source.fetch_jwt_svid("x", hint="c")).hint
            with pytest.raises(NoIdentityIssuedError, match="no identity with the hint 'd'"):
                await source.fetch_jwt_svid("x", hint="d")
        async with JwtSource(world.api, picker=lambda svids: svids[-1], **world.terms) as source:
            assert "c" == (await source.fetch_jwt_svid("x")).hint

    async def test_first_is_the_default(self, world, source) -> None:
        """Workload API §6.2: the first JWT-SVID is the default one."""
        world.api.jwt_hints = ["a", "b"]
        async with source:
            assert "a" == (await source.fetch_jwt_svid("x")).hint

    @pytest.mark.parametrize("error", [DENIED, AccessDeniedError("no"), InvalidRequestError("audience")])
    async def test_a_refusal_is_raised_at_once(self, world, source, error) -> None:
        """What trying again would not change is not tried again."""
        world.api.jwt_error = error
        async with source:
            with pytest.raises(type(error)) as e:
                await source.fetch_jwt_svid("a")
            assert error is e.value
            assert 1 == len(world.api.asked)

    async def test_an_unreachable_agent_is_tried_again(self, world, source) -> None:
        """An agent that restarts costs a delay, not a request."""
        world.api.jwt_error = MISSING
        got = []

        async def ask() -> None:
            got.append(await source.fetch_jwt_svid("a"))

        async with source, anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await world.clock.advance(10)
            assert [] == got
            world.api.jwt_error = None
            await world.clock.advance(1)
            assert 1 == len(got)

    async def test_an_agent_that_stays_away_is_said(self, world, source) -> None:
        """After the timeout the caller gets the last error."""
        world.api.jwt_error = MISSING
        async with source, anyio.create_task_group() as tasks:
            tasks.start_soon(world.clock.advance, 31)
            with pytest.raises(UnavailableError) as e:
                await source.fetch_jwt_svid("a")
            assert MISSING is e.value

    async def test_one_expired_on_arrival_is_refused(self, world, source) -> None:
        """Trap: expired SVIDs handed out, also by the issuer."""
        world.api.jwt_ttl = -5
        async with source:
            with pytest.raises(ExpiredError, match="just issued expired"):
                await source.fetch_jwt_svid("a")

    async def test_the_token_is_not_shown(self, world, source) -> None:
        """No event and no repr holds a token."""
        async with source:
            svid = await source.fetch_jwt_svid("a")
            world.api.jwt_error = MISSING
            await world.clock.advance(290)
            text = svid.token.reveal()
            assert text not in repr(svid) + repr(world.events) + repr(source._cache.__dict__)
            assert 0 < len(world.told("source.unavailable"))


class TestRenewing:
    async def test_ahead_of_expiry_and_in_the_background(self, world, source) -> None:
        """After about half of its life a token is renewed; nobody waits for it."""
        async with source:
            one = await source.fetch_jwt_svid("a")
            await world.clock.advance(119)
            assert one is await source.fetch_jwt_svid("a")
            await world.clock.advance(62)
            assert 2 == len(world.api.asked)
            two = await source.fetch_jwt_svid("a")
            assert one.expires_at < two.expires_at
            assert 2 == len(world.api.asked)

    async def test_renewed_for_ever_while_used(self, world, source) -> None:
        """Used now and then, a token never expires in the user's hand."""
        async with source:
            for _ in range(60):
                svid = await source.fetch_jwt_svid("a")
                assert svid.expires_at > world.clock.now()
                await world.clock.advance(60)
            assert 20 < len(world.api.asked) < 32

    async def test_a_crowd_does_not_renew_together(self, world, source) -> None:
        """Renewals are spread over a fifth of the lifetime."""
        async with source:
            for n in range(100):
                await source.fetch_jwt_svid(f"a{n}")
            await world.clock.advance(121)
            assert 100 <= len(world.api.asked) < 140
            await world.clock.advance(60)
            assert 200 == len(world.api.asked)

    async def test_one_agenda_for_all(self, world, source) -> None:
        """Design §5: one task and one heap, never a task or a timer for each token."""
        async with source:
            await source.fetch_jwt_svid("a")
            await settle()
            few = world.clock.sleepers
            for n in range(100):
                await source.fetch_jwt_svid(f"a{n}")
            await settle()
            assert few == world.clock.sleepers

    async def test_a_very_short_life_is_no_tight_loop(self, world, source) -> None:
        """A token that lives a second or two is not renewed more than once a second."""
        world.api.jwt_ttl = 1
        async with source:
            await source.fetch_jwt_svid("a")
            await world.clock.advance(10)
            assert 12 >= len(world.api.asked)

    async def test_idle_tokens_are_dropped(self, world, source) -> None:
        """Trap: caches that renew for ever what nobody uses."""
        async with source:
            await source.fetch_jwt_svid("a")
            await world.clock.advance(900)
            before = len(world.api.asked)
            assert 0 == len(source._cache)
            await world.clock.advance(86400)
            assert before == len(world.api.asked) <= 7

            await source.fetch_jwt_svid("a")
            assert before + 1 == len(world.api.asked)

    async def test_bounded(self, world) -> None:
        """The least recently used goes first."""
        async with JwtSource(world.api, capacity=3, **world.terms) as source:
            for audience in ("a", "b", "c", "a", "d"):
                await source.fetch_jwt_svid(audience)
            assert 3 == len(source._cache)
            assert 4 == len(world.api.asked)
            await source.fetch_jwt_svid("a")
            assert 4 == len(world.api.asked)
            await source.fetch_jwt_svid("b")
            assert 5 == len(world.api.asked)

    async def test_a_failed_renewal_keeps_the_token_until_it_expires(self, world, source) -> None:
        """Served until expiry and not a moment longer; said once, repetitions are debug."""
        async with source:
            one = await source.fetch_jwt_svid("a")
            world.api.jwt_error = MISSING
            await world.clock.advance(299)
            assert one is await source.fetch_jwt_svid("a")
            assert ["the JWT-SVID for a could not be renewed: there is no socket at /run/agent.sock"] == (
                world.told("source.unavailable")
            )
            assert 2 < len(world.told("source.unavailable", level=logging.DEBUG)) < 60
            await world.clock.advance(1)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(world.clock.advance, 31)
                with pytest.raises(UnavailableError):
                    await source.fetch_jwt_svid("a")
            assert 0 == len(source._cache)

    async def test_an_agent_that_comes_back_renews(self, world, source) -> None:
        """After an outage the token is renewed in time."""
        async with source:
            one = await source.fetch_jwt_svid("a")
            world.api.jwt_error = MISSING
            await world.clock.advance(200)
            world.api.jwt_error = None
            await world.clock.advance(40)
            assert one.expires_at < (await source.fetch_jwt_svid("a")).expires_at
            assert 1 == len(world.told("source.recovered"))

    async def test_expired_is_asked_for_anew(self, world, source) -> None:
        """A token that expired while the process slept is not handed out."""
        async with source:
            one = await source.fetch_jwt_svid("a")
            world.clock.skew += 2 * (one.expires_at - world.clock.now())
            two = await source.fetch_jwt_svid("a")
            assert two.expires_at > world.clock.now()

    async def test_a_crowd_joins_a_renewal(self, world, source) -> None:
        """Who needs a token that is being renewed waits for that answer."""
        async with source:
            one = await source.fetch_jwt_svid("a")
            world.api.jwt_gate = anyio.Event()
            await world.clock.advance(301)
            assert 2 == len(world.api.asked)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(source.fetch_jwt_svid, "a")
                await settle()
                world.api.jwt_gate.set()
            assert 2 == len(world.api.asked)
            assert one is not await source.fetch_jwt_svid("a")

    async def test_renewal_due_while_fetching(self, world, source) -> None:
        """A renewal that comes due while the same token is being fetched is not a second request."""
        async with source:
            one = await source.fetch_jwt_svid("a")
            world.api.jwt_gate = anyio.Event()
            world.clock.skew += 2 * (one.expires_at - world.clock.now())
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(source.fetch_jwt_svid, "a")
                await world.clock.advance(200)
                assert 2 == len(world.api.asked)
                world.api.jwt_gate.set()


class TestWithdrawal:
    async def test_a_denied_renewal_is_asked_again_at_once(self, world, source) -> None:
        """Design decision 7: one denial is doubted."""
        async with source:
            one = await source.fetch_jwt_svid("a")
            real = world.api.fetch_jwt_svids

            async def deny_once(*args, **kwargs):
                world.api.fetch_jwt_svids = real
                raise DENIED

            world.api.fetch_jwt_svids = deny_once
            await world.clock.advance(181)
            assert one.expires_at < (await source.fetch_jwt_svid("a")).expires_at

    async def test_a_denial_that_stands_drops_the_token(self, world, source) -> None:
        """Workload API §4.4: after PermissionDenied stop using the SVID, long before it expires."""
        async with source:
            await source.fetch_jwt_svid("a")
            world.api.jwt_error = DENIED
            await world.clock.advance(184)
            assert 0 == len(source._cache)
            assert ["the JWT-SVID for a was withdrawn"] == world.told("svid.withdrawn")
            with pytest.raises(NoIdentityIssuedError):
                await source.fetch_jwt_svid("a")

    async def test_kept_on_request(self, world) -> None:
        """The documented opt-out: use it until it expires."""
        async with JwtSource(world.api, on_redaction="keep-until-expiry", **world.terms) as source:
            one = await source.fetch_jwt_svid("a")
            world.api.jwt_error = DENIED
            await world.clock.advance(299)
            assert one is await source.fetch_jwt_svid("a")

    async def test_a_token_whose_authority_is_retired_is_dropped(self, world, source) -> None:
        """A key that left the bundle signs nothing any more (Trust Domain and Bundle): its tokens are not handed out."""
        async with source:
            one = await source.fetch_jwt_svid("a")
            other = CertificateAuthority("other.example").jwt_bundle
            world.api.jwt_bundles.say(BundleSet([other]))  # says nothing of our own authorities
            await settle()
            assert one is await source.fetch_jwt_svid("a")
            world.api.authority.rotate_jwt_authority()
            world.api.jwt_bundles.say(BundleSet([world.api.authority.jwt_bundle]))
            await settle()
            assert one is await source.fetch_jwt_svid("a")  # the old one is still published
            world.api.authority.retire_old_authorities()
            world.api.jwt_bundles.say(BundleSet([world.api.authority.jwt_bundle]))
            await settle()
            assert one.key_id != (await source.fetch_jwt_svid("a")).key_id

    async def test_withdrawn_bundles_drop_all_tokens(self, world, source) -> None:
        """Who may not even know the bundles has no identity any more: everything is dropped."""
        async with source:
            await source.fetch_jwt_svid("a")
            world.api.jwt_bundles.down(DENIED)
            await world.clock.advance(4)
            assert 0 == len(source._cache)
            with pytest.raises(StaleError):
                _ = source.jwt_bundles
            await world.clock.advance(200)
            assert 1 == len(world.api.asked)  # and nothing of them is renewed


class TestVerifying:
    async def test_offline_with_the_current_bundles(self, world, source) -> None:
        """JWT-SVID §4: verified with the bundle of its own trust domain, without a call."""
        token = world.api.authority.issue_jwt_svid("spiffe://prod.example/orders", "billing")
        async with source:
            caller = source.verify_jwt_svid(token, "billing")
            assert "spiffe://prod.example/orders" == str(caller.id)
            with pytest.raises(AudienceError):
                source.verify_jwt_svid(token, audience="reports")
            await world.clock.advance(400)
            with pytest.raises(ExpiredError):
                source.verify_jwt_svid(token, "billing")
            with pytest.raises(JwtSvidError):
                source.verify_jwt_svid("nonsense", "billing")

    async def test_a_stranger(self, world, source) -> None:
        """A token of a trust domain without a bundle is not trusted; with its bundle it is."""
        other = CertificateAuthority("other.example", clock=world.clock)
        token = other.issue_jwt_svid("spiffe://other.example/orders", "billing")
        async with source:
            with pytest.raises(BundleNotFoundError):
                source.verify_jwt_svid(token, "billing")
            changes = source.changes()
            world.api.jwt_bundles.say(BundleSet([world.api.authority.jwt_bundle, other.jwt_bundle]))
            await source.wait_updated()
            assert source.jwt_bundles is await anext(changes)
            assert other.trust_domain == source.verify_jwt_svid(token, "billing").id.trust_domain


class TestLife:
    async def test_opening_waits_for_the_bundles(self, world, source) -> None:
        """No agent, no source: the deadline says why."""
        world.api.jwt_bundles.greeting = [MISSING]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(world.clock.advance, 31)
            with pytest.raises(FirstUpdateTimeoutError, match=r"the JWT bundles: there is no socket"):
                await source.open()

    async def test_not_open(self, source) -> None:
        """Before opening and after closing nothing is handed out."""
        for _ in range(2):
            with pytest.raises(SourceClosedError):
                await source.fetch_jwt_svid("a")
            with pytest.raises(SourceClosedError):
                _ = source.jwt_bundles
            if source.health.last_update is None:
                async with source:
                    await source.fetch_jwt_svid("a")
        assert 0 == len(source._cache)

    async def test_fetching_needs_no_bundles(self, world, source) -> None:
        """A source that was only started fetches at once; verifying waits for the bundles."""
        greeting, world.api.jwt_bundles.greeting = world.api.jwt_bundles.greeting, []
        source.start()
        svid = await source.fetch_jwt_svid("a")
        with pytest.raises(SourceError, match="no first update of the JWT bundles yet"):
            source.verify_jwt_svid(svid.token.reveal(), "a")
        world.api.jwt_bundles.say(*greeting)
        await source.wait_first_update()
        assert svid.id == source.verify_jwt_svid(svid.token.reveal(), "a").id
        await source.aclose()

    async def test_close_ends_fetching(self, world, source) -> None:
        """Who waits for a token when the source is closed is told so, started or not."""
        world.api.jwt_gate = anyio.Event()
        seen = []

        async def ask(audience: str) -> None:
            with pytest.raises(SourceClosedError, match="was closed"):
                await source.fetch_jwt_svid(audience)
            seen.append(audience)

        async with anyio.create_task_group() as tasks:
            async with source:
                tasks.start_soon(ask, "a")
                await settle()
            assert 1 == len(world.api.asked)
        assert ["a"] == seen

    async def test_withdrawn_while_a_token_is_on_its_way(self, world, source) -> None:
        """Workload API §4.4: asked for before the withdrawal, answered after it: neither given nor kept."""
        world.api.jwt_gate = anyio.Event()
        errors = []

        async def ask() -> None:
            with pytest.raises(StaleError) as e:
                await source.fetch_jwt_svid("a")
            errors.append(e.value.reason)

        async with source, anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await settle()
            source._cache.clear()
            await settle()
            assert ["withdrawn"] == errors
            world.api.jwt_gate.set()
            await settle()
            assert 0 == len(source._cache)
            world.api.jwt_error, world.api.jwt_gate = MISSING, anyio.Event()
            tasks.start_soon(ask)
            await settle()
            source._cache.clear()
            world.api.jwt_gate.set()
            await settle()
            assert [] == world.told("source.unavailable")

    async def test_close_ends_trying_again(self, world, source) -> None:
        """Who waits for an agent that is away is told too."""
        world.api.jwt_error = MISSING
        seen = []

        async def ask() -> None:
            with pytest.raises(SourceClosedError):
                await source.fetch_jwt_svid("a")
            seen.append(True)

        async with anyio.create_task_group() as tasks:
            async with source:
                tasks.start_soon(ask)
                await world.clock.advance(5)
            await world.clock.advance(1)
        assert [True] == seen

    async def test_crash_while_fetching(self, world, source) -> None:
        """A bug while fetching closes the source and lets the caller go, without an ExceptionGroup."""
        world.api.jwt_error = ZeroDivisionError("a secret")
        async with source:
            with pytest.raises(SourceClosedError):
                await source.fetch_jwt_svid("a")
            await settle()
            assert "closed" == source.health.state
            with pytest.raises(SourceClosedError, match="crashed: ZeroDivisionError"):
                await source.fetch_jwt_svid("a")

"""Which token was made from which: bounded, forgotten in time, and not endless."""

from __future__ import annotations

from datetime import timedelta

import pytest

from spiffe_client.errors import TokenRequestError
from spiffe_client.tokens import ForeignToken, TokenRequest
from spiffe_client._redact import Secret
from spiffe_client.tokens._lineage import MAX_DEPTH, Lineage, depth_of
from tests.support.token_parties import LATER, access_token, security_token

NOW = LATER - timedelta(minutes=30)


def chain_of(length: int):
    token = access_token("t0")
    for number in range(1, length + 1):
        token = access_token(f"t{number}", subject=token)
    return token


class TestDescent:
    def test_generations(self) -> None:
        """Children, then grandchildren; a stranger is none of them."""
        lineage, top = Lineage(), access_token("top")
        children = [access_token("a", subject=top), security_token("b", subject=top)]
        grandchild = access_token("c", subject=children[0])
        stranger = access_token("z", subject=access_token("other"))
        for token in (top, *children, grandchild, stranger):
            lineage.add(token, now=NOW)
        assert [children, [grandchild]] == lineage.generations(top)
        assert [[grandchild]] == lineage.generations(children[0])
        assert [] == lineage.generations(grandchild)

    def test_an_actor_is_a_parent_too(self) -> None:
        """RFC 8693 §2.1: a token that somebody acts with is only as good as who acts."""
        lineage, user, agent = Lineage(), access_token("user"), access_token("agent")
        both = access_token("both", subject=user, actor=agent)
        lineage.add(both, now=NOW)
        assert [[both]] == lineage.generations(user) == lineage.generations(agent)

    def test_made_from_itself(self) -> None:
        """A token broker that returns the token it was given makes no endless family."""
        lineage = Lineage()
        token = access_token("same", subject=access_token("same"))
        lineage.add(token, now=NOW)
        assert [] == lineage.generations(token)

    def test_without_parents(self) -> None:
        """What was made from an SVID or somebody else's token is not remembered."""
        lineage = Lineage()
        lineage.add(access_token("own"), now=NOW)
        lineage.add(access_token("foreign", subject=ForeignToken(Secret("x"))), now=NOW)
        assert 0 == len(lineage)


class TestForgetting:
    def test_expired(self) -> None:
        """No token's text is kept for longer than the token lives."""
        lineage, top = Lineage(), access_token("top")
        lineage.add(access_token("a", subject=top, expires_at=NOW + timedelta(seconds=5)), now=NOW)
        lineage.add(access_token("b", subject=top), now=NOW)
        lineage.prune(NOW + timedelta(seconds=4))
        assert 2 == len(lineage)
        lineage.prune(NOW + timedelta(seconds=5))
        assert 1 == len(lineage)

    def test_bounded(self) -> None:
        """The oldest go first, and nothing else grows."""
        lineage, top = Lineage(capacity=3), access_token("top")
        for number in range(500):
            lineage.add(access_token(f"t{number}", subject=top), now=NOW)
        assert {"t497", "t498", "t499"} == {t.token.reveal() for t in lineage.generations(top)[0]}
        assert len(lineage._expiries) < 100

    def test_the_same_again(self) -> None:
        """A token that is issued twice is one."""
        lineage, top = Lineage(), access_token("top")
        for _ in range(2):
            lineage.add(access_token("a", subject=top), now=NOW)
        assert (1, 1) == (len(lineage), len(lineage._expiries))

    def test_one_and_all(self) -> None:
        """One that was revoked, or everything."""
        lineage, top = Lineage(), access_token("top")
        child = access_token("a", subject=top)
        lineage.add(child, now=NOW)
        lineage.add(access_token("b", subject=child), now=NOW)
        lineage.forget(child)
        assert [] == lineage.generations(top)
        assert 1 == len(lineage.generations(child))
        lineage.clear()
        assert 0 == len(lineage)


class TestDepth:
    def test_of_requests(self) -> None:
        """Tokens above tokens are counted, SVIDs and foreign tokens are not."""
        assert 0 == depth_of(TokenRequest.of("a"))
        assert 1 == depth_of(TokenRequest.of("a", subject=chain_of(0)))
        assert MAX_DEPTH == depth_of(TokenRequest.of("a", subject=chain_of(MAX_DEPTH - 1)))

    @pytest.mark.parametrize("who", ["subject", "actor"])
    def test_limit(self, who) -> None:
        """D4: an agent that spawns agents comes to an end."""
        with pytest.raises(TokenRequestError, match="more than 4"):
            depth_of(TokenRequest.of("a", **{who: chain_of(MAX_DEPTH)}))

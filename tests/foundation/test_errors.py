"""The error tree: stable codes, readable messages, safe to pickle, findable behind wrappers."""

from __future__ import annotations

import copy
import inspect
import pickle
import ssl
from pathlib import Path

import pytest

from spiffe_client import errors
from spiffe_client.ids import SpiffeId, TrustDomain
from spiffe_client.policy import Decision

ALL = [getattr(errors, n) for n in errors.__all__ if inspect.isclass(getattr(errors, n))]
PEER = SpiffeId.parse("spiffe://a.test/x")
MADE = [
    errors.SpiffeError("x"),
    errors.BundleNotFoundError(TrustDomain("a.test")),
    errors.PeerNotAllowedError(PEER, rule="allow(…)"),
    errors.PeerUnverifiedError("no", peer=PEER),
    errors.StaleError("old", reason="expired"),
    errors.InvalidIdError("x"),
    errors.ContractError("x", path="agent.id"),
    errors.DeniedError("no", decision=Decision(allowed=False, reason="rate")),
    errors.AttenuationError("x", asked="a b", held="a"),
    errors.AuditError("x", line=3),
]


class TestTree:
    def test_one_root_and_unique_codes(self) -> None:
        """A program can tell errors apart by code alone."""
        assert all(issubclass(e, errors.SpiffeError) for e in ALL)
        assert len(ALL) == len({e.code for e in ALL})

    def test_the_drawing_is_right(self) -> None:
        """The tree in the docstring names each class below its parent."""
        drawing = [line for line in (errors.__doc__ or "").splitlines() if "Error" in line]
        stack: list[tuple[int, type]] = []
        for line in drawing:
            name = line.strip(" │├└─").split(" ")[0]
            depth = line.index(name)
            cls = getattr(errors, name)
            while stack and stack[-1][0] >= depth:
                stack.pop()
            if stack:
                assert stack[-1][1] is cls.__mro__[1], name
            stack.append((depth, cls))
        assert {e.__name__ for e in ALL} <= {line.strip(" │├└─").split(" ")[0] for line in drawing}

    def test_every_code_is_explained(self) -> None:
        """docs/errors.md says of each code what happened and what to do."""
        page = (Path(__file__).parents[2] / "docs" / "errors.md").read_text()
        assert [] == [e.code for e in ALL if f"`{e.code}`" not in page]
        assert [] == [e.__name__ for e in ALL if e.__name__ not in page]

    def test_builtin_parents(self) -> None:
        """Code that catches the builtin kind keeps working."""
        assert issubclass(errors.InvalidIdError, ValueError)
        assert issubclass(errors.BundleNotFoundError, KeyError)
        assert issubclass(errors.FirstUpdateTimeoutError, TimeoutError)
        assert issubclass(errors.PeerError, ssl.SSLCertVerificationError)

    @pytest.mark.parametrize("error", MADE, ids=lambda e: type(e).__name__)
    def test_survives_pickle_and_copy(self, error: errors.SpiffeError) -> None:
        """Errors cross process borders with what they carry."""
        for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
            assert type(error) is type(twin)
            assert str(error) == str(twin)
            assert vars(error) == vars(twin)


class TestMessages:
    def test_a_missing_bundle_names_the_domain(self) -> None:
        """KeyError's habit of printing a repr is undone."""
        error = errors.BundleNotFoundError(TrustDomain("a.test"))
        assert str(error).startswith("no bundle for trust domain a.test")
        assert TrustDomain("a.test") == error.trust_domain

    def test_a_peer_error_prints_its_message_and_looks_like_openssl(self) -> None:
        """SSLError's habit of printing a tuple is undone, and its attributes are there."""
        error = errors.PeerUnverifiedError("the chain ends nowhere", peer=PEER)
        assert "the chain ends nowhere" == str(error) == error.verify_message
        assert "SPIFFE_VERIFY_FAILED" == error.reason
        assert PEER == error.peer


class TestFind:
    def test_behind_causes_contexts_and_groups(self) -> None:
        """However an HTTP client wraps it."""
        wanted = errors.PeerUnverifiedError("x")
        cause = OSError("outer")
        cause.__cause__ = wanted
        hidden = OSError("outer")
        hidden.__context__ = cause
        hidden.__suppress_context__ = True  # `raise … from None`
        group = ExceptionGroup("g", [KeyError("other"), hidden])
        for error in (wanted, cause, hidden, group):
            assert wanted is errors.find(error, errors.PeerError)

    def test_nothing_there(self) -> None:
        """None for nothing, also around a cycle."""
        a, b = OSError("a"), OSError("b")
        a.__context__, b.__context__ = b, a
        assert None is errors.find(a, errors.PeerError)
        assert None is errors.find(None, errors.PeerError)


def test_every_error_is_in_the_shop_window() -> None:
    """`from spiffe_client import …` has them all."""
    import spiffe_client

    assert {e.__name__ for e in ALL} <= set(spiffe_client.__all__)

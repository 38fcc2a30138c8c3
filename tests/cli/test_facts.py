"""What is said about keys, certificates, times and errors."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from spiffe_client import errors
from spiffe_client.cli._facts import key_kind, span, until
from spiffe_client.cli._failure import failure_of
from spiffe_client.errors import FirstUpdateTimeoutError, NoIdentityIssuedError, SpiffeError, UnavailableError
from tests.support.tokens import rsa_key

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


class TestKeys:
    @pytest.mark.parametrize(
        ("key", "kind"),
        [
            (ec.generate_private_key(ec.SECP384R1()), "EC secp384r1"),
            (ec.generate_private_key(ec.SECP256R1()).public_key(), "EC secp256r1"),
            (rsa_key(), "RSA 2048"),
            (rsa_key().public_key(), "RSA 2048"),
            (ed25519.Ed25519PrivateKey.generate(), "Ed25519"),
            (ed25519.Ed25519PrivateKey.generate().public_key(), "Ed25519"),
        ],
    )
    def test_kind_and_size(self, key: object, kind: str) -> None:
        """Private or public, it is the same kind."""
        assert kind == key_kind(key)


class TestTimes:
    @pytest.mark.parametrize(
        ("seconds", "text"),
        [(-5, "0 s"), (0, "0 s"), (119.9, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h"), (172800, "2 d 0 h")],
    )
    def test_spans_as_people_say_them(self, seconds: float, text: str) -> None:
        """The two largest units that matter, rounded down."""
        assert text == span(seconds)

    def test_moments_and_how_far_away_they_are(self) -> None:
        """Before and after."""
        assert "2026-11-21T12:05:00Z (in 5 min)" == until(NOW + timedelta(minutes=5), NOW)
        assert "2026-11-21T11:55:00Z (5 min ago)" == until(NOW - timedelta(minutes=5), NOW)


class TestAdvice:
    # These end inside other errors, or belong to code and not to the command line.
    WITHOUT = {
        "spiffe_error", "workload_api", "source", "source_closed", "peer", "peer_unverified", "peer_not_allowed",
        "tls_configuration", "jwt_svid_expired", "jwt_svid_audience", "jwt_svid_signature", "wit_svid_invalid",
        "first_update_timeout", "federation", "bundle_endpoint_invalid",
    }  # fmt: skip

    def test_every_error_that_a_command_shows_has_a_way_on(self) -> None:
        """A new kind of error wants its advice, or its place in the list above."""
        from spiffe_client.cli._failure import _NEXT

        kinds = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, SpiffeError)]
        assert {kind.code for kind in kinds} - self.WITHOUT == set(_NEXT)

    @pytest.mark.parametrize("cause", ["missing", "forbidden", "not_a_socket", "busy", "refused", "timed_out"])
    def test_each_way_to_be_unavailable_has_its_own(self, cause) -> None:
        """A missing socket is not a slow agent."""
        general = failure_of(UnavailableError("gone", cause_kind="broken_off")).advice
        assert general != failure_of(UnavailableError("gone", cause_kind=cause)).advice

    def test_a_timeout_is_advised_by_its_reason(self) -> None:
        """Why nothing came says what to do."""
        error = FirstUpdateTimeoutError("nothing came")
        error.__cause__ = NoIdentityIssuedError("nobody")
        failure = failure_of(error)
        assert ("first_update_timeout", failure_of(NoIdentityIssuedError("nobody")).advice) == (
            failure.code,
            failure.advice,
        )

    def test_a_timeout_without_a_reason(self) -> None:
        """There is somebody who looks closer."""
        assert "`spiffe-client doctor` looks closer" == failure_of(FirstUpdateTimeoutError("nothing came")).advice

    def test_an_error_that_was_never_raised(self) -> None:
        """It has no place."""
        assert "ValueError (nowhere)" == failure_of(ValueError("secret")).message

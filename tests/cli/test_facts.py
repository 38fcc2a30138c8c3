"""What is said about keys, certificates, times and errors."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from spiffe_client import errors
from spiffe_client.cli._facts import key_kind, span, until
from spiffe_client.cli._advice import _NEXT_WHEN_UNAVAILABLE, advice_on, in_options
from spiffe_client.cli._broker_trouble import _TROUBLE
from spiffe_client.cli._failure import failure_of
from spiffe_client.errors import (
    EndpointError,
    FirstUpdateTimeoutError,
    NoIdentityIssuedError,
    SpiffeError,
    TokenError,
    UnavailableCause,
    UnavailableError,
    WorkloadApiError,
)
from tests.cli.conftest import OPTIONS, foreign_options
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


KINDS = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, SpiffeError)]


def meets(command: str, kind: type[SpiffeError]) -> bool:
    """Whether a command asks who raises these; an address anybody may get wrong."""
    if issubclass(kind, TokenError):
        return "--auth" in OPTIONS[command]
    if issubclass(kind, WorkloadApiError) and kind is not EndpointError:
        return "--timeout" in OPTIONS[command]
    return True


class TestAdvice:
    # These end inside other errors, or belong to code and not to the command line.
    WITHOUT = {
        "spiffe_error", "workload_api", "source", "source_closed", "peer", "peer_unverified", "peer_not_allowed",
        "jwt_svid_expired", "jwt_svid_audience", "jwt_svid_signature", "wit_svid_invalid",
        "first_update_timeout", "federation", "bundle_endpoint_invalid",
        "token", "token_origin", "token_broker_closed", "security_event", "stopped",
        "policy", "denied", "decision_unavailable", "resource_invalid",
        "task", "no_task", "task_ended", "attenuation", "ticket",
    }  # fmt: skip

    def test_every_error_that_a_command_shows_has_a_way_on(self) -> None:
        """A new kind of error wants its advice, or its place in the list above."""
        from spiffe_client.cli._advice import _NEXT

        assert {kind.code for kind in KINDS} - self.WITHOUT == set(_NEXT)

    def test_options_that_a_command_has_not_are_found(self) -> None:
        """The next two tests, and the check of every command that a test runs, rest on this."""
        assert {"bundles --bundle"} == foreign_options("bundles", "name its bundle with --bundle TRUST-DOMAIN=FILE")
        assert set() == foreign_options("verify", "name its bundle with --bundle TRUST-DOMAIN=FILE")
        assert set() == foreign_options("x509", "`spiffe-client verify --bundle` shows it (--json)")
        assert {"doctor --bundle"} == foreign_options("verify", "`spiffe-client doctor --bundle …` looks closer")
        assert {" --bundle"} == foreign_options("", "`spiffe-client --help`, --bundle")

    @pytest.mark.parametrize("command", [name for name in OPTIONS if name])
    def test_advice_is_in_options_that_the_command_has(self, command: str) -> None:
        """For every error that it can meet: of the Workload API and of token brokers only who asks them."""
        met = [kind.code for kind in KINDS if meets(command, kind)]
        all_advice = [advice_on(code, command) for code in met]
        if "unavailable" in met:
            all_advice += [advice_on("unavailable", command, unavailable=why) for why in _NEXT_WHEN_UNAVAILABLE]
        if "token_broker_unavailable" in met:
            all_advice += [advice for _, _, advice in _TROUBLE]
        assert set() == set().union(*(foreign_options(command, advice) for advice in all_advice))

    def test_doctor_does_not_send_to_itself(self) -> None:
        """Whatever it meets, also what no table knows: who looked closer has to say what to do."""
        codes = [kind.code for kind in KINDS] + [""]
        assert [] == [code for code in codes if "doctor" in advice_on(code, "doctor")]
        reasons = get_args(UnavailableCause)
        assert [] == [r for r in reasons if "doctor" in advice_on("unavailable", "doctor", unavailable=r)]
        assert set(reasons) == set(_NEXT_WHEN_UNAVAILABLE)
        assert {"doctor"} == {"doctor" for code in codes if "doctor" in advice_on(code, "x509")}

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ('say issuer="https://a.example/t", exactly', "say --token-broker https://a.example/t, exactly"),
            ('binding="none" accepts bearer tokens', "--binding none accepts bearer tokens"),
            ("set it, or pass the address in code", "set it, or pass --socket"),
            ("the issuer is 'x'", "the issuer is 'x'"),
        ],
    )
    def test_arguments_are_options_here(self, text: str, said: str) -> None:
        """Messages of the library are written for code."""
        assert said == in_options(text)

    @pytest.mark.parametrize("cause", sorted(set(_NEXT_WHEN_UNAVAILABLE) - {"broken_off"}))
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

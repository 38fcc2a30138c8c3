"""`spiffe-client jwt`: tokens for an audience, fetched and watched, shown only on request."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from spiffe_client._clock import SYSTEM_CLOCK
from spiffe_client._grpc import Status
from spiffe_client._redact import fingerprint
from spiffe_client.dev import CertificateAuthority, DevTrustDomain
from spiffe_client.svid import JwtSvid
from spiffe_client.workload_api._jwt_messages import JwtSvidEntry, JwtSvidRequest, JwtSvidResponse
from spiffe_client.workload_api._messages import X509SvidEntry, X509SvidResponse
from tests.support.command import press_ctrl_c, run_command
from tests.support.scripted_workload_api import NO_IDENTITY, Fail, RecordedCall, ScriptedWorkloadApi
from tests.support.tokens import compact

WORKLOAD = "spiffe://dev.example/workload"
PKCS8_DER = (Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
CA = CertificateAuthority("dev.example")


def issued(call: RecordedCall, *, hint: str = "") -> JwtSvidResponse:
    """A token for the audience that is asked for."""
    audience = JwtSvidRequest.decode(call.request).audience
    return JwtSvidResponse((JwtSvidEntry(WORKLOAD, CA.issue_jwt_svid(WORKLOAD, audience, ttl=60), hint),))


class TestOnce:
    def test_for_people(self, domain: DevTrustDomain) -> None:
        """Whose, for whom, how long; a fingerprint in place of the token."""
        outcome = run_command("jwt", "orders", "billing", "--socket", domain.endpoint)
        assert (0, "") == (outcome.code, outcome.err)
        assert f"{WORKLOAD}\n  audience      billing, orders\n  expires " in outcome.out
        assert "… (--show-token prints it)\n" in outcome.out

    def test_for_programs(self, domain: DevTrustDomain) -> None:
        """The keys that docs/cli.md promises."""
        record = run_command("jwt", "orders", "--json", "--socket", domain.endpoint).record
        assert ["time", "svids"] == list(record)
        (svid,) = record["svids"]
        assert ["id", "hint", "audience", "issued_at", "expires_at", "key_id", "fingerprint"] == list(svid)
        assert (WORKLOAD, ["orders"]) == (svid["id"], svid["audience"])

    def test_the_token_on_request(self, api: ScriptedWorkloadApi) -> None:
        """`--show-token` prints it, and only it has the fingerprint shown otherwise."""
        answer = JwtSvidResponse((JwtSvidEntry(WORKLOAD, CA.issue_jwt_svid(WORKLOAD, "orders"), ""),))
        api.script("FetchJWTSVID", answer)
        shown = run_command("jwt", "orders", "--show-token", "--socket", api.endpoint).out
        (svid,) = run_command("jwt", "orders", "--show-token", "--json", "--socket", api.endpoint).record["svids"]
        (hidden,) = run_command("jwt", "orders", "--json", "--socket", api.endpoint).record["svids"]
        assert svid["token"] in shown.splitlines()
        assert fingerprint(svid["token"]) == hidden["fingerprint"] == svid["fingerprint"]

    def test_nothing_but_the_token(self, world, domain: DevTrustDomain) -> None:
        """`--raw`, for shells: one line, also where there are several identities."""
        world.call(lambda: domain.register("spiffe://dev.example/second", any=True))
        outcome = run_command("jwt", "orders", "--show-token", "--raw", "--socket", domain.endpoint)
        (token,) = outcome.out.splitlines()
        assert (0, "", WORKLOAD) == (outcome.code, outcome.err, str(JwtSvid.parse_unverified(token).id))

    def test_one_of_several_identities(self, world, domain: DevTrustDomain) -> None:
        """`--subject` names which (Workload API §6.2.1)."""
        world.call(lambda: domain.register("spiffe://dev.example/second", any=True))
        both = run_command("jwt", "a", "--json", "--socket", domain.endpoint).record
        one = run_command("jwt", "a", "--subject", WORKLOAD, "--json", "--socket", domain.endpoint).record
        assert (2, [WORKLOAD]) == (len(both["svids"]), [s["id"] for s in one["svids"]])

    def test_hints_and_tokens_that_do_not_say_when_they_were_made(self, api: ScriptedWorkloadApi) -> None:
        """`iat` and `kid` are optional (JWT-SVID §2.2, §3)."""
        expires = SYSTEM_CLOCK.now() + timedelta(minutes=1)
        claims = {"sub": WORKLOAD, "aud": ["a"], "exp": int(expires.timestamp())}
        token = compact({"alg": "ES256"}, claims)
        api.script("FetchJWTSVID", JwtSvidResponse((JwtSvidEntry(WORKLOAD, token, "internal"),)))
        outcome = run_command("jwt", "a", "--socket", api.endpoint)
        assert f"{WORKLOAD}\n  hint          internal\n" in outcome.out
        assert "issued" not in outcome.out
        assert "key id        none\n" in outcome.out
        (svid,) = run_command("jwt", "a", "--json", "--socket", api.endpoint).record["svids"]
        assert (None, None) == (svid["issued_at"], svid["key_id"])


class TestFailures:
    @pytest.mark.parametrize(
        ("words", "says"),
        [
            (["jwt", ""], "an audience is empty"),
            (["jwt", "a", "--subject", "nobody"], "--subject: "),
            (["jwt", "a", "--raw"], "say --show-token too"),
            (["jwt", "a", "--raw", "--show-token", "--watch"], "exclude each other"),
        ],
    )
    def test_nonsense_is_not_even_asked(self, api: ScriptedWorkloadApi, words: list[str], says: str) -> None:
        """Exit code 2; an empty audience is a mistake, not a wildcard."""
        outcome = run_command(*words, "--socket", api.endpoint)
        assert (2, "", []) == (outcome.code, outcome.out, api.calls)
        assert says in outcome.err

    def test_another_identity_than_it_has(self, world, domain: DevTrustDomain) -> None:
        """Which ones it has is said, a few of many; nothing of it waits for a registration."""
        words = ["jwt", "orders", "--subject", "spiffe://dev.example/nobody", "--json", "--socket", domain.endpoint]
        error = run_command(*words).record["error"]
        assert "no_identity_issued" == error["code"]
        assert f"spiffe://dev.example/nobody is not issued to this process, which is {WORKLOAD}" == error["message"]
        assert error["advice"].startswith("say one of these with --subject")
        for number in range(6):
            world.call(lambda number=number: domain.register(f"spiffe://dev.example/w{number}", any=True))
        message = run_command(*words).record["error"]["message"]
        assert message.endswith(f"which is {WORKLOAD}, {', '.join(f'spiffe://dev.example/w{n}' for n in range(4))} and 2 more")

    def test_an_identity_without_tokens(self, world, api: ScriptedWorkloadApi, domain: DevTrustDomain) -> None:
        """It has that one: then the agent's words are all there is to say."""
        api.script("FetchJWTSVID", NO_IDENTITY)
        svid = domain.ca.issue_x509_svid(WORKLOAD)
        entry = X509SvidEntry(
            WORKLOAD, b"".join(svid.ders), svid.private_key.private_bytes(*PKCS8_DER), domain.ca.x509_bundle.to_der(), ""
        )
        api.script("FetchX509SVID", X509SvidResponse((entry,)))
        words = ["jwt", "orders", "--subject", WORKLOAD, "--json", "--socket", api.endpoint]
        assert "no identity is issued to this process (yet)" in run_command(*words).record["error"]["message"]

    @pytest.mark.parametrize(
        ("words", "asked"),
        [([], ["FetchJWTSVID"]), (["--subject", WORKLOAD], ["FetchJWTSVID", "FetchX509SVID"])],
    )
    def test_no_identity_at_all(self, api: ScriptedWorkloadApi, words: list[str], asked: list[str]) -> None:
        """There is none to name, and without `--subject` none is looked for."""
        api.script("FetchJWTSVID", NO_IDENTITY)
        api.script("FetchX509SVID", NO_IDENTITY)
        error = run_command("jwt", "orders", *words, "--json", "--socket", api.endpoint).record["error"]
        assert ("no_identity_issued", asked) == (error["code"], [call.method for call in api.calls])
        assert "no identity is issued to this process (yet)" in error["message"]
        assert error["advice"].startswith("register this process")

    @pytest.mark.parametrize("show", [[], ["--json"]])
    def test_a_broken_token_is_not_shown_in_the_error(self, api: ScriptedWorkloadApi, show: list[str]) -> None:
        """Not even a part of it: a signature over other claims is still a signature."""
        token = CA.issue_jwt_svid(WORKLOAD, "else")
        api.script("FetchJWTSVID", JwtSvidResponse((JwtSvidEntry(WORKLOAD, token, ""),)))
        outcome = run_command("jwt", "orders", *show, "--socket", api.endpoint)
        assert 1 == outcome.code
        for part in token.split("."):
            assert part not in outcome.out + outcome.err

    def test_an_agent_that_quotes_a_token(self, api: ScriptedWorkloadApi) -> None:
        """What others say of a token is shown without it."""
        api.script("FetchJWTSVID", Fail(Status.INTERNAL, f"cannot sign {compact({'alg': 'ES256'}, {})}"))
        outcome = run_command("jwt", "orders", "--socket", api.endpoint)
        assert "cannot sign (a token)" in outcome.err


class TestWatch:
    def test_the_next_one_comes_ahead_of_expiry(self, api: ScriptedWorkloadApi) -> None:
        """At half of its life; for the test the tokens live for two seconds."""

        def short_lived(call: RecordedCall) -> JwtSvidResponse:
            token = CA.issue_jwt_svid(WORKLOAD, JwtSvidRequest.decode(call.request).audience, ttl=1)
            return JwtSvidResponse((JwtSvidEntry(WORKLOAD, token, ""),))

        api.script("FetchJWTSVID", short_lived)
        times: list[str] = []

        def react(line: str) -> None:
            times.append(json.loads(line)["time"])
            if len(times) == 2:
                press_ctrl_c()

        outcome = run_command("jwt", "a", "--watch", "--json", "--socket", api.endpoint, react=react)
        assert (130, 2) == (outcome.code, len(set(times)))

    def test_an_outage_is_told_once_and_waited_out(
        self, api: ScriptedWorkloadApi, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Retryable errors do not end a watch."""
        monkeypatch.setattr("spiffe_client.cli._jwt._SHORTEST_WAIT", 0.0)
        expired = (NO_IDENTITY,)
        api.script("FetchJWTSVID", lambda call: _at_once(call))
        api.script("FetchJWTSVID", *expired)
        api.script("FetchJWTSVID", *expired)
        api.script("FetchJWTSVID", issued)
        seen: list[str] = []

        def react(line: str) -> None:
            seen.append(line)
            if len([s for s in seen if s == WORKLOAD]) == 2 and "token" in line:
                press_ctrl_c()

        outcome = run_command("jwt", "a", "--watch", "--socket", api.endpoint, react=react)
        assert 130 == outcome.code
        assert 1 == sum("source.unavailable" in line for line in seen)

    def test_what_cannot_get_better_ends_it(
        self, api: ScriptedWorkloadApi, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An agent that ceases to offer JWT-SVIDs is not asked for ever (Workload Endpoint §6)."""
        monkeypatch.setattr("spiffe_client.cli._jwt._SHORTEST_WAIT", 0.0)
        api.script("FetchJWTSVID", lambda call: _at_once(call))
        api.script("FetchJWTSVID", Fail(Status.UNIMPLEMENTED))
        outcome = run_command("jwt", "a", "--watch", "--json", "--socket", api.endpoint)
        assert (1, "unimplemented") == (outcome.code, outcome.records[-1]["error"]["code"])


def _at_once(call: RecordedCall) -> JwtSvidResponse:
    """A token that is to be renewed at once."""
    audience = JwtSvidRequest.decode(call.request).audience
    return JwtSvidResponse((JwtSvidEntry(WORKLOAD, CA.issue_jwt_svid(WORKLOAD, audience, ttl=2), ""),))

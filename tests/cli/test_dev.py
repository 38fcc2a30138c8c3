"""`spiffe-client dev`: a trust domain by hand, from nothing or from a small file."""

from __future__ import annotations

import json
import os
import shlex
import ssl
import textwrap
from pathlib import Path

import anyio
import httpx
import pytest

from spiffe_client.dev import Registrations
from spiffe_client.dev.token_broker import Rules
from spiffe_client.workload_api import Endpoint, WorkloadApiClient, X509Context
from tests.support.command import press_ctrl_c, run_command, start_command

ENTRIES = """
[[entry]]
id = "spiffe://prod.example/orders"
any = true
hint = "internal"

[[entry]]
id = "spiffe://prod.example/billing"
selectors = { uid = 12345, path = "/usr/bin/billing" }
"""


def fetch(endpoint: str) -> X509Context:
    return anyio.run(WorkloadApiClient(endpoint).fetch_x509_context)


class TestServing:
    def test_without_a_file(self, tmp_path: Path) -> None:
        """Every process of this user is one workload, until Ctrl-C; then the socket is gone."""
        socket = tmp_path / "api.sock"
        with start_command("dev", "--socket", str(socket)) as process:
            assert process.stdout is not None
            first, second = process.stdout.readline(), process.stdout.readline()
            assert f"export SPIFFE_ENDPOINT_SOCKET=unix://{socket}\n" == first
            assert "# spiffe://dev.example/workload for whoever opens the socket\n" == second
            context = fetch(f"unix:{socket}")
            process.send_signal(2)
            _, err = process.communicate(timeout=60)
        assert "spiffe://dev.example/workload" == str(context.svid.id)
        assert (130, "", False) == (process.returncode, err, socket.exists())

    def test_from_a_file(self, tmp_path: Path) -> None:
        """The trust domain is that of the registrations; who gets what is said."""
        (tmp_path / "prod.toml").write_text(ENTRIES)
        outcome = run_command("dev", str(tmp_path / "prod.toml"), "--json", react=press_ctrl_c)
        assert 130 == outcome.code
        assert ["trust_domain", "endpoint", "registrations"] == list(outcome.record)
        assert "prod.example" == outcome.record["trust_domain"]
        assert [
            {"id": "spiffe://prod.example/orders", "who": "whoever opens the socket"},
            {"id": "spiffe://prod.example/billing", "who": "uid 12345, path /usr/bin/billing"},
        ] == outcome.record["registrations"]

    def test_an_empty_file(self, tmp_path: Path) -> None:
        """A trust domain in which nobody is anybody."""
        (tmp_path / "none.toml").write_text("")
        outcome = run_command("dev", str(tmp_path / "none.toml"), "--json", react=press_ctrl_c)
        assert ("dev.example", []) == (outcome.record["trust_domain"], outcome.record["registrations"])

    def test_another_name(self) -> None:
        """`--trust-domain` names it where there is no file."""
        outcome = run_command("dev", "--trust-domain", "lab.test", "--json", react=press_ctrl_c)
        assert [{"id": "spiffe://lab.test/workload", "who": "whoever opens the socket"}] == (
            outcome.record["registrations"]
        )

    def test_a_path_that_a_shell_would_take_apart(self, tmp_path: Path) -> None:
        """The line can be pasted as it is, and is an address (Workload Endpoint §4)."""
        (tmp_path / "my agent").mkdir()
        outcome = run_command("dev", "--socket", f"{tmp_path}/my agent/a.sock", react=press_ctrl_c)
        _, assignment = shlex.split(outcome.out.splitlines()[0])
        address = assignment.removeprefix("SPIFFE_ENDPOINT_SOCKET=")
        assert f"{tmp_path}/my agent/a.sock" == Endpoint.parse(address).path

    def test_a_path_that_no_socket_can_have(self) -> None:
        """Too long for the system: said before anything is opened."""
        outcome = run_command("dev", "--socket", "/" + "x" * 200, "--json")
        assert (2, "usage") == (outcome.code, outcome.record["error"]["code"])
        assert outcome.record["error"]["message"].startswith("--socket: ")

    @pytest.mark.parametrize("written", ["{}", "unix:{}", "unix://{}"])
    def test_the_address_of_a_socket(self, tmp_path: Path, written: str) -> None:
        """A path, or as `SPIFFE_ENDPOINT_SOCKET` has it; both mean the same place."""
        path = str(tmp_path / "a.sock")
        record = run_command("dev", "--socket", written.format(path), "--json", react=press_ctrl_c).record
        assert f"unix://{path}" == record["endpoint"]

    def test_a_path_from_here(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Relative, as paths may be and addresses may not."""
        monkeypatch.chdir(tmp_path)
        record = run_command("dev", "--socket", "a.sock", "--json", react=press_ctrl_c).record
        assert f"unix://{tmp_path}/a.sock" == record["endpoint"]

    @pytest.mark.parametrize(
        ("address", "says"),
        [
            ("tcp://127.0.0.1:8081", "--socket tcp://127.0.0.1:8081: a development trust domain serves on a unix socket"),
            ("unix:a.sock", "is relative"),
            ("https://a.example/x", "the scheme must be unix or tcp, not https"),
        ],
    )
    def test_an_address_that_is_none_of_a_socket(self, address: str, says: str) -> None:
        """Refused, and no file of that name is made."""
        outcome = run_command("dev", "--socket", address, "--json")
        assert (2, "usage") == (outcome.code, outcome.record["error"]["code"])
        assert says in outcome.record["error"]["message"]

    def test_the_address_is_the_same_in_both_outputs(self, tmp_path: Path) -> None:
        """`unix:///…`, for people and for programs (Workload Endpoint §4)."""
        words = ["dev", "--socket", str(tmp_path / "a.sock")]
        (line, *_) = run_command(*words, react=press_ctrl_c).out.splitlines()
        endpoint = run_command(*words, "--json", react=press_ctrl_c).record["endpoint"]
        assert f"unix://{tmp_path}/a.sock" == endpoint == line.removeprefix("export SPIFFE_ENDPOINT_SOCKET=")

    def test_how_long_svids_last(self, tmp_path: Path) -> None:
        """`--ttl`, in seconds."""
        socket = tmp_path / "api.sock"
        with start_command("dev", "--socket", str(socket), "--ttl", "90") as process:
            assert process.stdout is not None
            process.stdout.readline()
            svid = fetch(f"unix:{socket}").svid
            process.terminate()
            process.communicate(timeout=60)
        assert 143 == process.returncode
        # issued a few seconds back in time, and to the whole second
        assert 90 <= (svid.not_after - svid.not_before).total_seconds() <= 120


def asked(record: dict[str, object], spiffe_id: str, **form: str) -> httpx.Response:
    """Ask the token broker for a token, as one who has got a JWT-SVID at the Workload API."""
    issuer = record["token_broker"]["issuer"]

    async def fetch() -> str:
        return (await WorkloadApiClient(record["endpoint"]).fetch_jwt_svids(issuer))[0].token.reveal()

    assertion = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe"
    said = {"client_id": spiffe_id, "client_assertion_type": assertion, "client_assertion": anyio.run(fetch)}
    return httpx.post(f"{issuer}/token", data={"grant_type": "client_credentials", **said, **form})


class TestTokenBroker:
    def test_without_a_file_every_workload_gets_all(self) -> None:
        """And it is said where, and for whom."""
        with start_command("dev", "--token-broker", "--json") as process:
            assert process.stdout is not None
            record = json.loads(process.stdout.readline())
            reply = asked(record, "spiffe://dev.example/workload", scope="a b", audience="https://x")
            process.send_signal(2)
            _, err = process.communicate(timeout=60)
        assert (130, "") == (process.returncode, err)
        assert (200, "a b") == (reply.status_code, reply.json()["scope"])
        broker = record["token_broker"]
        assert ["issuer", "clients", "mtls", "web_roots", "web_roots_file"] == list(broker)
        assert ["spiffe://dev.example/*"] == broker["clients"]
        assert broker["web_roots"].startswith("-----BEGIN CERTIFICATE-----")

    def test_a_file_says_who_gets_what(self, tmp_path: Path) -> None:
        """In the same file as the registrations: what is shown by --help."""
        (tmp_path / "prod.toml").write_text(
            ENTRIES + '[[client]]\nid = "spiffe://prod.example/orders"\nscopes = ["s"]\n'
        )
        outcome = run_command("dev", str(tmp_path / "prod.toml"), "--token-broker", react=press_ctrl_c)
        lines = outcome.out.splitlines()
        assert lines[3].startswith("# http://127.0.0.1:")
        assert lines[3].endswith(" is a token broker for:")
        assert "#   spiffe://prod.example/orders" == lines[4]
        assert lines[5].endswith("/v1/orders takes its tokens, for orders:read")
        assert lines[6].startswith("# for --binding mtls: --ca /")
        assert 8 == len(lines)
        example = run_command("dev", "--help").out.partition("for example:\n")[2]
        example = example.replace("and for --token-broker, who may have what, for example:", "")
        assert 1 == len(list(Rules.parse(textwrap.dedent(example).encode())))

    def test_it_is_said_that_there_are_no_rules(self) -> None:
        """Without a file whoever is in the trust domain gets what it asks for."""
        lines = run_command("dev", "--token-broker", react=press_ctrl_c).out.splitlines()
        assert lines[2].endswith(" is a token broker; whatever they ask for is given to:")
        assert "#   spiffe://dev.example/*" == lines[3]

    def test_a_file_in_which_nobody_is_a_client(self, tmp_path: Path) -> None:
        """Said, in place of a list of nobody."""
        (tmp_path / "prod.toml").write_text(ENTRIES)
        path = str(tmp_path / "prod.toml")
        lines = run_command("dev", path, "--token-broker", react=press_ctrl_c).out.splitlines()
        assert lines[3].endswith(f" is a token broker, and nobody is its client: {path} has no [[client]]")
        assert lines[4].endswith("/v1/orders takes its tokens, for orders:read")
        assert [] == run_command("dev", path, "--token-broker", "--json", react=press_ctrl_c).record["token_broker"]["clients"]

    def test_a_port_that_cannot_be_had(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The system's words; another socket of the Workload API would be no help."""

        def create_server(*args: object, **options: object) -> None:
            raise OSError(24, "too many open files")

        monkeypatch.setattr("socket.create_server", create_server)
        error = run_command("dev", "--token-broker", "--json").record["error"]
        assert ("endpoint_invalid", True) == (error["code"], "too many open files" in error["message"])
        assert error["advice"].startswith("the operating system has refused")

    def test_a_mistake_in_the_rules(self, tmp_path: Path) -> None:
        """Is located."""
        (tmp_path / "bad.toml").write_text(ENTRIES + '[[client]]\nid = "x"\n')
        error = run_command("dev", str(tmp_path / "bad.toml"), "--token-broker", "--json").record["error"]
        assert "registration_invalid" == error["code"]
        assert "client 1 (x): the client x has no way to authenticate" in error["message"]

    def test_what_it_needs_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nothing is half open without the extra."""
        monkeypatch.setattr("spiffe_client.dev.token_broker._broker.find_spec", lambda name: None)
        outcome = run_command("dev", "--token-broker")
        said, advice = outcome.err.splitlines()
        assert (2, "next: pip install 'spiffe-client[dev]'") == (outcome.code, advice)
        assert "--token-broker needs starlette, which comes with the extra `dev`" in said

    def test_a_service_takes_its_tokens(self) -> None:
        """By hand, with `token`: with orders:read it answers, without a token it does not (RFC 6750 §3)."""
        with start_command("dev", "--token-broker", "--json") as process:
            assert process.stdout is not None
            record = json.loads(process.stdout.readline())
            service = record["service"]
            url = f"{service['url']}/v1/orders"
            words = ["token", "orders:read", "--binding", "none", "--show-token", "--raw", "--audience", service["url"]]
            issuer = record["token_broker"]["issuer"]
            token = run_command(*words, "--token-broker", issuer, "--socket", record["endpoint"]).out.strip()
            let_in = httpx.get(url, headers={"Authorization": f"Bearer {token}"})
            process.send_signal(2)
            process.communicate(timeout=60)
        assert (["url", "id", "mtls"], "spiffe://dev.example/protected-service") == (list(service), service["id"])
        assert (200, "spiffe://dev.example/workload") == (let_in.status_code, let_in.json()["sub"])

    def test_what_to_trust_for_bound_tokens_is_in_a_file(self) -> None:
        """`--binding mtls --ca FILE` works; public certificates only, in a folder of this user's, gone at the end."""
        with start_command("dev", "--token-broker", "--json") as process:
            assert process.stdout is not None
            record = json.loads(process.stdout.readline())
            roots = Path(record["token_broker"]["web_roots_file"])
            text, mode = roots.read_text(), roots.parent.stat().st_mode & 0o777
            words = ["token", "x", "--binding", "mtls", "--ca", str(roots), "--socket", record["endpoint"], "--json"]
            outcome = run_command(*words, "--token-broker", record["token_broker"]["issuer"])
            mtls = httpx.Client(verify=ssl.create_default_context(cafile=str(roots)), trust_env=False)
            with mtls:
                refused = mtls.get(record["service"]["mtls"])  # by who is trusted: nothing was presented
            process.send_signal(2)
            process.communicate(timeout=60)
        assert (0, "mtls") == (outcome.code, outcome.record["binding"]["method"])
        assert 401 == refused.status_code
        assert ("web-roots.pem", 2, False, 0o700) == (
            roots.name, text.count("BEGIN CERTIFICATE"), "PRIVATE" in text, mode,
        )  # fmt: skip
        assert not roots.parent.exists()


class TestRotation:
    def test_rotate_every(self) -> None:
        """Every so often every SVID is issued anew, and a line says so."""
        seen: list[dict[str, object]] = []

        def react(line: str) -> None:
            seen.append(json.loads(line))
            if len(seen) == 3:
                press_ctrl_c()

        outcome = run_command("dev", "--rotate-every", "0.01", "--json", react=react)
        assert 130 == outcome.code
        assert [("rotated", 1), ("rotated", 2)] == [(r["event"], r["count"]) for r in seen[1:]]
        assert ["time", "event", "count"] == list(seen[1])


class TestRefusals:
    def test_a_file_that_is_no_registration(self, tmp_path: Path) -> None:
        """Where in the file, and where an example is: which is one."""
        (tmp_path / "bad.toml").write_text('[[entry]]\nid = "spiffe://a.test/x"\ncolour = "red"\n')
        error = run_command("dev", str(tmp_path / "bad.toml"), "--json").record["error"]
        assert ("registration_invalid", "`spiffe-client dev --help` shows an example") == (
            error["code"],
            error["advice"],
        )
        assert "entry 1, field 'colour': there is no such field" in error["message"]
        example = run_command("dev", "--help").out.partition("for example:\n")[2].partition("\nand for")[0]
        assert 2 == len(Registrations.parse(textwrap.dedent(example).encode()))

    def test_a_file_of_another_trust_domain(self, tmp_path: Path) -> None:
        """Said twice and differently: which is meant?"""
        (tmp_path / "prod.toml").write_text(ENTRIES)
        outcome = run_command("dev", str(tmp_path / "prod.toml"), "--trust-domain", "dev.example", "--json")
        assert (1, "registration_invalid") == (outcome.code, outcome.record["error"]["code"])

    @pytest.mark.parametrize("there", ["a file", "a server"])
    def test_a_place_that_is_taken(self, domain, tmp_path: Path, there: str) -> None:
        """Nothing that is in use is removed."""
        path = domain.endpoint.removeprefix("unix:")
        if there == "a file":
            path = str(tmp_path / "notes.txt")
            Path(path).write_text("mine")
        outcome = run_command("dev", "--socket", path, "--json")
        assert (1, "endpoint_invalid") == (outcome.code, outcome.record["error"]["code"])
        assert "say another PATH with --socket" == outcome.record["error"]["advice"]
        assert os.path.exists(path)

"""`spiffe-client dev`: a trust domain by hand, from nothing or from a small file."""

from __future__ import annotations

import json
import os
import shlex
import textwrap
from pathlib import Path

import anyio
import pytest

from spiffe_client.dev import Registrations
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
            _, err = process.communicate(timeout=30)
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
            process.communicate(timeout=30)
        assert 143 == process.returncode
        # issued a few seconds back in time, and to the whole second
        assert 90 <= (svid.not_after - svid.not_before).total_seconds() <= 120


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
        example = run_command("dev", "--help").out.partition("for example:\n")[2]
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

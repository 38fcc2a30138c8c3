"""Registrations: who gets what, and what every malformed file is told."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiffe_client.dev import Registration, Registrations, Selectors
from spiffe_client.dev._caller import Caller
from spiffe_client.errors import RegistrationError
from spiffe_client.ids import SpiffeId, TrustDomain

ORDERS = SpiffeId.parse("spiffe://dev.example/orders")
TESTER = SpiffeId.parse("spiffe://dev.example/tester")
ANYONE = Selectors(any_caller=True)


class TestSelectors:
    @pytest.mark.parametrize(
        "selectors",
        [
            Selectors(any_caller=True),
            Selectors(uid=1000),
            Selectors(gid=100),
            Selectors(pid=7),
            Selectors(path=os.path.realpath(sys.executable)),
            Selectors(uid=1000, gid=100, pid=7, path=os.path.realpath(sys.executable)),
        ],
    )
    def test_all_that_is_said_is_true_of_the_caller(self, selectors: Selectors) -> None:
        """A caller of whom everything holds is meant."""
        assert selectors.match(Caller(uid=1000, gid=100, pid=7, path=os.path.realpath(sys.executable)))

    @pytest.mark.parametrize(
        "selectors",
        [
            Selectors(uid=1001),
            Selectors(uid=0),  # root is somebody else, not everybody
            Selectors(gid=101),
            Selectors(pid=8),
            Selectors(path="/usr/bin/somebody-else"),
            Selectors(uid=1000, gid=101),  # one of two is not enough
            Selectors(own_endpoint=True),
        ],
    )
    def test_anybody_else_is_not_meant(self, selectors: Selectors) -> None:
        """One thing that does not hold is enough."""
        assert not selectors.match(Caller(uid=1000, gid=100, pid=7, path=sys.executable))

    @pytest.mark.parametrize(
        "selectors", [Selectors(uid=0), Selectors(gid=0), Selectors(pid=0), Selectors(path="/")]
    )
    def test_what_is_not_known_does_not_match(self, selectors: Selectors) -> None:
        """A platform that tells nothing of callers gives nobody an identity meant for somebody."""
        assert not selectors.match(Caller())
        assert ANYONE.match(Caller())

    def test_symbolic_links_to_the_executable_are_followed(self, tmp_path: Path) -> None:
        """`/usr/bin/python3` is a link nearly everywhere; the kernel names its target."""
        target = tmp_path / "python3.11"
        target.touch()
        link = tmp_path / "python3"
        link.symlink_to(target)

        assert Selectors(path=str(link)).match(Caller(path=str(target.resolve())))

    @pytest.mark.parametrize(
        ("wrong", "why"),
        [
            ({}, "would match nobody"),
            ({"any_caller": True, "uid": 0}, "one or the other"),
            ({"any_caller": True, "own_endpoint": True}, "one or the other"),
            ({"uid": -1}, "negative"),
            ({"path": "python3"}, "absolute"),
            ({"path": "/usr/bin/\0"}, "absolute"),
        ],
    )
    def test_a_mistake_is_refused(self, wrong: dict[str, object], why: str) -> None:
        """Nobody is selected, or everybody by accident: neither is ever meant."""
        with pytest.raises(RegistrationError, match=why):
            Selectors(**wrong)


class TestRegistration:
    @pytest.mark.parametrize(
        ("wrong", "why"),
        [
            ({"id": SpiffeId.parse("spiffe://dev.example")}, "not a workload"),
            ({"ttl": 0.0}, "positive"),
            ({"ttl": -1.0}, "positive"),
            ({"ttl": float("nan")}, "positive"),
            ({"ttl": float("inf")}, "positive"),
            ({"ttl": 1e12}, "ten years"),
            ({"dns_names": ("",)}, "not a DNS name"),
            ({"dns_names": ("a..b",)}, "not a DNS name"),
            ({"dns_names": ("bücher.example",)}, "not a DNS name"),
            ({"dns_names": ("ok.example", "a b")}, "not a DNS name"),
            ({"dns_names": ("a" * 64,)}, "not a DNS name"),
            ({"dns_names": (".".join(["a" * 60] * 5),)}, "not a DNS name"),
        ],
    )
    def test_a_mistake_is_refused(self, wrong: dict[str, object], why: str) -> None:
        """What could never be issued is not registered."""
        with pytest.raises(RegistrationError, match=why):
            Registration(**{"id": ORDERS, "selectors": ANYONE, **wrong})

    @pytest.mark.parametrize("name", ["orders.internal", "*.internal", "localhost", "a_b.c-d", "1.2.3.4"])
    def test_dns_names_pass(self, name: str) -> None:
        """Host names, wild cards included."""
        assert (name,) == Registration(ORDERS, ANYONE, dns_names=(name,)).dns_names


class TestRegistrations:
    def test_a_caller_gets_all_that_match_in_order(self) -> None:
        """The first is the default identity (Workload API §5.3)."""
        mine = Registration(ORDERS, Selectors(uid=1))
        anyones = Registration(TESTER, ANYONE)
        registrations = Registrations((mine, Registration(ORDERS, Selectors(uid=2)), anyones))

        assert (mine, anyones) == registrations.matching(Caller(uid=1))
        assert (anyones,) == registrations.matching(Caller(uid=3))

    def test_adding_and_removing_make_new_ones(self) -> None:
        """They are values: who holds the former ones sees no change."""
        none = Registrations()
        one = none.add(Registration(ORDERS, ANYONE))

        assert (0, 1) == (len(none), len(one))
        assert [ORDERS] == [e.id for e in one]
        assert none == one.without(ORDERS)

    def test_all_registrations_of_an_identity_go_together(self) -> None:
        """Withdrawing an identity leaves no way to it."""
        several = Registrations((Registration(ORDERS, ANYONE), Registration(ORDERS, Selectors(uid=1))))

        assert 2 == len(several.of(ORDERS))
        assert () == several.without(ORDERS).of(ORDERS)

    def test_twice_the_same_is_a_mistake(self) -> None:
        """It would be issued twice to the same callers."""
        with pytest.raises(RegistrationError, match="twice"):
            Registrations().add(Registration(ORDERS, ANYONE)).add(Registration(ORDERS, ANYONE))

    def test_removing_what_is_not_there_is_a_mistake(self) -> None:
        """A typing error must not look like a withdrawal."""
        with pytest.raises(RegistrationError, match="spiffe://dev.example/orders is not registered"):
            Registrations().without(ORDERS)

    def test_another_trust_domain_is_refused(self) -> None:
        """An authority issues for its own trust domain only."""
        registrations = Registrations((Registration(ORDERS, ANYONE),))

        assert registrations is registrations.require(TrustDomain("dev.example"))
        with pytest.raises(RegistrationError, match=r"orders is not of the trust domain other\.example"):
            registrations.require(TrustDomain("other.example"))


FULL = b"""
[[entry]]
id = "spiffe://dev.example/orders"
selectors = { uid = 1000, gid = 100, pid = 7, path = "/usr/bin/python3" }
ttl = 60
hint = "internal"
dns_names = ["orders.internal"]
federates_with = ["partner.example"]

[[entry]]
id = "spiffe://dev.example/tester"
any = true
"""


def entry(line: str) -> bytes:
    return f'[[entry]]\nid = "spiffe://dev.example/tester"\nany = true\n\n[[entry]]\n{line}\n'.encode()


class TestFile:
    def test_all_that_can_be_said(self) -> None:
        """Every key of the format."""
        orders, tester = Registrations.parse(FULL, name="dev.toml")

        assert orders == Registration(
            ORDERS,
            Selectors(uid=1000, gid=100, pid=7, path="/usr/bin/python3"),
            ttl=60.0,
            hint="internal",
            dns_names=("orders.internal",),
            federates_with=frozenset({TrustDomain("partner.example")}),
        )
        assert tester == Registration(TESTER, ANYONE)
        assert "dev.toml: entry 2: spiffe://dev.example/tester" == str(tester)

    def test_an_empty_file_registers_nothing(self) -> None:
        """Nobody gets anything, which is a way to start."""
        assert Registrations() == Registrations.parse(b"")

    def test_loading(self, tmp_path: Path) -> None:
        """From a path, which messages name."""
        file = tmp_path / "dev.toml"
        file.write_bytes(FULL)

        assert Registrations.parse(FULL) == Registrations.load(file)

    @pytest.mark.parametrize("path", ["missing.toml", "a\0b", "."])
    def test_a_file_that_cannot_be_read(self, path: str, tmp_path: Path) -> None:
        """The message names it."""
        with pytest.raises(RegistrationError, match="cannot be read"):
            Registrations.load(str(tmp_path / path))

    @pytest.mark.parametrize(
        ("text", "where"),
        [
            (b"[[entry]\n", "dev.toml: not TOML: .*line 1"),
            (b"entry = 5\n", "dev.toml: field entry: each entry is a table"),
            (b"entry = [5]\n", "dev.toml: entry 1: each entry is a table"),
            (b"entries = []\n", r"dev.toml: field 'entries': there is no such field; there are \[\[entry\]\] tables, and for a token broker \[\[client\]\] and \[\[issuer\]\]"),
            (b"\xff", "dev.toml: not TOML"),
            (b"a = " + b"[" * 5000, "dev.toml: not TOML"),
            (b"a = " + b"9" * 5000, "dev.toml: not TOML"),
            (b"#" * (1024 * 1024 + 1), "dev.toml: larger than"),
            (entry("any = true"), "dev.toml: entry 2, field 'id': it is missing"),
            (entry('id = "spiffe://dev.example/a"'), r"dev.toml: entry 2 \(spiffe://dev.example/a\): .*would match nobody"),
            (entry('id = "spiffe://dev.example/a"\nselectors = {}'), "entry 2 .*would match nobody"),
            (entry('id = "spiffe://dev.example/a"\nany = false'), "entry 2 .*would match nobody"),
            (entry('id = "spiffe://dev.example/a"\nany = true\nselectors = { uid = 1 }'), "entry 2 .*one or the other"),
            (entry('id = "spiffe://dev.example/a"\nselectors = { user = 1 }'), "entry 2, field 'selectors.user': there is no such field; there are uid, gid, pid, path"),
            (entry('id = "spiffe://dev.example/a"\nselectors = { uid = "1" }'), "entry 2, field 'selectors.uid': must be a whole number"),
            (entry('id = "spiffe://dev.example/a"\nselectors = { uid = true }'), "entry 2, field 'selectors.uid': must be a whole number"),
            (entry('id = "spiffe://dev.example/a"\nselectors = 5'), "entry 2, field 'selectors': must be a table"),
            (entry('id = "spiffe://dev.example/a"\nselector = { uid = 1 }'), "entry 2, field 'selector': there is no such field; there are id, "),
            (entry('id = "https://dev.example/a"\nany = true'), r"entry 2 \(https://dev.example/a\)"),
            (entry('id = "spiffe://dev.example"\nany = true'), "entry 2 .*not a workload"),
            (entry('id = "spiffe://dev.example/a"\nany = true\nttl = nan'), "entry 2 .*ttl"),
            (entry('id = "spiffe://dev.example/a"\nany = true\nttl = "1h"'), "entry 2, field 'ttl': must be a number of seconds"),
            (entry('id = "spiffe://dev.example/a"\nany = true\ndns_names = "a"'), "entry 2, field 'dns_names': must be a list"),
            (entry('id = "spiffe://dev.example/a"\nany = true\nfederates_with = ["a b"]'), "entry 2 .*trust domain"),
            (entry('id = "spiffe://dev.example/tester"\nany = true'), r"entry 2: .* twice alike: dev.toml: entry 1"),
        ],
    )
    def test_a_malformed_file_is_told_where(self, text: bytes, where: str) -> None:
        """Line and column, or entry and field."""
        with pytest.raises(RegistrationError, match=f"(?s){where}"):
            Registrations.parse(text, name="dev.toml")

    @given(st.binary(max_size=200) | st.text(max_size=200).map(lambda t: f"entry = [{{{t}}}]".encode(errors="replace")))
    def test_any_bytes_are_registrations_or_a_typed_error(self, text: bytes) -> None:
        """Nothing else ever comes out."""
        try:
            assert isinstance(Registrations.parse(text), Registrations)
        except RegistrationError as error:
            assert "registrations" in str(error)

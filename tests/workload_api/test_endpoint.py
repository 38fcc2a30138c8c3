"""The address of the Workload API is right, or the error says what is wrong with it."""

from __future__ import annotations

import os
import pickle
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from spiffe_client.errors import EndpointError
from spiffe_client.workload_api import Endpoint
from spiffe_client.workload_api._endpoint import MAX_SOCKET_PATH

#: Fuzzing is never timed: the machine may be busy.
fuzz = settings(deadline=None)

RIGHT_FORMS = r"expected unix:///run/spire/agent\.sock or tcp://127\.0\.0\.1:8081"


class TestUnix:
    @pytest.mark.parametrize(
        ("text", "path"),
        [
            ("unix:///run/spire/agent.sock", "/run/spire/agent.sock"),
            ("unix:/run/spire/agent.sock", "/run/spire/agent.sock"),  # the same URI without "//"
            ("UNIX:///a", "/a"),  # RFC 3986 §3.1: schemes have no case
            ("unix:///a%20b", "/a b"),
            ("unix:///a%3Fb%23c", "/a?b#c"),
            ("unix:///a%25b", "/a%b"),
            ("unix:///%C3%A4", "/ä"),
            ("unix:///%FF", os.fsdecode(b"/\xff")),  # paths are bytes
            ("unix:///a:b@c", "/a:b@c"),
            ("unix:////a", "//a"),
        ],
    )
    def test_well_formed(self, text: str, path: str) -> None:
        """Workload Endpoint §4: `unix:` and an absolute path, percent-decoded as RFC 3986 has it."""
        endpoint = Endpoint.parse(text)

        assert Endpoint("unix", path=path) == endpoint
        assert ("unix", path, "", 0) == (endpoint.kind, endpoint.path, endpoint.host, endpoint.port)

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("unix://run/agent.sock", "'run' stands where a host would: a path begins with a third /"),
            ("unix://localhost/run/agent.sock", "'localhost' stands where a host would"),
            ("unix://user@/run/agent.sock", "stands where a host would"),
            ("unix:run/agent.sock", "'run/agent.sock' is relative"),
            ("unix:./agent.sock", "is relative"),
            ("unix:@abstract", "is relative"),
            ("unix:", "the path of the socket is missing"),
            ("unix://", "the path of the socket is missing"),
            ("unix:/", "the path of the socket is missing"),
            ("unix:///", "the path of the socket is missing"),
            ("unix:///a?x=1", r"it may not have a query \(\?…\)"),
            ("unix:///a?", r"it may not have a query \(\?…\)"),
            ("unix:///a#b", "it may not have a fragment"),
            ("unix:///a#", "it may not have a fragment"),
            ("unix:///a%2", "the % at 9 is not followed by two hexadecimal digits"),
            ("unix:///a%zz", "the % at 9 is not followed by two hexadecimal digits"),
            ("unix:///a%00b", "NUL"),
            ("unix:///a b", r"' ' \(at 9\) has to be percent-encoded"),
            ("unix:///ä", r"'ä' \(at 8\) has to be percent-encoded"),
            ("unix:///a\\b", "has to be percent-encoded"),
            ("unix:///a\x00b", "has to be percent-encoded"),
            ("unix:///a\udcff", "has to be percent-encoded"),
            (" unix:///a", "begins or ends with white space"),
            ("unix:///a\n", "begins or ends with white space"),
        ],
    )
    def test_malformed(self, text: str, why: str) -> None:
        """Workload Endpoint §4: no authority, no relative path, no other component, and it is a URI."""
        with pytest.raises(EndpointError, match=f"(?s)not a Workload API address: .*{why}.*; {RIGHT_FORMS}"):
            Endpoint.parse(text)

    def test_longest_path(self) -> None:
        """A path that fits into the system's socket address is accepted, one byte more is refused."""
        fits = "/" + "a" * (MAX_SOCKET_PATH - 1)

        assert fits == Endpoint.parse(f"unix://{fits}").path
        with pytest.raises(EndpointError, match=rf"has {MAX_SOCKET_PATH + 1} bytes, this system allows"):
            Endpoint.parse(f"unix://{fits}a")

    def test_length_counts_bytes(self) -> None:
        """What counts is what the system gets: bytes, after percent-decoding."""
        assert MAX_SOCKET_PATH == len(Endpoint.parse("unix:///" + "%61" * (MAX_SOCKET_PATH - 1)).path)
        with pytest.raises(EndpointError, match="bytes, this system allows"):
            Endpoint.parse("unix:///" + "%C3%A4" * (MAX_SOCKET_PATH // 2 + 1))

    def test_limit_is_the_systems(self) -> None:
        """The limit is `sizeof(sun_path)` less the final NUL."""
        assert (107 if sys.platform == "linux" else 103) == MAX_SOCKET_PATH


class TestTcp:
    @pytest.mark.parametrize(
        ("text", "host", "port"),
        [
            ("tcp://127.0.0.1:8000", "127.0.0.1", 8000),
            ("tcp://169.254.1.1:1", "169.254.1.1", 1),
            ("tcp://127.0.0.1:65535", "127.0.0.1", 65535),
            ("TCP://127.0.0.1:8000", "127.0.0.1", 8000),
            ("tcp://127.0.0.1:0080", "127.0.0.1", 80),  # RFC 3986 §3.2.3: any digits
            ("tcp://[::1]:8000", "::1", 8000),
            ("tcp://[FE80:0::1]:8000", "fe80::1", 8000),
            ("tcp://[::ffff:127.0.0.1]:80", "::ffff:7f00:1", 80),
        ],
    )
    def test_well_formed(self, text: str, host: str, port: int) -> None:
        """Workload Endpoint §4: an IP address and a port."""
        endpoint = Endpoint.parse(text)

        assert ("tcp", "", port) == (endpoint.kind, endpoint.path, endpoint.port)
        assert endpoint.host in (host, "::ffff:127.0.0.1")  # newer Pythons write mapped addresses so

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("tcp://localhost:8000", "the host must be an IP address, not 'localhost'"),
            ("tcp://agent.example:8000", "the host must be an IP address"),
            ("tcp://127.0.0.1", "the port is missing"),
            ("tcp://[::1]", "the port is missing"),
            ("tcp://127.0.0.1:", "the port must be 1 to 65535, not ''"),
            ("tcp://127.0.0.1:0", "the port must be 1 to 65535, not '0'"),
            ("tcp://127.0.0.1:70000", "the port must be 1 to 65535, not '70000'"),
            ("tcp://127.0.0.1:-1", "the port must be 1 to 65535"),
            ("tcp://127.0.0.1:http", "the port must be 1 to 65535, not 'http'"),
            ("tcp://127.0.0.1:" + "0" * 6 + "1", "the port must be 1 to 65535"),
            ("tcp://127.0.0.1:8000/", r"it may not have a path \('/'\)"),
            ("tcp://127.0.0.1:8000/foo", r"it may not have a path \('/foo'\)"),
            ("tcp://127.0.0.1:8000?x", "it may not have a query"),
            ("tcp://127.0.0.1:8000#x", "it may not have a fragment"),
            ("tcp://me@127.0.0.1:8000", "it may not have a user name or password"),
            ("tcp://:8000", "the IP address is missing"),
            ("tcp://", "the IP address is missing"),
            ("tcp:127.0.0.1:8000", "the IP address is missing after tcp://"),
            ("tcp:///127.0.0.1:8000", "the IP address is missing after tcp://"),
            ("tcp://::1:8000", "an IPv6 address must stand in brackets"),
            ("tcp://[127.0.0.1]:8000", "only an IPv6 address stands in brackets"),
            ("tcp://[]:8000", "only an IPv6 address stands in brackets"),
            ("tcp://[[::1]]:8000", "the host must be an IP address"),
            ("tcp://[::1:8000", "an IPv6 address must stand in brackets"),
            ("tcp://[fe80::1%25eth0]:8000", "may not have a zone"),
            ("tcp://127.0.0.%31:8000", "may not have a zone or be percent-encoded"),
            ("tcp://127.1:8000", "the host must be an IP address"),
            ("tcp://127.0.0.01:8000", "the host must be an IP address"),
            ("tcp://2130706433:8000", "the host must be an IP address"),
        ],
    )
    def test_malformed(self, text: str, why: str) -> None:
        """Workload Endpoint §4: an IP address and not a name, a port, and no other component."""
        with pytest.raises(EndpointError, match=f"not a Workload API address: .*{why}.*; {RIGHT_FORMS}"):
            Endpoint.parse(text)

    def test_a_password_is_not_shown(self) -> None:
        """An address with a password is refused without repeating it."""
        with pytest.raises(EndpointError) as e:
            Endpoint.parse("tcp://me:s3cr3t@127.0.0.1:8000")

        assert "s3cr3t" not in str(e.value)


class TestAnythingElse:
    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("", "the scheme is missing"),
            ("/run/agent.sock", "the scheme is missing: for the socket at this path write unix:///run/agent.sock"),
            ("agent.sock", "the scheme is missing"),
            ("127.0.0.1:8081", "the scheme is missing"),
            ("localhost:8081", "the scheme is missing"),
            ("://x", "the scheme is missing"),
            ("http://127.0.0.1:8081", "the scheme must be unix or tcp, not http"),
            ("npipe:spire", "the scheme must be unix or tcp, not npipe"),
            ("unixs:///a", "the scheme must be unix or tcp, not unixs"),
            ("unix:///" + "a" * 5000, "more than 4096 characters"),
        ],
    )
    def test_refused(self, text: str, why: str) -> None:
        """Workload Endpoint §4: the scheme is `unix` or `tcp`."""
        with pytest.raises(EndpointError, match=why):
            Endpoint.parse(text)

    @pytest.mark.parametrize("value", [None, 8081, b"unix:///a"])
    def test_not_text(self, value: object) -> None:
        """What is no text is refused by its type."""
        with pytest.raises(EndpointError, match=f"is text like .*, not {type(value).__name__}"):
            Endpoint.parse(value)  # type: ignore[arg-type]

    def test_error_is_short(self) -> None:
        """A huge address does not make a huge error."""
        with pytest.raises(EndpointError) as e:
            Endpoint.parse("x" * 100_000)

        assert len(str(e.value)) < 400

    @fuzz
    @given(st.text() | st.from_regex(r"(unix|tcp):(//)?[^/]*(:[0-9]*)?(/.*)?", fullmatch=True))
    @example("tcp://[")
    @example("tcp://]:1")
    @example("unix:\ud800")
    def test_any_text(self, text: str) -> None:
        """Any text is an endpoint that its own text leads back to, or an EndpointError."""
        try:
            endpoint = Endpoint.parse(text)
        except EndpointError:
            return

        assert endpoint == Endpoint.parse(str(endpoint))


class TestFromEnvironment:
    def test_taken_from_the_variable(self) -> None:
        """Workload Endpoint §4: without an address in code, `SPIFFE_ENDPOINT_SOCKET` has it."""
        environ = {"SPIFFE_ENDPOINT_SOCKET": "unix:///run/agent.sock"}

        assert Endpoint("unix", path="/run/agent.sock") == Endpoint.from_environment(environ)

    @pytest.mark.parametrize(("environ", "state"), [({}, "not set"), ({"SPIFFE_ENDPOINT_SOCKET": ""}, "empty")])
    def test_missing(self, environ: dict[str, str], state: str) -> None:
        """Without it, the error says how to set it."""
        with pytest.raises(EndpointError, match=f"SPIFFE_ENDPOINT_SOCKET is {state}; set it to .*unix:///"):
            Endpoint.from_environment(environ)

    def test_malformed(self) -> None:
        """A malformed address is traced to the variable."""
        with pytest.raises(EndpointError, match="SPIFFE_ENDPOINT_SOCKET: not a .*the scheme is missing"):
            Endpoint.from_environment({"SPIFFE_ENDPOINT_SOCKET": "/run/agent.sock"})


class TestEndpoint:
    @pytest.mark.parametrize(
        ("endpoint", "text"),
        [
            (Endpoint("unix", path="/run/agent.sock"), "unix:///run/agent.sock"),
            (Endpoint("unix", path="/a b?#%ä"), "unix:///a%20b%3F%23%25%C3%A4"),
            (Endpoint("unix", path=os.fsdecode(b"/\xff")), "unix:///%FF"),
            (Endpoint("tcp", host="127.0.0.1", port=80), "tcp://127.0.0.1:80"),
            (Endpoint("tcp", host="::1", port=80), "tcp://[::1]:80"),
        ],
    )
    def test_text_and_back(self, endpoint: Endpoint, text: str) -> None:
        """An endpoint reads as the address that makes it."""
        assert text == str(endpoint)
        assert endpoint == Endpoint.parse(text)
        assert endpoint is Endpoint.parse(endpoint)
        assert endpoint == pickle.loads(pickle.dumps(endpoint))
        assert hash(endpoint) == hash(Endpoint.parse(text))

    @pytest.mark.parametrize(
        ("parts", "why"),
        [
            ({"kind": "unix"}, "must be absolute"),
            ({"kind": "unix", "path": "run/agent.sock"}, "must be absolute"),
            ({"kind": "unix", "path": "/a\0"}, "NUL"),
            ({"kind": "unix", "path": "/" + "a" * 200}, "this system allows"),
            ({"kind": "unix", "path": b"/a"}, "is made of `unix` and a path"),
            ({"kind": "unix", "path": "/a", "port": 1}, "is made of `unix` and a path"),
            ({"kind": "tcp", "path": "/a", "host": "::1", "port": 1}, "is made of `unix` and a path"),
            ({"kind": "tcp"}, "the IP address is missing"),
            ({"kind": "tcp", "host": "localhost", "port": 1}, "must be an IP address"),
            ({"kind": "tcp", "host": "::0", "port": 1}, "the IP address is written ::"),
            ({"kind": "tcp", "host": "::1", "port": 0}, "the port must be 1 to 65535"),
            ({"kind": "tcp", "host": "::1", "port": "1"}, "is made of `unix` and a path"),
            ({"kind": "npipe", "path": "/a"}, "is made of `unix` and a path"),
        ],
    )
    def test_parts_that_do_not_fit(self, parts: dict[str, object], why: str) -> None:
        """Made from its parts it keeps the same rules."""
        with pytest.raises(EndpointError, match=why):
            Endpoint(**parts)  # type: ignore[arg-type]

"""Where the Workload API listens (SPIFFE Workload Endpoint §4).

An address is a URI by RFC 3986, so a path is percent-decoded and a character that no URI may hold
has to be percent-encoded; `unix:/a` and `unix:///a` are the same address.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from typing import Literal, NoReturn

from spiffe_client._values import dataclass
from spiffe_client.errors import EndpointError

__all__ = ["ENDPOINT_VARIABLE", "Endpoint"]

#: The environment variable with the address (Workload Endpoint §4).
ENDPOINT_VARIABLE = "SPIFFE_ENDPOINT_SOCKET"

#: Longest address looked at, in characters.
MAX_ADDRESS = 4096
#: Longest path of a unix socket: what the system's sockaddr_un has room for, less a final NUL.
MAX_SOCKET_PATH = 107 if sys.platform == "linux" else 103

_RIGHT = "unix:///run/spire/agent.sock or tcp://127.0.0.1:8081"
# RFC 3986 appendix B, without the parts that get a message of their own.
_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(?://([^/?#]*))?([^?#]*)([?#].*)?", re.DOTALL)
_NOT_IN_URI = re.compile(r"[^A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]")
#: What stands in a path as it is.
_PLAIN = re.compile(r"[A-Za-z0-9._~/:@!$&'()*+,;=-]*")
_PORTS = range(1, 65536)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The address of a Workload API; made by `parse`, `from_environment`, or from its parts.

    Attributes:
        kind: How it is reached.
        path: Of the unix socket: absolute, as the operating system wants it; else empty.
        host: The IP address, else empty.
        port: The TCP port, else 0.

    Raises:
        EndpointError: The parts do not fit together.
    """

    kind: Literal["unix", "tcp"]
    path: str = ""
    host: str = ""
    port: int = 0

    def __post_init__(self) -> None:
        match self:
            case Endpoint("unix", str(path), "", 0):
                _check_path(path)
            case Endpoint("tcp", "", str(host), int(port)):
                _check_ip(host)
                _check_port(f"tcp://{host}:{port}", str(port))
            case _:
                raise EndpointError(
                    "not a Workload API address: it is made of `unix` and a path, or of `tcp`, an IP address "
                    "and a port; see Endpoint.parse"
                )

    @classmethod
    def parse(cls, value: Endpoint | str) -> Endpoint:
        """Make an endpoint from its address.

        Args:
            value: `unix:///absolute/path` or `tcp://IP:port`, an IPv6 address in brackets; at most
                4096 characters.

        Raises:
            EndpointError: It is neither; says what is wrong and what a right one looks like.
        """
        if isinstance(value, Endpoint):
            return value
        if not isinstance(value, str):
            raise EndpointError(f"a Workload API address is text like {_RIGHT}, not {type(value).__name__}")
        _check_text(value)
        match = _URI.fullmatch(value)
        if match is None or match[1].lower() not in ("unix", "tcp"):
            _refuse_scheme(value, match[1] if match else "")
        scheme, authority, path, beyond = match[1].lower(), match[2], match[3], match[4]
        if beyond:
            _refuse(value, f"it may not have {'a query (?…)' if beyond[0] == '?' else 'a fragment (#…)'}")
        return _parse_unix(value, authority, path) if scheme == "unix" else _parse_tcp(value, authority, path)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Endpoint:
        """Make the endpoint that `SPIFFE_ENDPOINT_SOCKET` names.

        Args:
            environ: `os.environ`, usually.

        Raises:
            EndpointError: It is not set, empty, or malformed.
        """
        value = environ.get(ENDPOINT_VARIABLE)
        if not value:
            state = "not set" if value is None else "empty"
            raise EndpointError(
                f"no Workload API address: {ENDPOINT_VARIABLE} is {state}; set it to where the SPIFFE agent "
                f"listens, for example {_RIGHT}, or pass the address in code"
            )
        try:
            return cls.parse(value)
        except EndpointError as error:
            raise EndpointError(f"{ENDPOINT_VARIABLE}: {error}") from None

    def __str__(self) -> str:
        if self.kind == "unix":
            return f"unix://{_quoted(self.path)}"
        return f"tcp://[{self.host}]:{self.port}" if ":" in self.host else f"tcp://{self.host}:{self.port}"


def _refuse(value: str, why: str) -> NoReturn:
    shown = re.sub("//[^/?#]*@", "//…@", value)  # a password does not belong here, nor in a log
    shown = shown if len(shown) <= 120 else shown[:120] + "…"
    raise EndpointError(f"not a Workload API address: {shown!r}: {why}; expected {_RIGHT}")


def _check_text(value: str) -> None:
    if len(value) > MAX_ADDRESS:
        _refuse(value, f"it has more than {MAX_ADDRESS} characters")
    if value != value.strip():
        _refuse(value, "it begins or ends with white space")
    if bad := _NOT_IN_URI.search(value):
        _refuse(value, f"{bad[0]!r} (at {bad.start()}) has to be percent-encoded in a URI")
    if "%" in value and (bad := re.search("%(?![0-9A-Fa-f]{2})", value)):
        _refuse(value, f"the % at {bad.start()} is not followed by two hexadecimal digits")


def _refuse_scheme(value: str, scheme: str) -> NoReturn:
    if value.startswith("/"):
        _refuse(value, f"the scheme is missing: for the socket at this path write unix://{value}")
    if not scheme or value[len(scheme) :].lstrip(":").isdecimal():  # localhost:8081 is no scheme
        _refuse(value, "the scheme is missing")
    _refuse(value, f"the scheme must be unix or tcp, not {scheme}")


def _parse_unix(value: str, authority: str | None, path: str) -> Endpoint:
    if authority:
        _refuse(value, f"{authority!r} stands where a host would: a path begins with a third /")
    if not path.strip("/"):
        _refuse(value, "the path of the socket is missing")
    if not path.startswith("/"):
        _refuse(value, f"the path {path!r} is relative, it must be absolute")
    return Endpoint("unix", path=_unquoted(path))


def _parse_tcp(value: str, authority: str | None, path: str) -> Endpoint:
    if not authority:
        _refuse(value, "the IP address is missing after tcp://")
    if path:
        _refuse(value, f"it may not have a path ({path!r})")
    if "@" in authority:
        _refuse(value, "it may not have a user name or password")
    host, colon, port = authority.rpartition(":")
    if not colon or "]" in port:
        _refuse(value, "the port is missing")
    _check_port(value, port)
    bracketed = host.startswith("[") and host.endswith("]")
    if ":" in host and not bracketed:
        _refuse(value, "an IPv6 address must stand in brackets: tcp://[::1]:8081")
    if bracketed and ":" not in host:
        _refuse(value, "only an IPv6 address stands in brackets")
    return Endpoint("tcp", host=_ip_of(value, host[1:-1] if bracketed else host), port=int(port))


def _ip_of(value: str, host: str) -> str:
    if not host:
        _refuse(value, "the IP address is missing")
    if "%" in host:
        _refuse(value, f"the IP address {host!r} may not have a zone or be percent-encoded")
    from ipaddress import ip_address

    try:
        return str(ip_address(host))
    except ValueError:
        _refuse(value, f"the host must be an IP address, not {host!r}")


def _check_port(value: str, port: str) -> None:
    if not (re.fullmatch("[0-9]{1,5}", port) and int(port) in _PORTS):
        _refuse(value, f"the port must be 1 to 65535, not {port!r}")


def _check_ip(host: str) -> None:
    written = _ip_of(f"tcp://{host}", host)
    if written != host:
        _refuse(f"tcp://{host}", f"the IP address is written {written}")


def _check_path(path: str) -> None:
    if not path.startswith("/"):
        _refuse(path, "the path of the socket must be absolute")
    if "\0" in path:
        _refuse(path, "the path of the socket may not hold a NUL character")
    size = len(os.fsencode(path))
    if size > MAX_SOCKET_PATH:
        _refuse(
            f"unix://{_quoted(path)}",
            f"the path of the socket has {size} bytes, this system allows {MAX_SOCKET_PATH}; "
            f"a symbolic link makes it shorter",
        )


def _quoted(path: str) -> str:
    if _PLAIN.fullmatch(path):
        return path
    from urllib.parse import quote_from_bytes  # not for every process: few paths need it

    return quote_from_bytes(os.fsencode(path), safe="/:@!$&'()*+,;=~")


def _unquoted(path: str) -> str:
    if "%" not in path:
        return path
    from urllib.parse import unquote_to_bytes

    return os.fsdecode(unquote_to_bytes(path))

"""What `verify` is given: the chain or token to judge, and the bundles to judge it with."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import anyio

from spiffe_client.bundle import BundleSet, JwtBundle, SpiffeBundle, X509Bundle
from spiffe_client.cli._exit import UsageError
from spiffe_client.errors import InvalidIdError, SvidError
from spiffe_client.ids import TrustDomain

if TYPE_CHECKING:
    from io import BufferedReader

__all__ = ["Evidence", "GivenBundles", "read_bundles", "read_evidence"]

#: Larger files are refused unparsed: no chain, token or bundle comes near it.
MAX_FILE_BYTES = 2 << 20
_PIECE = 1 << 16

_COMMAND = "spiffe-client verify"
_TOKEN = re.compile(rb"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]*){2}")
_LOOKS_LIKE_A_TOKEN = re.compile(r"eyJ[A-Za-z0-9_-]*\.")
_DER_SEQUENCE = b"\x30"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is to be judged.

    Attributes:
        content: The file's bytes; of a token without the white space around it.
        kind: What it looks like.
    """

    content: bytes
    kind: Literal["pem", "der", "jwt"]


@dataclass(frozen=True, slots=True)
class GivenBundles:
    """The bundles named on the command line; None where the Workload API is to be asked."""

    x509: BundleSet[X509Bundle] | None = None
    jwt: BundleSet[JwtBundle] | None = None


async def read_evidence(name: str) -> Evidence:
    """Read a file, or standard input for `-`, and see what it is.

    Raises:
        UsageError: The token itself was given in place of a file.
        SvidError: It is neither a chain nor a token, or too large.
        OSError: It cannot be read.
    """
    if _LOOKS_LIKE_A_TOKEN.match(name):
        raise UsageError(
            "every process can see a token on the command line: put it in a file or pipe it in",
            command=_COMMAND,
        )
    content = await _read_input() if name == "-" else _read(name)
    shown = "standard input" if name == "-" else name
    if b"-----BEGIN " in content:
        return Evidence(content, "pem")
    if content.startswith(_DER_SEQUENCE):
        return Evidence(content, "der")
    token = content.strip()
    if _TOKEN.fullmatch(token):
        return Evidence(token, "jwt")
    raise SvidError(
        f"{shown} holds neither PEM nor DER certificates nor a token of three parts ({len(content)} bytes)"
    )


def read_bundles(options: Sequence[str], *, jwt: bool = False) -> GivenBundles:
    """Read the files of `--bundle TRUST-DOMAIN=FILE`, for certificates or for tokens.

    Raises:
        UsageError: An option is not of that form.
        BundleError: A file is no bundle, or a trust domain is there twice.
        OSError: A file cannot be read.
    """
    if not options:
        return GivenBundles()
    named = [_named(option) for option in options]
    if jwt:
        return GivenBundles(
            jwt=BundleSet([JwtBundle.parse_jwks(domain, content) for domain, content in named])
        )
    return GivenBundles(x509=BundleSet([_x509_bundle(domain, content) for domain, content in named]))


def _named(option: str) -> tuple[TrustDomain, bytes]:
    name, equals, file = option.partition("=")
    try:
        domain = TrustDomain.parse(name)
    except InvalidIdError as error:
        raise UsageError(f"--bundle {option!r}: {error}", command=_COMMAND) from error
    if not equals or not file:
        raise UsageError(f"--bundle {option!r} is not TRUST-DOMAIN=FILE", command=_COMMAND)
    return domain, _read(file)


def _x509_bundle(domain: TrustDomain, content: bytes) -> X509Bundle:
    if content.lstrip().startswith(b"{"):
        return SpiffeBundle.parse(domain, content).x509_bundle
    if content.startswith(_DER_SEQUENCE):
        return X509Bundle.parse_der(domain, content)
    return X509Bundle.parse_pem(domain, content)


def _read(name: str) -> bytes:
    try:
        with Path(name).open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except ValueError as error:  # a NUL in it
        raise UsageError(f"{name!r} is no file name: {error}", command=_COMMAND) from error
    return _bounded(content, name)


async def _read_input() -> bytes:
    """Read standard input to its end without blocking the loop, which also looks after Ctrl-C."""
    content = b""
    while len(content) <= MAX_FILE_BYTES:
        with suppress(OSError, ValueError):  # a regular file, which never blocks, cannot be waited for
            await anyio.wait_readable(sys.stdin)
        piece = cast("BufferedReader", sys.stdin.buffer).read1(_PIECE)
        if not piece:
            break
        content += piece
    return _bounded(content, "standard input")


def _bounded(content: bytes, shown: str) -> bytes:
    if len(content) > MAX_FILE_BYTES:
        raise SvidError(f"{shown} is larger than {MAX_FILE_BYTES >> 20} MiB: it is read no further")
    return content

"""What `verify` is given: the chain or token to judge, and the bundles to judge it with."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from spiffe_client.bundle import BundleSet, JwtBundle, SpiffeBundle, X509Bundle
from spiffe_client.bundle._jwks import parse_jwk_set
from spiffe_client.cli._exit import UsageError
from spiffe_client.cli._failure import Failed, Failure
from spiffe_client.cli._lines import without_tokens
from spiffe_client.cli._reading import read_file, read_input, refuse_token
from spiffe_client.errors import BundleError, InvalidIdError, SvidError
from spiffe_client.ids import TrustDomain

__all__ = ["Evidence", "GivenBundles", "read_bundles", "read_evidence"]

_COMMAND = "spiffe-client verify"
_TOKEN = re.compile(rb"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]*){2}")
_DER_SEQUENCE = b"\x30"
#: What a bundle verifies, and in which forms it may be.
_FOR_CHAINS = ("a certificate chain", "PEM or DER certificates, or a SPIFFE bundle document")
_FOR_TOKENS = ("a JWT-SVID", "a JWK Set or a SPIFFE bundle document")

_B = TypeVar("_B")


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
class _BundleFile:
    """What `--bundle` names: whose bundle is in which file."""

    domain: TrustDomain
    name: str
    content: bytes


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
    refuse_token(name, command=_COMMAND)
    content = await read_input() if name == "-" else read_file(name, command=_COMMAND)
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


def read_bundles(options: Sequence[str], *, jwt: bool = False, command: str = _COMMAND) -> GivenBundles:
    """Read the files of `--bundle TRUST-DOMAIN=FILE`, for certificates or for tokens.

    Args:
        options: As they were given; none asks the Workload API.
        jwt: Whether for tokens.
        command: Whose `--help` says how it is meant.

    Raises:
        UsageError: An option is not of that form.
        Failed: A file is no bundle of this kind.
        BundleError: A trust domain is there twice.
        OSError: A file cannot be read.
    """
    if not options:
        return GivenBundles()
    files = [_named(option, command) for option in options]
    if jwt:
        return GivenBundles(jwt=BundleSet([_read(file, _jwt_bundle, _FOR_TOKENS) for file in files]))
    return GivenBundles(x509=BundleSet([_read(file, _x509_bundle, _FOR_CHAINS) for file in files]))


def _named(option: str, command: str) -> _BundleFile:
    name, equals, file = option.partition("=")
    try:
        domain = TrustDomain.parse(name)
    except InvalidIdError as error:
        raise UsageError(f"--bundle {option!r}: {error}", command=command) from error
    if not equals or not file:
        raise UsageError(f"--bundle {option!r} is not TRUST-DOMAIN=FILE", command=command)
    return _BundleFile(domain, file, read_file(file, command=command))


def _read(file: _BundleFile, parse: Callable[[_BundleFile], _B], purpose: tuple[str, str]) -> _B:
    """Read a bundle; one of no use is told with its file and what that should hold."""
    what, forms = purpose
    try:
        return parse(file)
    except BundleError as error:
        message = f"{file.name} is no bundle of {file.domain} to verify {what} with: {error}"
        advice = (
            f"--bundle {file.domain}=FILE wants {forms}; "
            f"`spiffe-client bundles --document --trust-domain {file.domain}` prints the latter"
        )
        raise Failed(Failure(error.code, without_tokens(message), advice)) from error


def _x509_bundle(file: _BundleFile) -> X509Bundle:
    if file.content.lstrip().startswith(b"{"):
        bundle = SpiffeBundle.parse(file.domain, file.content).x509_bundle
        _refuse_other_keys(file, bundle.certificates)
        return bundle
    if file.content.startswith(_DER_SEQUENCE):
        return X509Bundle.parse_der(file.domain, file.content)
    return X509Bundle.parse_pem(file.domain, file.content)


def _jwt_bundle(file: _BundleFile) -> JwtBundle:
    bundle = JwtBundle.parse_jwks(file.domain, file.content)
    _refuse_other_keys(file, bundle.authorities)
    return bundle


def _refuse_other_keys(file: _BundleFile, authorities: Sequence[object]) -> None:
    """Refuse keys that are all for something else; none at all is a bundle that trusts nothing."""
    _, keys = parse_jwk_set(file.content)
    if keys and not authorities:
        raise BundleError("none of its keys is for that")

"""Handing a chain and its key to OpenSSL, which takes them from files only, without such a file.

Python has no way to load a key from memory. So the key goes through something that has a path and
is no file on a disk: anonymous memory on Linux, a pipe on other Unixes. Where there is neither
(Windows), what is written is encrypted under a password that only this process ever knows.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable

from spiffe_client._frames import border
from spiffe_client.errors import IdentityUnavailableError
from spiffe_client.svid import X509Svid

__all__ = ["load_svid"]

#: Where macOS, BSD and Linux give open descriptors a path.
_DESCRIPTORS = "/dev/fd"


# Crash reporters print the variables of every frame that an exception has passed: the key is bound to
# a name as seldom as can be, and `load_svid` is a border.


def _write_into(fd: int, svid: X509Svid) -> None:
    pem = svid.key_pem().reveal() + svid.chain_pem()
    if os.write(fd, pem) != len(pem):
        raise OSError("anonymous memory is full")


def _through_memory(context: ssl.SSLContext, svid: X509Svid) -> None:
    if not hasattr(os, "memfd_create"):
        raise OSError("no memfd on this platform")
    fd = os.memfd_create("svid", os.MFD_CLOEXEC)
    try:
        _write_into(fd, svid)
        context.load_cert_chain(f"/proc/self/fd/{fd}")
    finally:
        os.ftruncate(fd, 0)
        os.close(fd)


def _filled_pipe(content: bytes) -> int:
    """Return the end to read from of a pipe that holds all of this and nothing more."""
    reading, writing = os.pipe()
    try:
        os.set_blocking(writing, False)  # nobody reads yet: too much must fail, not hang
        written = os.write(writing, content)
    finally:
        os.close(writing)
    if written < len(content):
        os.close(reading)
        raise OSError("the SVID does not fit into a pipe")
    return reading


def _through_pipes(context: ssl.SSLContext, svid: X509Svid) -> None:
    if not os.path.isdir(_DESCRIPTORS):  # noqa: PTH112 - pathlib costs a start 1 ms
        raise OSError("descriptors have no path on this platform")
    chain = _filled_pipe(svid.chain_pem())
    try:
        key = _filled_pipe(svid.key_pem().reveal())
        try:
            context.load_cert_chain(f"{_DESCRIPTORS}/{chain}", f"{_DESCRIPTORS}/{key}")
        finally:
            os.close(key)
    finally:
        os.close(chain)


def _through_ciphertext(context: ssl.SSLContext, svid: X509Svid) -> None:
    import secrets
    import tempfile

    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

    password = secrets.token_bytes(32).hex().encode()
    key = svid.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password))
    fd, path = tempfile.mkstemp(prefix="svid-")
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(key + svid.chain_pem())
        context.load_cert_chain(path, password=password)
    finally:
        os.unlink(path)  # noqa: PTH108 - as above


#: In order of preference; each raises an OSError where the platform does not offer it.
_WAYS: tuple[Callable[[ssl.SSLContext, X509Svid], None], ...] = (
    _through_memory,
    _through_pipes,
    _through_ciphertext,
)


@border
def load_svid(context: ssl.SSLContext, svid: X509Svid) -> None:
    """Load an SVID's chain and key into a context; the key touches no disk in the clear.

    Args:
        context: Not in use yet: loading into a context that handshakes crashes the interpreter.
        svid: What to present to peers.

    Raises:
        IdentityUnavailableError: OpenSSL refuses the chain or the key, or this platform leaves no
            way to pass them on.
    """
    obstacles: list[str] = []
    for way in _WAYS:
        try:
            way(context, svid)
        except ssl.SSLError as error:
            raise IdentityUnavailableError(
                f"OpenSSL refuses the certificate or key of {svid.id}: {error.reason or 'unknown reason'}"
            ) from error
        except OSError as error:
            obstacles.append(f"{way.__name__.removeprefix('_')}: {error}")
        else:
            return
    raise IdentityUnavailableError(f"no way to hand the key of {svid.id} to OpenSSL: {'; '.join(obstacles)}")

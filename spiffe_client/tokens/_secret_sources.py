"""Where secrets are read from, anew at each use, so that a rotated one counts at once."""

from __future__ import annotations

import contextlib
import errno
import inspect
import os
import secrets
import stat
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from spiffe_client._frames import async_border, place_of
from spiffe_client._redact import Secret
from spiffe_client.errors import SecretSourceError

__all__ = ["MAX_SECRET_BYTES", "SecretCall", "SecretFile", "SecretVariable", "secret_of"]

#: Longest secret that is read, in bytes.
MAX_SECRET_BYTES: Final = 64 << 10


def secret_of(data: bytes, name: str) -> Secret[str]:
    """Make a secret of what was read.

    Args:
        data: UTF-8; one line end at its end does not count.
        name: Where it was read.

    Raises:
        SecretSourceError: It is empty, too long, or not text.
    """
    if len(data) > MAX_SECRET_BYTES:
        raise SecretSourceError(f"{name}: more than {MAX_SECRET_BYTES} bytes")
    text = None
    with contextlib.suppress(UnicodeDecodeError):  # it would hold the data
        text = data.removesuffix(b"\n").removesuffix(b"\r").decode()
    if text is None:
        raise SecretSourceError(f"{name}: not UTF-8 text")
    if not text:
        raise SecretSourceError(f"{name}: empty")
    return Secret(text)


@dataclass(frozen=True, slots=True)
class SecretFile:
    """A secret in a file, such as one that Kubernetes mounts; at most 64 KiB of UTF-8.

    It is read on the event loop, so it should be on a local disk or in memory.

    Attributes:
        path: Where it is. One line end at its end does not count.
    """

    path: str | os.PathLike[str]

    @property
    def key(self) -> tuple[str, ...]:
        """See `SecretSource.key`.

        Raises:
            SecretSourceError: The path is relative, and there is no working directory.
        """
        # Not normalised: what `..` leads to, a link before it decides.
        path = os.fsdecode(self.path)
        try:
            return ("file", path if os.path.isabs(path) else os.path.join(os.getcwd(), path))  # noqa: PTH117, PTH118, PTH109 - as text
        except OSError as error:
            raise SecretSourceError(f"{self.name}: {error.strerror}") from None

    @property
    def name(self) -> str:
        """See `SecretSource.name`."""
        return f"file {os.fspath(self.path)}"

    @async_border
    async def read(self) -> Secret[str]:
        """See `SecretSource.read`."""
        return secret_of(_read(self.path, self.name), self.name)


def _read(path: str | os.PathLike[str], name: str) -> bytes:
    try:
        # A pipe without a writer would block the event loop, even in open().
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no path"
        how = "; this process may not read it" if _forbidden(error) else ""
        raise SecretSourceError(f"{name}: {reason}{how}") from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise SecretSourceError(f"{name}: not a regular file")
        return os.read(descriptor, MAX_SECRET_BYTES + 1)
    finally:
        os.close(descriptor)


def _forbidden(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM)


@dataclass(frozen=True, slots=True)
class SecretVariable:
    """A secret in an environment variable.

    Attributes:
        variable: Its name.
    """

    variable: str

    @property
    def key(self) -> tuple[str, ...]:
        """See `SecretSource.key`."""
        return ("variable", self.variable)

    @property
    def name(self) -> str:
        """See `SecretSource.name`."""
        return f"environment variable {self.variable}"

    @async_border
    async def read(self) -> Secret[str]:
        """See `SecretSource.read`."""
        value = os.environ.get(self.variable)
        if value is None:
            raise SecretSourceError(f"{self.name}: not set")
        return secret_of(os.fsencode(value), self.name)


@dataclass(frozen=True, slots=True)
class SecretCall:
    """A secret that a function of yours gets, from a secret manager for example.

    Each is a source of its own, also of the same function: make one and keep it, or tokens that are
    exchanged for what it returns are not found again.

    Attributes:
        function: Called on the event loop at each use; a coroutine function, or a plain one that does
            not block.
        name: What to call it in errors and logs.
    """

    function: Callable[[], str | Secret[str] | Awaitable[str | Secret[str]]] = field(repr=False)
    name: str = "a function"
    # Drawn, not counted: a copy in another process would meet a number there that is taken.
    _number: str = field(init=False, repr=False, default_factory=lambda: secrets.token_hex(16))

    @property
    def key(self) -> tuple[str, ...]:
        """See `SecretSource.key`."""
        return ("call", self._number)

    @async_border
    async def read(self) -> Secret[str]:
        """See `SecretSource.read`."""
        value, reason = await self._call()
        if reason is not None:
            # Here, where nothing is being handled: what the function raised may hold the secret.
            raise reason
        if isinstance(value, Secret):
            value = value.reveal()
        if not isinstance(value, str):
            raise SecretSourceError(f"{self.name}: returned {type(value).__name__}, not text")
        return secret_of(value.encode(errors="surrogatepass"), self.name)

    async def _call(self) -> tuple[object, SecretSourceError | None]:
        try:
            value = self.function()
            return (await value if inspect.isawaitable(value) else value), None
        except SecretSourceError as error:
            return None, error
        except Exception as error:  # noqa: BLE001 - border: somebody else's code
            place = place_of(error)
            return None, SecretSourceError(f"{self.name}: {type(error).__name__} in {place}")

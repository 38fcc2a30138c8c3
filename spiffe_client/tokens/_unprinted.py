"""Header values that go out and show nowhere else: not in repr, logs, pickles or rendered locals.

httpx masks `Authorization` in what it prints, and prints `DPoP`, `OAuth-Client-Attestation` and
`Txn-Token` as they are; `Headers.raw`, and the lists that httpcore's frames hold, show all of them.
So each value that carries a secret is set as an `Unprinted`: httpx calls its `encode`, and keeps
the `UnprintedBytes` that this returns through copies, redirects and HTTP/1.1 down to the wire.

Parts and variants of such a value (slices, `strip`, `replace`, `split` …) do not show themselves
either: crash reporters cut what is long before they print it. What cannot be hidden, because it is
ordinary text or bytes that Python itself makes from one: `str(value)`, formatting (`f"{value}"`,
`"%s" % value`), joining by another text (`", ".join([value])`, which is how `httpx.Headers` answers
who asks for a header by name), `json.dumps`, single characters of an iteration, `memoryview` and
`bytes(value)`; and the buffer that h11 and hpack write to the socket.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any, Final

__all__ = ["Unprinted", "UnprintedBytes"]

_SHOWN: Final = "Unprinted(…)"
#: Headers of ours that hpack would write into its log; it hides those it knows to be sensitive.
_HEADERS: Final = frozenset(
    {
        b"authorization",
        b"dpop",
        b"oauth-client-attestation",
        b"oauth-client-attestation-pop",
        b"txn-token",
        b"workload-identity-token",
        b"workload-proof-token",
    }
)


#: What makes text from text; each is overridden where its class has it.
_MAKES_PARTS: Final = [
    "__add__",
    "__getitem__",
    "__mul__",
    "__rmul__",
    "capitalize",
    "casefold",
    "center",
    "expandtabs",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "strip",
    "swapcase",
    "title",
    "translate",
    "upper",
    "zfill",
]


class UnprintedBytes(bytes):
    """Bytes whose `repr` shows nothing, nor do a pickle and what they decode to.

    `str` gives the text: HTTP/2 libraries put bytes of a type they do not know through it.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return _SHOWN

    def __str__(self) -> str:
        return bytes.decode(self, "utf-8")

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> Unprinted:
        """Return the text, which does not show itself either."""
        return Unprinted(bytes.decode(self, encoding, errors))

    def __copy__(self) -> UnprintedBytes:
        return self

    def __deepcopy__(self, memo: object) -> UnprintedBytes:
        return self

    def __reduce_ex__(self, protocol: object) -> tuple[Any, ...]:
        return bytes, (_SHOWN.encode(),)


class Unprinted(str):
    """Text whose `repr` shows nothing, nor do a pickle and what it is encoded to.

    `str` and formatting give the text: who asks a header for its value by name gets it.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return _SHOWN

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> UnprintedBytes:
        """Return the bytes, which do not show themselves either."""
        return UnprintedBytes(str.encode(self, encoding, errors))

    def __copy__(self) -> Unprinted:
        return self

    def __deepcopy__(self, memo: object) -> Unprinted:
        return self

    def __reduce_ex__(self, protocol: object) -> tuple[Any, ...]:
        return str, (_SHOWN,)


def _hidden(made: object) -> object:
    if isinstance(made, tuple | list):
        return type(made)(map(_hidden, made))
    if isinstance(made, str):
        return Unprinted(made)
    return UnprintedBytes(made) if isinstance(made, bytes) else made


def _hiding(method: Callable[..., object]) -> Callable[..., object]:
    @wraps(method)
    def made(*args: Any, **kwargs: Any) -> object:
        return _hidden(method(*args, **kwargs))

    return made


for _base, _class in ((str, Unprinted), (bytes, UnprintedBytes)):
    for _part in _MAKES_PARTS:
        if hasattr(_base, _part):
            setattr(_class, _part, _hiding(getattr(_base, _part)))


def _hide(record: logging.LogRecord) -> bool:
    """Take values of ours out of a record of hpack, which has a name and a value, or a whole block."""
    args = record.args if isinstance(record.args, tuple) else ()
    if args and isinstance(args[0], tuple) and args[0] and args[0][0] in _HEADERS:
        record.args = ((args[0][0], _SHOWN), *args[1:])
    elif args and args[0] in _HEADERS:
        record.args = (args[0], _SHOWN, *args[2:])
    elif str(record.msg).startswith("Encoded header block"):
        record.args = (_SHOWN,) * len(args)
    return True


# HTTP/2's header compression copies what it is given, and logs it with DEBUG. A filter only takes
# away; that is why it may sit on somebody else's logger.
for _name in ("hpack.hpack", "hpack.table"):
    logging.getLogger(_name).addFilter(_hide)

"""What tools return, without what must not reach a model, a log or a trace."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Final, TypeVar, cast

__all__ = ["Scrubber", "scrub_error", "scrubbed"]

_T = TypeVar("_T")

_MASK: Final = "[redacted]"
#: Compact JWS and JWE: base64url of `{"` begins like this.
_JWT: Final = re.compile(r"eyJ[A-Za-z0-9_-]{6,}(?:\.[A-Za-z0-9_-]*){1,4}")
_KEY: Final = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----(?:.*?-----END [A-Z0-9 ]*PRIVATE KEY-----|.*)", re.DOTALL
)
#: Deeper, and more lists and mappings, than there are in any tool's answer; what is beyond is not looked
#: through, so it is not passed on. A few lines of YAML can stand for more than anybody ever reads.
_DEEPEST, _MOST = 64, 1_000_000


class Scrubber:
    """Takes secrets out of text, and out of what lists, tuples, sets and mappings hold.

    Args:
        secrets: Texts of tokens that are in use; whatever looks like a token or a private key goes anyhow.

    Attributes:
        count: How many were taken out.
    """

    __slots__ = ("_left", "_secrets", "count")

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets = sorted(filter(None, secrets), key=len, reverse=True)
        self.count: int = 0
        self._left = _MOST

    def clean(self, value: _T) -> _T:
        """Return the value without secrets; the same object where there are none.

        Values of other types than text, bytes and the containers named above are returned as they are.
        """
        return cast("_T", self._clean(value, 0))

    def text(self, text: str) -> str:
        """Return text without secrets."""
        for secret in self._secrets:
            if secret in text:
                self.count += text.count(secret)
                text = text.replace(secret, _MASK)
        if "eyJ" in text:
            text, found = _JWT.subn(_MASK, text)
            self.count += found
        if "PRIVATE KEY-----" in text:
            text, found = _KEY.subn(_MASK, text)
            self.count += found
        return text

    def _clean(self, value: object, depth: int) -> object:
        if isinstance(value, str):
            clean = self.text(value)
            return value if clean == value else clean
        if isinstance(value, bytes | bytearray):
            text = bytes(value).decode("latin-1")
            clean = self.text(text)
            return value if clean == text else type(value)(clean.encode("latin-1"))
        if not isinstance(value, list | tuple | set | frozenset | Mapping):
            return value
        self._left -= 1
        if depth == _DEEPEST or self._left < 0:
            self.count += 1
            return _MASK
        return self._inside(value, depth + 1)

    def _inside(self, value: object, depth: int) -> object:
        before = self.count
        if isinstance(value, Mapping):
            pairs = {self._clean(k, depth): self._clean(v, depth) for k, v in value.items()}
            return value if self.count == before else pairs
        items = [self._clean(item, depth) for item in cast("Iterable[object]", value)]
        if self.count == before:
            return value
        if isinstance(value, list):
            return items
        if isinstance(value, tuple):
            return tuple.__new__(type(value), items)
        return type(cast("set[object]", value))(items)


#: Types that do not run later, which most tools return.
_SETTLED: Final = frozenset({str, bytes, int, float, bool, type(None), list, tuple, dict, set})


#: Those of them that hold no text.
_PLAIN: Final = frozenset({int, float, bool, type(None)})


def _plain_text(text: str, secrets: Iterable[str]) -> bool:
    """Say at a glance whether there is nothing to look for; a doubt is a no."""
    if "eyJ" in text or "PRIVATE KEY-----" in text:
        return False
    return not any(secret in text for secret in secrets)


def _runs_later(result: object) -> bool:
    return inspect.isawaitable(result) or inspect.isgenerator(result) or inspect.isasyncgen(result)


def scrubbed(result: _T, secrets: Sequence[str]) -> tuple[_T, int]:
    """Return what a tool returned without secrets, and how many were taken out.

    Raises:
        TypeError: It is a coroutine, a generator, or the like.
    """
    if type(result) in _PLAIN or (type(result) is str and _plain_text(cast("str", result), secrets)):
        return result, 0
    if type(result) not in _SETTLED and _runs_later(result):
        if inspect.iscoroutine(result) or inspect.isgenerator(result):
            result.close()
        raise TypeError("a guarded tool returned what would run after its call has ended")
    scrubber = Scrubber(secrets)
    return scrubber.clean(result), scrubber.count


#: What errors of the language say beside their arguments.
_SHOWN: Final = (
    "strerror",
    "filename",
    "filename2",
    "msg",
    "text",
    "name",
    "path",
    "reason",
    "object",
    "value",
)


def scrub_error(error: BaseException, secrets: Iterable[str]) -> tuple[int, bool]:
    """Take secrets out of an exception: its arguments, attributes, notes, causes, contexts and members.

    Returns:
        In how many places there were any, and whether one is left that cannot be taken out.
    """
    scrubber = Scrubber(secrets)
    seen: set[int] = set()
    kept: list[BaseException] = []
    queue: list[BaseException | None] = [error]
    while queue:
        current = queue.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        kept.append(current)
        for name in ("args", *_SHOWN, *getattr(current, "__dict__", ())):
            value = getattr(current, name, None)
            if (clean := scrubber.clean(value)) is not value:
                with suppress(AttributeError, TypeError):  # read-only, so it is not of ours to show either
                    setattr(current, name, clean)
        queue += (current.__cause__, current.__context__)
        queue += current.exceptions if isinstance(current, BaseExceptionGroup) else ()
    return scrubber.count, any(scrubber.text(text) != text for text in map(_said, kept))


def _said(error: BaseException) -> str:
    try:
        return f"{error} {error!r}"
    except Exception:  # noqa: BLE001 - the border to user code: what cannot be shown shows nothing
        return ""

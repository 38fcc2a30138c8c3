"""What tools return, without what must not reach a model, a log or a trace."""

from __future__ import annotations

import inspect
import re
from collections import deque
from collections.abc import Iterable, Mapping, MappingView, Sequence
from contextlib import suppress
from typing import Final, TypeVar, cast

from spiffe_client.agents._parts import copied, parts_of, put

__all__ = ["Scrubber", "scrub_error", "scrubbed", "shows_nothing"]

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


#: What holds nothing.
_PLAIN: Final = frozenset({int, float, complex, bool, type(None)})
_CONTAINERS: Final = (list, tuple, set, frozenset, Mapping, deque, MappingView)


class Scrubber:
    """Takes secrets out of text, and out of what containers and values with declared parts hold.

    The latter are dataclasses, models of pydantic, attrs and msgspec, exceptions, and namespaces. Where there is a secret
    in one it is a copy that is returned, with gaps; where none can be made, a gap.

    Args:
        secrets: Texts of tokens that are in use; whatever looks like a token or a private key goes anyhow.

    Attributes:
        count: How many were taken out.
    """

    __slots__ = ("_left", "_made", "_secrets", "count")

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets = sorted(filter(None, secrets), key=len, reverse=True)
        self.count: int = 0
        self._left = _MOST
        #: Of values with parts: each, and what was made of it. They are kept, so that their ids are theirs.
        self._made: dict[int, tuple[object, object]] | None = None

    def clean(self, value: _T) -> _T:
        """Return the value without secrets; the same object where there are none.

        Values of other types than those named above, and than text and bytes, are returned as they are.
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

    def opaque(self, value: object) -> object:
        """Return what to pass on of a value whose parts cannot be known; here, the value."""
        return value

    def parts(self, value: object) -> dict[str, object] | None:
        """Return what a value is made of, by name; None if that cannot be known."""
        return parts_of(value)

    def _leaf(self, value: str | bytes | bytearray) -> object:
        """Return text or bytes without secrets."""
        text = value if isinstance(value, str) else bytes(value).decode("latin-1")
        clean = self.text(text)
        if clean == text:
            return value
        return clean if isinstance(value, str) else type(value)(clean.encode("latin-1"))

    def _clean(self, value: object, depth: int) -> object:
        if type(value) is str:
            return self.text(value)
        if type(value) in _PLAIN:
            return value
        if isinstance(value, (str, bytes, bytearray)):
            return self._leaf(value)
        if not isinstance(value, _CONTAINERS):
            return self._whole(value, depth)
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
        if isinstance(value, tuple):
            return tuple.__new__(type(value), items)
        if isinstance(value, list | MappingView):
            return items
        return type(cast("set[object]", value))(items)

    def _whole(self, value: object, depth: int) -> object:
        """Return a value with parts as it is, or a copy with gaps."""
        self._made = {} if self._made is None else self._made
        if (made := self._made.get(id(value))) is not None:
            self.count += made[1] is not value  # whoever holds it has to hold the copy
            return made[1]
        if (parts := self.parts(value)) is None:
            return self.opaque(value)
        if not self._shows(value, parts):
            return value
        self._left -= 1
        clone = None if depth == _DEEPEST or self._left < 0 else copied(value, parts)
        if clone is None:
            self.count += 1
            self._made[id(value)] = (value, _MASK)
            return _MASK
        self._made[id(value)] = (value, clone)  # parts may lead back to it
        for name, part in parts.items():
            if (clean := self._clean(part, depth + 1)) is not part:
                put(clone, name, clean)
        return clone

    def _within(self, value: object) -> Iterable[object]:
        """Return what a value leads to; none where that cannot be known, and it is noted if it is not to be passed on."""
        if isinstance(value, Mapping):
            return (*value.keys(), *value.values())
        if isinstance(value, _CONTAINERS):
            return cast("Iterable[object]", value)
        if (parts := self.parts(value)) is not None:
            return parts.values()
        self.count += self.opaque(value) is not value
        return ()

    def _shows(self, value: object, parts: Mapping[str, object]) -> bool:
        """Say whether there is a secret in a value, or in what it leads to; what has none is noted."""
        before, noted = self.count, cast("dict[int, tuple[object, object]]", self._made)
        seen: dict[int, object] = {id(value): value}
        todo = list(parts.values())
        while todo and self.count == before:
            one = todo.pop()
            if type(one) in _PLAIN or id(one) in seen:
                continue
            seen[id(one)] = one
            if (known := noted.get(id(one))) is not None:
                self.count += known[1] is not one
            elif isinstance(one, str | bytes | bytearray):
                self._leaf(one)
            else:
                self._left -= 1
                todo += self._within(one)
            self.count += self._left < 0
        shows, self.count = self.count != before, before
        if not shows:
            noted |= {key: (one, one) for key, one in seen.items() if not isinstance(one, str)}
        return shows


#: Types that do not run later, which most tools return.
_SETTLED: Final = frozenset({str, bytes, int, float, bool, type(None), list, tuple, dict, set})


def shows_nothing(result: object, secrets: Iterable[str]) -> bool:
    """Say at a glance whether there is nothing to look for in what a tool returned; a doubt is a no."""
    if type(result) is not str:
        return type(result) in _PLAIN
    if "eyJ" in result or "PRIVATE KEY-----" in result:
        return False
    for secret in secrets:  # noqa: SIM110 - there is one, and a generator costs more than looking
        if secret in result:
            return False
    return True


def _runs_later(result: object) -> bool:
    return inspect.isawaitable(result) or inspect.isgenerator(result) or inspect.isasyncgen(result)


def scrubbed(result: _T, secrets: Sequence[str]) -> tuple[_T, int]:
    """Return what a tool returned without secrets, and how many were taken out.

    Raises:
        TypeError: It is a coroutine, a generator, or the like.
    """
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


class _ErrorScrubber(Scrubber):
    """Leaves exceptions inside of exceptions to who cleans those themselves, and not copies of them."""

    __slots__ = ("met",)

    def __init__(self, secrets: Iterable[str]) -> None:
        super().__init__(secrets)
        self.met: list[BaseException | None] = []

    def parts(self, value: object) -> dict[str, object] | None:
        if isinstance(value, BaseException):
            self.met.append(value)
            return None
        return super().parts(value)


def scrub_error(error: BaseException, secrets: Iterable[str]) -> tuple[int, bool]:
    """Take secrets out of an exception: its arguments, attributes, notes, causes, contexts and members.

    Returns:
        In how many places there were any, and whether one is left that cannot be taken out.
    """
    scrubber = _ErrorScrubber(secrets)
    seen: set[int] = set()
    kept: list[BaseException] = []
    queue = scrubber.met
    queue.append(error)
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

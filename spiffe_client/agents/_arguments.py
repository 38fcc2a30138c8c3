"""A tool's arguments: bound to its parameters, named in a resource, hashed for whoever checks them again."""

from __future__ import annotations

import binascii
import hashlib
import inspect
import logging
import math
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import msgspec

from spiffe_client.policy._templates import SEGMENT

__all__ = ["Parameters", "ResourcePath", "arguments_digest", "arguments_text"]

#: What may stand for one `{name}`: one segment. Anything else is not looked at twice: `..`, slashes,
#: wildcards, what only looks like a letter, and what is too long to be a name.
_SEGMENT: Final = re.compile(SEGMENT + r"\Z")
_HOLE: Final = re.compile(r"\{([A-Za-z_]\w*)\}\Z")

#: Of an integer that is a name, at most.
_BITS: Final = 256

#: Characters of base64url for 32 bytes, without padding.
_DIGEST: Final = 43
_URLSAFE: Final = bytes.maketrans(b"+/", b"-_")

#: Most likely a slip of whoever wrote it.
_NOWHERE: Final = "a call is denied: its resource %r names {%s}, and there is no argument and no task parameter of that name"

_log = logging.getLogger("spiffe_client")
_encoder = msgspec.json.Encoder(order="deterministic")


def arguments_digest(arguments: Mapping[str, object]) -> str | None:
    """Return base64url of SHA-256 over the arguments as JSON, its members sorted; None if they are not JSON.

    What is the same as JSON has the same digest, such as bytes and their base64: whoever takes the call
    sees no more.

    Args:
        arguments: By name, without what was injected.
    """
    try:
        text = _encoder.encode(arguments)
        # It writes null for what is no number, which is another value.
        if b"null" in text and not _finite(msgspec.to_builtins(arguments)):
            return None
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None
    # As `base64.urlsafe_b64encode`, in one step fewer: there is one for each call.
    return binascii.b2a_base64(hashlib.sha256(text).digest()).translate(_URLSAFE)[:_DIGEST].decode()


def arguments_text(arguments: Mapping[str, object], digest: str) -> str | None:
    """Return arguments as JSON for a person to read; None if they are not those that have this digest.

    Args:
        arguments: As for `arguments_digest`.
        digest: As it returned.
    """
    if not arguments:
        return ""
    return _encoder.encode(arguments).decode() if arguments_digest(arguments) == digest else None


def _finite(value: object) -> bool:
    if isinstance(value, dict):
        return all(map(_finite, value.values()))
    if isinstance(value, list | tuple | set | frozenset):
        return all(map(_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def _segment(value: object) -> str:
    """Return what an argument is in a resource; empty if it can be none."""
    if isinstance(value, str):
        return str.__str__(value)  # what it holds, whatever it would like to look like
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() < _BITS:
        return int.__repr__(value)
    return ""


class ResourcePath:
    """A resource with holes for arguments, such as `tenants/{tenant}/invoices/{invoice_id}`.

    Args:
        text: Segments between slashes; one in braces is an argument of that name, or else the task's
            tenant or parameter.

    Raises:
        ValueError: A segment is neither a name nor a hole.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        parts: list[tuple[str, bool]] = []
        for part in text.split("/") if text else ():
            hole = _HOLE.match(part)
            if hole is None and not _SEGMENT.match(part):
                raise ValueError(
                    f"the resource {text!r} has the segment {part!r}, which is no name and no {{hole}}"
                )
            parts.append((hole[1] if hole else part, hole is not None))
        self._filled_in = "/".join("%s" if is_hole else part for part, is_hole in parts)
        self._names = [part for part, is_hole in parts if is_hole]
        # What fits a hole has no slash, so the whole shows at once whether each value does.
        shape = "/".join(SEGMENT if is_hole else re.escape(part) for part, is_hole in parts)
        self._fits = re.compile(shape + r"\Z").match
        self.holes: frozenset[str] = frozenset(self._names)

    def fill(
        self, arguments: dict[str, object], params: dict[str, str] | MappingProxyType[str, str]
    ) -> str | None:
        """Return the resource that a call is about; None if an argument cannot be part of one.

        Args:
            arguments: Of the call, by name: they go first, so that another tenant's is seen.
            params: Of the task.
        """
        values = [*map((params | arguments).get, self._names)]
        for value in values:
            if type(value) is not str:  # anything else may say that it is, and show another face each time
                return self._filled(values)
        text = self._filled_in % (*values,)
        return text if self._fits(text) else None

    def _filled(self, values: Sequence[object]) -> str | None:
        """Fill it with what are not texts alone: numbers may be names, and what is nothing is told."""
        texts = [*map(_segment, values)]
        for name, value, text in zip(self._names, values, texts, strict=True):
            if not _SEGMENT.match(text):
                if value is None:
                    _log.warning(_NOWHERE, self.text, name)
                return None
        return self._filled_in % (*texts,)


class Parameters:
    """What a tool takes, as its caller sees it: without what is injected.

    Args:
        function: The tool.
        hidden: Names of parameters that are injected.
    """

    def __init__(self, function: Callable[..., Any], hidden: frozenset[str]) -> None:
        whole = inspect.signature(function)
        shown = [p for name, p in whole.parameters.items() if name not in hidden]
        self.signature = whole.replace(parameters=shown)
        simple = {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}
        self._plain = all(p.kind in simple for p in shown)
        self._defaults = {p.name: p.default for p in shown if p.default is not p.empty}
        self._names = frozenset(p.name for p in shown)
        self._rest = next((p.name for p in shown if p.kind is p.VAR_KEYWORD), None)
        self._required = self._names - self._defaults.keys()

    def bind(self, args: tuple[object, ...], kwargs: dict[str, object]) -> dict[str, object]:
        """Return all arguments by name, defaults and those that only `**` takes included.

        Raises:
            TypeError: One is missing, or too many, or is none that callers give.
        """
        if self._plain and not args:
            names = kwargs.keys()
            if names == self._names:
                return kwargs.copy()
            if self._required <= names <= self._names:
                return {**self._defaults, **kwargs}
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        if self._rest is None:
            return dict(bound.arguments)
        rest = bound.arguments.pop(self._rest)
        if rest.keys().isdisjoint(bound.arguments):
            return {**rest, **bound.arguments}
        return {**rest, **bound.arguments, self._rest: rest}

"""What an action may touch: resources as paths, and templates that say which.

The names in a resource may come out of a model, so both sides are closed: a segment is a short word of ASCII,
never `.` or `..`, and nothing is decoded, folded or normalised on the way. What is written otherwise matches
nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from spiffe_client._values import dataclass
from spiffe_client.errors import ResourceError

__all__ = ["Resource", "ResourceTemplate"]

#: Longest resource and longest template, in characters.
MAX_RESOURCE: Final = 1024
#: One segment of a resource, as a regular expression.
SEGMENT: Final = r"(?!\.\.?(?:/|\Z))[A-Za-z0-9._~@+=:-]{1,128}"

_SEGMENT: Final = re.compile(SEGMENT + r"\Z")
_RESOURCE: Final = re.compile(rf"{SEGMENT}(?:/{SEGMENT})*\Z")
_PARAMETER: Final = re.compile(r"\{([a-z_][a-z0-9_]{0,63})\}\Z")
_ONE, _REST = "*", "**"


def _refuse(kind: str, text: object, why: str) -> ResourceError:
    shown = repr(text)
    return ResourceError(f"not a {kind}: {shown if len(shown) <= 120 else shown[:120] + '…'}: {why}")


def _checked(text: object, kind: str) -> str:
    if not isinstance(text, str):
        raise _refuse(kind, text, f"expected str, got {type(text).__name__}")
    if len(text) > MAX_RESOURCE:  # before any work is put into it
        raise _refuse(kind, text, f"it has more than {MAX_RESOURCE} characters")
    return text


@dataclass(frozen=True, slots=True)
class Resource:
    """One thing that a call touches, such as `tenants/acme/invoices/7`.

    Attributes:
        text: Segments of 1 to 128 characters of `A-Z a-z 0-9 . _ ~ @ + = : -`, divided by slashes; none of
            them is `.` or `..`. At most 1024 characters.
    """

    text: str

    def __post_init__(self) -> None:
        if not _RESOURCE.match(_checked(self.text, "resource")):
            raise _refuse(
                "resource", self.text, "a segment is 1 to 128 of A-Z a-z 0-9 . _ ~ @ + = : - and not . or .."
            )

    @classmethod
    def parse(cls, value: Resource | str) -> Resource:
        """Make a resource from its text.

        Raises:
            ResourceError: It is malformed.
        """
        return value if isinstance(value, Resource) else cls(value)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class ResourceTemplate:
    """Which resources: literal segments, `{parameter}`, `*` for any one segment, `**` at the end for the rest.

    Attributes:
        text: Such as `tenants/{tenant}/invoices/*`; each of these stands for a whole segment, `**` for one or
            more.
    """

    text: str

    def __post_init__(self) -> None:
        segments = _checked(self.text, "resource template").split("/")
        for number, segment in enumerate(segments, start=1):
            if segment == _REST and number < len(segments):
                raise _refuse("resource template", self.text, "'**' stands only at the end")
            if not (segment in (_ONE, _REST) or _PARAMETER.match(segment) or _SEGMENT.match(segment)):
                raise _refuse(
                    "resource template",
                    self.text,
                    f"segment {number} is no literal, {{parameter}}, '*' or '**': {segment[:80]!r}",
                )

    @classmethod
    def parse(cls, value: ResourceTemplate | str) -> ResourceTemplate:
        """Make a template from its text.

        Raises:
            ResourceError: It is malformed; the message says which segment.
        """
        return value if isinstance(value, ResourceTemplate) else cls(value)

    @property
    def segments(self) -> tuple[str, ...]:
        """Its segments."""
        return tuple(self.text.split("/"))

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of its parameters, in their order, as often as they stand there."""
        return tuple(m[1] for m in map(_PARAMETER.match, self.segments) if m)

    def fill(self, params: Mapping[str, str]) -> ResourceTemplate:
        """Return the template with values in place of its parameters.

        Args:
            params: A value for each; what is in there besides does not matter.

        Raises:
            ResourceError: One is missing, or its value is not exactly one segment of a resource.
        """
        return ResourceTemplate("/".join(self._filled(segment, params) for segment in self.segments))

    def _filled(self, segment: str, params: Mapping[str, str]) -> str:
        parameter = _PARAMETER.match(segment)
        if parameter is None:
            return segment
        name = parameter[1]
        value = params.get(name)
        if not isinstance(value, str):
            raise ResourceError(f"{self.text}: the parameter {name!r} is not given")
        if not _SEGMENT.match(value):
            raise _refuse("segment of a resource", value, f"it is the parameter {name!r} of {self.text}")
        return value

    def matches(self, resource: Resource | str) -> bool:
        """Say whether a resource is one of those; text that is no resource is none.

        Raises:
            ResourceError: There are parameters in it, so it names no resources yet.
        """
        if self.parameters:
            raise ResourceError(f"{self.text}: the parameter {self.parameters[0]!r} has no value yet")
        text = resource.text if isinstance(resource, Resource) else resource
        if not isinstance(text, str) or len(text) > MAX_RESOURCE:
            return False
        return self.shape().match(text) is not None

    def shape(self) -> re.Pattern[str]:
        """Return the regular expression of the resources with any values of parameters, each a group.

        It matches whole resources that are well-formed and nothing else; how long they are is the caller's
        to look at.
        """
        return re.compile("/".join(map(_expression, self.segments)) + r"\Z")

    def covers(self, other: ResourceTemplate) -> bool:
        """Say whether every resource of another is one of these, whatever the values of parameters are."""
        mine, theirs = self.segments, other.segments
        for number, segment in enumerate(mine):
            if segment == _REST:
                return len(theirs) > number
            if len(theirs) <= number or theirs[number] == _REST:
                return False
            if segment not in (_ONE, theirs[number]):
                return False
        return len(mine) == len(theirs)

    def __str__(self) -> str:
        return self.text


def _expression(segment: str) -> str:
    if segment == _ONE:
        return SEGMENT
    if segment == _REST:
        return rf"{SEGMENT}(?:/{SEGMENT})*"
    return f"({SEGMENT})" if _PARAMETER.match(segment) else re.escape(segment)

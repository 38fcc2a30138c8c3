"""Reading DER (X.690 §8, §10, §11) from front to back, and nothing that is merely BER.

Only what certificates are made of. One encoding for each value: a longer length than needed, an
encoded default or a stray byte is an error, so two readers cannot see two things in the same bytes.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

__all__ = [
    "BIT_STRING",
    "BOOLEAN",
    "INTEGER",
    "OCTET_STRING",
    "OID",
    "SEQUENCE",
    "SET",
    "Der",
    "DerError",
    "dotted",
]

BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING, OID = 0x01, 0x02, 0x03, 0x04, 0x06
UTC_TIME, GENERALIZED_TIME = 0x17, 0x18
SEQUENCE, SET = 0x30, 0x31

_LONG_FORM = 0x80
_HIGH_TAG = 0x1F
_MAX_OID_BYTES = 63
#: A serial number has at most 20 (RFC 5280 §4.1.2.2); nothing else that is read here comes near.
_MAX_INTEGER_BYTES = 64
_MAX_ARC = 0xFFFFFFFF


class DerError(Exception):
    """It is not DER, or not what was expected; each room turns this into an error of its own."""


def _element_bounds(der: bytes, start: int) -> tuple[int, int] | None:
    """Return where the contents of the element at `start` begin and end; None if it is not whole, or not DER."""
    body = start + 2
    if body > len(der) or der[start] & _HIGH_TAG == _HIGH_TAG:
        return None
    length = der[start + 1]
    if length >= _LONG_FORM:
        width = length - _LONG_FORM
        octets = der[body : body + width]
        # DER wants the shortest form; 0 octets would be BER's indefinite length, and nothing that
        # is read here is as large as four octets can say.
        if not 1 <= width <= 3 or len(octets) < width or octets[0] == 0:
            return None
        body, length = body + width, int.from_bytes(octets, "big")
        if length < _LONG_FORM:
            return None
    end = body + length
    return (body, end) if end <= len(der) else None


class Der:
    """Elements one after the other, of which the next one can be taken.

    Args:
        octets: They and nothing else.
    """

    __slots__ = ("_at", "_octets")

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self._at = 0

    @property
    def tag(self) -> int | None:
        """The tag of the next element, None if there is none."""
        return self._octets[self._at] if self._at < len(self._octets) else None

    def element(self, *tags: int) -> bytes:
        """Take the next element, header and contents.

        Args:
            *tags: What it may be; none allows all.

        Raises:
            DerError: It is something else, or not there.
        """
        start = self._at
        self._at = self._bounds(tags)[1]
        return self._octets[start : self._at]

    def contents(self, *tags: int) -> bytes:
        """Take the next element without its header; as `element`."""
        start, self._at = self._bounds(tags)
        return self._octets[start : self._at]

    def _bounds(self, tags: tuple[int, ...]) -> tuple[int, int]:
        octets, at = self._octets, self._at
        body = at + 2
        if body <= len(octets) and (octets[at] in tags or not tags) and octets[at] & _HIGH_TAG != _HIGH_TAG:
            length = octets[at + 1]
            end = body + length
            if length < _LONG_FORM and end <= len(octets):  # nearly always
                return body, end
        return self._long_bounds(tags)

    def _long_bounds(self, tags: tuple[int, ...]) -> tuple[int, int]:
        tag = self.tag
        if tag is None or (tags and tag not in tags):
            raise DerError(
                f"tag {_shown(tag)} at byte {self._at} where {' or '.join(map(_shown, tags))} belongs"
            )
        bounds = _element_bounds(self._octets, self._at)
        if bounds is None:
            raise DerError(f"no whole element at byte {self._at}")
        return bounds

    def inside(self, *tags: int) -> Der:
        """Take the next element, to read what is in it; as `element`."""
        return Der(self.contents(*tags))

    def optional(self, tag: int) -> bytes | None:
        """Take the contents of the next element if it has this tag."""
        return self.contents(tag) if self.tag == tag else None

    def end(self) -> None:
        """Be done.

        Raises:
            DerError: There is more.
        """
        if self.tag is not None:
            raise DerError(f"tag {_shown(self.tag)} at byte {self._at}, where nothing more belongs")

    def flag(self) -> bool:
        """Take a BOOLEAN that is False where it is left out.

        Raises:
            DerError: It is something else, or False and encoded all the same (X.690 §11.5).
        """
        octets = self.optional(BOOLEAN)
        if octets not in (None, b"\xff"):
            raise DerError("a BOOLEAN that is not TRUE, which is the only one to be written down")
        return octets is not None

    def integer(self) -> int:
        """Take an INTEGER.

        Raises:
            DerError: It is something else, longer than it needs to be, or than 64 bytes.
        """
        octets = self.contents(INTEGER)
        if len(octets) > _MAX_INTEGER_BYTES:
            raise DerError(f"an INTEGER of {len(octets)} bytes")
        if not octets or (
            len(octets) > 1 and octets[0] in (0, 0xFF) and (octets[0] ^ octets[1]) < _LONG_FORM
        ):
            raise DerError("an INTEGER that is empty or longer than it needs to be")
        return int.from_bytes(octets, "big", signed=True)

    def bits(self, tag: int = BIT_STRING) -> tuple[bytes, int]:
        """Take a BIT STRING.

        Args:
            tag: What it is marked as.

        Returns:
            Its octets, and how many bits of the last one are none of its, 0 to 7.

        Raises:
            DerError: It is something else, or these bits are not all zero.
        """
        return _bits(self.contents(tag))

    def oid(self) -> str:
        """Take an OBJECT IDENTIFIER.

        Returns:
            Dotted.

        Raises:
            DerError: It is something else, or malformed.
        """
        return dotted(self.contents(OID))

    def time(self) -> datetime:
        """Take a UTCTime or GeneralizedTime as RFC 5280 §4.1.2.5 wants them: with seconds, in Z.

        Raises:
            DerError: It is something else, or no time there ever was.
        """
        short = self.tag == UTC_TIME
        octets = self.contents(UTC_TIME, GENERALIZED_TIME)
        digits = octets[:-1]
        if len(digits) != (12 if short else 14) or not digits.isdigit() or octets[-1:] != b"Z":
            raise DerError("a time that is not to the second and in Z")
        text = digits.decode()
        if short:  # RFC 5280 §4.1.2.5.1: 1950 to 2049
            text = ("19" if text >= "5" else "20") + text
        parts = [int(text[:4]), *(int(text[i : i + 2]) for i in range(4, 14, 2))]
        try:
            return datetime(*parts, tzinfo=UTC)  # type: ignore[misc, arg-type]  # six numbers, counted above
        except ValueError as error:
            raise DerError(f"no time: {text}") from error


def _shown(tag: int | None) -> str:
    return "none" if tag is None else f"{tag:#04x}"


def _bits(octets: bytes) -> tuple[bytes, int]:
    unused = octets[0] if octets else 8
    last = octets[-1] if len(octets) > 1 else 0
    if unused > 7 or (unused and len(octets) == 1) or last & ((1 << unused) - 1):
        raise DerError("a BIT STRING whose unused bits are not what they must be")
    return octets[1:], unused


@lru_cache(maxsize=256)
def dotted(octets: bytes) -> str:
    """Return the contents of an OBJECT IDENTIFIER, dotted.

    Raises:
        DerError: They are malformed.
    """
    # Beyond these sizes the field's parsers give up, too; and text made of it stays short.
    if not octets or len(octets) > _MAX_OID_BYTES or octets[-1] >= _LONG_FORM:
        raise DerError("an OBJECT IDENTIFIER that is empty, cut short or too long")
    arcs: list[int] = []
    arc, fresh = 0, True
    for octet in octets:
        if fresh and octet == _LONG_FORM:
            raise DerError("an OBJECT IDENTIFIER that is longer than it needs to be")
        arc = arc << 7 | octet & 0x7F
        fresh = octet < _LONG_FORM
        if arc > _MAX_ARC:
            raise DerError("an OBJECT IDENTIFIER with an arc of more than 32 bits")
        if fresh:
            arcs.append(arc)
            arc = 0
    first = min(arcs[0] // 40, 2)
    return ".".join(map(str, (first, arcs[0] - 40 * first, *arcs[1:])))

"""What comes in at an endpoint and what goes out, apart from how HTTP carries it."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from spiffe_client.dev.token_broker._document import parse_document
from spiffe_client.ids import SpiffeId

__all__ = ["Call", "Certificate", "Form", "RefusedError", "Reply", "thumbprint"]

#: Parameters that may come more than once (RFC 8693 §2.1, RFC 8707 §2).
_REPEATABLE = frozenset({"audience", "resource"})
_MAX_PARAMETERS = 200
_NOT_ALLOWED = re.compile(r"[^\x20-\x21\x23-\x5b\x5d-\x7e]")


def thumbprint(data: bytes) -> str:
    """Return base64url of SHA-256, which is how OAuth names keys, certificates and tokens."""
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


class RefusedError(Exception):
    """A request is answered with an error.

    Args:
        error: The code (RFC 6749 §5.2 and the registry it opened).
        description: For the developer of the client; no token is ever in it.
        status: The HTTP status.
        headers: What goes along, such as `WWW-Authenticate`.
    """

    def __init__(
        self, error: str, description: str, *, status: int = 400, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(error)
        self.error = error
        # Of what else is there a proxy, or a log, could make something (RFC 6749 §5.2).
        self.description = _NOT_ALLOWED.sub("?", description)
        self.status = status
        self.headers: dict[str, str] = dict(headers or {})


@dataclass(frozen=True, slots=True)
class Certificate:
    """The certificate that a client showed in TLS, verified.

    Attributes:
        der: As it came.
        id: Whose X509-SVID it is.
    """

    der: bytes = field(repr=False)
    id: SpiffeId

    @property
    def thumbprint(self) -> str:
        """Its `x5t#S256` (RFC 8705 §3.1)."""
        return thumbprint(self.der)


class Form:
    """The parameters of a request.

    Parameters without a value count as left out, and none but `audience` and `resource` may come
    twice (RFC 6749 §3.1).

    Args:
        pairs: Names and values in their order.

    Raises:
        RefusedError: A parameter comes twice.
    """

    __slots__ = ("_values",)

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            if not value:
                continue
            if name in self._values and name not in _REPEATABLE:
                raise RefusedError("invalid_request", f"the parameter {name[:40]} is given twice")
            self._values.setdefault(name, []).append(value)

    @classmethod
    def parse(cls, body: bytes, content_type: str) -> Form:
        """Read a request body.

        Raises:
            RefusedError: It is no form in UTF-8, has too many parameters, or one of them twice.
        """
        if content_type.partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
            raise RefusedError("invalid_request", "the body must be application/x-www-form-urlencoded")
        try:
            pairs = parse_qsl(
                body.decode(), keep_blank_values=True, errors="strict", max_num_fields=_MAX_PARAMETERS
            )
        except ValueError as error:  # also UnicodeDecodeError
            raise RefusedError("invalid_request", "the body is malformed") from error
        return cls(pairs)

    def one(self, name: str) -> str | None:
        """Return a parameter, None if it is left out."""
        values = self._values.get(name)
        return values[0] if values else None

    def need(self, name: str) -> str:
        """Return a parameter that must be there.

        Raises:
            RefusedError: It is left out.
        """
        value = self.one(name)
        if value is None:
            raise RefusedError("invalid_request", f"the parameter {name} is missing")
        return value

    def all(self, name: str) -> tuple[str, ...]:
        """Return all values of a parameter, in their order."""
        return tuple(self._values.get(name, ()))

    def words(self, name: str) -> frozenset[str]:
        """Return a parameter that is a list of words, such as `scope` (RFC 6749 §3.3)."""
        return frozenset((self.one(name) or "").split())

    def json_object(self, name: str) -> dict[str, object] | None:
        """Return a parameter that is a JSON object, None if it is left out.

        Raises:
            RefusedError: It is something else.
        """
        text = self.one(name)
        if text is None:
            return None
        value = parse_document(text.encode())
        if value is None:
            raise RefusedError("invalid_request", f"the parameter {name} is not a JSON object")
        return value


@dataclass(frozen=True, slots=True)
class Call:
    """One request.

    Attributes:
        url: Where it was sent to: the listener's own origin, whatever its `Host` says, and the path.
        form: Its parameters.
        headers: Its headers, names in lower case, in their order.
        certificate: What the client showed in TLS, if it did.
        method: The HTTP method.
    """

    url: str
    form: Form = field(repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    certificate: Certificate | None = None
    method: str = "POST"

    def header(self, name: str) -> str | None:
        """Return a header, None if it is not there.

        Raises:
            RefusedError: It is there twice.
        """
        values = [value for key, value in self.headers if key == name]
        if len(values) > 1:
            raise RefusedError("invalid_request", f"there is more than one header {name}")
        return values[0] if values else None


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer.

    Attributes:
        body: A JSON object, or None for an empty body.
        status: The HTTP status.
        headers: What goes along.
    """

    body: Mapping[str, object] | None = field(default=None, repr=False)
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)

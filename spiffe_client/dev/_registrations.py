"""The registrations of a development trust domain, from code and from TOML files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from spiffe_client.dev._caller import Caller
from spiffe_client.dev._registration import Registration
from spiffe_client.dev._registration_file import MAX_FILE_BYTES, read_entries
from spiffe_client.errors import RegistrationError
from spiffe_client.ids import SpiffeId, TrustDomain

__all__ = ["Registrations"]


@dataclass(frozen=True, slots=True)
class Registrations:
    """All registrations of a trust domain: immutable, changed by making the next one.

    As a file:

        [[entry]]
        id = "spiffe://dev.example/orders"
        selectors = { uid = 1000, path = "/usr/bin/python3" }    # all of them must match
        ttl = 60
        hint = "internal"
        dns_names = ["orders.internal"]
        federates_with = ["partner.example"]                     # left out: with all there are

        [[entry]]
        id = "spiffe://dev.example/tester"
        any = true                                               # whoever opens the socket

    Attributes:
        entries: In the order given; a caller's first match is its default identity.
    """

    entries: tuple[Registration, ...] = ()

    def __post_init__(self) -> None:
        seen: dict[Registration, Registration] = {}
        for entry in self.entries:
            if entry in seen:
                raise RegistrationError(f"{entry} is registered twice alike: {seen[entry]}")
            seen[entry] = entry

    @classmethod
    def parse(cls, text: bytes, *, name: str = "registrations") -> Registrations:
        """Read registrations from the text of a TOML file.

        Args:
            text: UTF-8, at most 1 MiB.
            name: What to call the file in messages.

        Raises:
            RegistrationError: It is malformed; the message names the line, or the entry and field.
        """
        return cls(read_entries(text, name))

    @classmethod
    def load(cls, path: str | Path) -> Registrations:
        """Read registrations from a TOML file.

        Raises:
            RegistrationError: It cannot be read or is malformed.
        """
        try:
            with Path(path).open("rb") as file:
                text = file.read(MAX_FILE_BYTES + 1)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            why = getattr(error, "strerror", None) or error
            raise RegistrationError(f"{path}: cannot be read: {why}") from error
        return cls.parse(text, name=str(path))

    def __iter__(self) -> Iterator[Registration]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def add(self, entry: Registration) -> Registrations:
        """Return these and one more.

        Raises:
            RegistrationError: The same is there already.
        """
        return replace(self, entries=(*self.entries, entry))

    def without(self, spiffe_id: SpiffeId) -> Registrations:
        """Return these but for the registrations of one identity.

        Raises:
            RegistrationError: There is none of it.
        """
        left = tuple(e for e in self.entries if e.id != spiffe_id)
        if len(left) == len(self.entries):
            raise RegistrationError(f"{spiffe_id} is not registered")
        return replace(self, entries=left)

    def matching(self, caller: Caller) -> tuple[Registration, ...]:
        """Return what this caller is entitled to, perhaps nothing."""
        return tuple(e for e in self.entries if e.selectors.match(caller))

    def of(self, spiffe_id: SpiffeId) -> tuple[Registration, ...]:
        """Return the registrations of one identity, perhaps none."""
        return tuple(e for e in self.entries if e.id == spiffe_id)

    def require(self, trust_domain: TrustDomain) -> Registrations:
        """Return these if all are of this trust domain.

        Raises:
            RegistrationError: One is of another.
        """
        for entry in self.entries:
            if entry.id.trust_domain != trust_domain:
                raise RegistrationError(f"{entry} is not of the trust domain {trust_domain}")
        return self

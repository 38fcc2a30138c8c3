"""Which of several issued identities is meant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from spiffe_client.errors import NoIdentityIssuedError, SourceError, SpiffeError
from spiffe_client.ids import SpiffeId

__all__ = ["choose"]


class _Svid(Protocol):
    @property
    def id(self) -> SpiffeId: ...
    @property
    def hint(self) -> str: ...


_S = TypeVar("_S", bound=_Svid)


def choose(svids: Sequence[_S], picker: Callable[[Sequence[_S]], _S] | None, hint: str | None) -> _S:
    """Return the identity to use.

    Args:
        svids: What is issued, in the issuer's order; at least one.
        picker: The user's choice; None takes the first, which the issuer means as the default
            (Workload API §5.2).
        hint: Only identities with this hint count, None for all.

    Raises:
        NoIdentityIssuedError: None has the hint.
        SourceError: The picker failed, or returned something that was not offered.
    """
    meant = svids if hint is None else tuple(s for s in svids if s.hint == hint)
    if not meant:
        there = ", ".join(f"{s.id} (hint {s.hint!r})" for s in svids)
        raise NoIdentityIssuedError(f"no identity with the hint {hint!r} is issued, only {there}")
    if picker is None:
        return meant[0]
    try:
        picked = picker(meant)
    except SpiffeError:
        raise
    except Exception as error:  # the border to code that is not ours
        raise SourceError(f"the picker failed with {type(error).__name__}") from error
    if not any(picked is s for s in meant):
        raise SourceError("the picker returned something else than one of the identities it was given")
    return picked

"""What is granted of what was asked: by the rules, and never more than there was before."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from spiffe_client.dev.token_broker import _names as names
from spiffe_client.dev.token_broker._document import parse_document
from spiffe_client.dev.token_broker._messages import Form, RefusedError
from spiffe_client.dev.token_broker._rules import Client

__all__ = ["Ceiling", "Granted", "decide"]

_MAX_PURPOSE = 500


@dataclass(frozen=True, slots=True)
class Ceiling:
    """What a token already allows, so that what is made from it can only allow less.

    Attributes:
        scope: Its scopes.
        details: Its authorization details.
        targets: For whom it is.
        purpose: What for.
    """

    scope: frozenset[str]
    details: Sequence[Mapping[str, object]]
    targets: tuple[str, ...]
    purpose: str

    @classmethod
    def of(cls, claims: Mapping[str, object]) -> Ceiling:
        """Read it from the claims of a token."""
        details, audience, purpose = (claims.get(n) for n in ("authorization_details", "aud", "purpose"))
        return cls(
            frozenset(str(claims.get("scope", "")).split()),
            [d for d in details if isinstance(d, Mapping)] if isinstance(details, list) else [],
            (audience,)
            if isinstance(audience, str)
            else tuple(audience if isinstance(audience, list) else ()),
            purpose if isinstance(purpose, str) else "",
        )


@dataclass(frozen=True, slots=True)
class Granted:
    """What is granted.

    Attributes:
        scope: Scopes.
        details: Authorization details (RFC 9396 §7).
        targets: Audiences and resources.
        purpose: What for, as the client says; empty if it does not.
    """

    scope: frozenset[str]
    details: Sequence[Mapping[str, object]]
    targets: tuple[str, ...]
    purpose: str

    @property
    def claims(self) -> dict[str, object]:
        """The claims that say it (RFC 9068 §2.2, RFC 9396 §9.1)."""
        claims: dict[str, object] = {"aud": self.targets[0] if len(self.targets) == 1 else list(self.targets)}
        if self.scope:
            claims["scope"] = " ".join(sorted(self.scope))
        if self.details:
            claims["authorization_details"] = list(self.details)
        if self.purpose:
            claims["purpose"] = self.purpose
        return claims


def decide(
    form: Form, rules: Sequence[Client], always: Sequence[str], ceiling: Ceiling | None = None
) -> Granted:
    """Decide what to grant.

    Args:
        form: What was asked for.
        rules: The clients on whose authority this is; what one of them may have is allowed.
        always: For whom every client may have tokens: the token broker itself first.
        ceiling: What the subject token allows, if that limits it.

    Raises:
        RefusedError: Nothing of what was asked for may be had, or more than `ceiling`.
    """
    return Granted(
        scope=_scope(form, rules, ceiling),
        details=_details(form, rules, ceiling),
        targets=_targets(form, rules, always, ceiling),
        purpose=_purpose(form) or (ceiling.purpose if ceiling else ""),
    )


def _scope(form: Form, rules: Sequence[Client], ceiling: Ceiling | None) -> frozenset[str]:
    asked = form.words("scope")
    if ceiling is not None:
        if asked - ceiling.scope:
            raise RefusedError("invalid_scope", "the scope is wider than that of the subject token")
        return asked or ceiling.scope
    if not asked:
        return frozenset().union(*(rule.scopes for rule in rules)) - {"*"}
    granted = frozenset(s for s in asked if any(rule.may_have_scope(s) for rule in rules))
    if not granted:
        raise RefusedError("invalid_scope", "nothing of this scope may be had by this client")
    return granted


def _targets(
    form: Form, rules: Sequence[Client], always: Sequence[str], ceiling: Ceiling | None
) -> tuple[str, ...]:
    resources = form.all("resource")
    for resource in resources:
        if not _is_resource(resource):
            raise RefusedError("invalid_target", "a resource must be an absolute URI without fragment")
    asked = tuple(dict.fromkeys((*resources, *form.all("audience"))))
    for target in asked:
        if target not in always and not any(rule.may_have_target(target) for rule in rules):
            raise RefusedError(
                "invalid_target", "this client may not have tokens for this resource or audience"
            )
    return asked or (ceiling.targets if ceiling else ()) or (_default_target(rules, always[0]),)


def _is_resource(text: str) -> bool:
    try:
        return bool(urlsplit(text).scheme) and "#" not in text
    except ValueError:
        return False


def _default_target(rules: Iterable[Client], issuer: str) -> str:
    named = frozenset().union(*(rule.audiences for rule in rules)) - {"*"}
    if len(named) > 1:
        raise RefusedError("invalid_target", "say for which resource or audience; this client has several")
    return next(iter(named), issuer)


def _purpose(form: Form) -> str:
    purpose = form.one("purpose") or ""
    if len(purpose) > _MAX_PURPOSE or not purpose.isprintable():
        raise RefusedError(
            "invalid_request", f"the purpose must be printable, at most {_MAX_PURPOSE} characters"
        )
    return purpose


def _details(form: Form, rules: Sequence[Client], ceiling: Ceiling | None) -> list[Mapping[str, object]]:
    text = form.one("authorization_details")
    if text is None:
        return []
    wrapped = parse_document(b'{"details":%s}' % text.encode())
    asked = None if wrapped is None or len(wrapped) != 1 else wrapped["details"]
    if not isinstance(asked, list) or not asked:
        raise _bad_details("they must be a JSON array of objects")
    for detail in asked:
        if not isinstance(detail, dict) or not any(
            rule.may_have_detail(detail.get("type")) for rule in rules
        ):
            raise _bad_details("their type is missing, unknown, or not for this client")
        if ceiling is not None and not _permits(ceiling.details, detail):
            raise _bad_details("they allow more than the subject token")
    return asked


def _bad_details(why: str) -> RefusedError:
    return RefusedError("invalid_authorization_details", f"the authorization details: {why}")


def _permits(held: Sequence[Mapping[str, object]], asked: Mapping[str, object]) -> bool:
    """Whether what a token says allows a detail: one that binds it to a single call takes away and gives nothing."""
    binds = asked.get("type") == names.AGENT_CALL
    if binds and not any(one.get("type") == names.AGENT_CALL for one in held):
        return True
    return any(_covers(one, asked) for one in held)


def _covers(held: Mapping[str, object], asked: Mapping[str, object]) -> bool:
    """Whether one allows all that the other does: lists may shrink, all else must be equal."""
    if held.keys() != asked.keys():
        return False
    return all(_within(held[name], asked[name]) for name in held)


def _within(held: object, asked: object) -> bool:
    if isinstance(held, list) and isinstance(asked, list):
        return bool(asked) and all(item in held for item in asked)
    # As JSON: to Python, true is 1.
    return json.dumps(held, sort_keys=True) == json.dumps(asked, sort_keys=True)

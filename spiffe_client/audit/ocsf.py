"""Events as the Open Cybersecurity Schema Framework has them, for a SIEM."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from spiffe_client.audit import _facts as f
from spiffe_client.audit._events import Event
from spiffe_client.audit._record import Fact, Record, moment_of

__all__ = ["to_ocsf"]

#: The version of the schema that this follows; 1.9 has the object `ai_agent`.
_VERSION: Final = "1.9.0-dev"
_OTHER: Final = 99
#: Class, category and their names (OCSF: API Activity, Authentication, Base Event).
_API: Final = (6003, 6, "API Activity")
_AUTHENTICATION: Final = (3002, 3, "Authentication")
_BASE: Final = (0, 0, "Base Event")
_CLASSES: Final[Mapping[str, tuple[int, int, str]]] = {
    "call": _API,
    "task": _API,
    "anomaly": _API,
    "token": _AUTHENTICATION,
    "svid": _AUTHENTICATION,
    "credential": _AUTHENTICATION,
    "delegation": _AUTHENTICATION,
    "approval": _AUTHENTICATION,
}
_SEVERITIES: Final = ((50, 5), (40, 4), (30, 3))
#: Outcomes of calls and tasks that are no failure.
_GOOD: Final = ("ok", "finished")
#: Facts that have a place of their own: everywhere, and in a class.
_PLACED: Final = frozenset({f.DECISION, f.REASON, f.POLICY, f.DURATION_MS, f.TASK, f.CALL})
_PLACED_IN: Final[Mapping[int, frozenset[str]]] = {
    _API[0]: _PLACED | {f.ACTION, f.RESOURCE, f.TENANT, f.AUDIENCE, f.WORKLOAD, f.AGENT, f.TRACE_ID},
    _AUTHENTICATION[0]: _PLACED | {f.WORKLOAD, f.AUDIENCE},
    _BASE[0]: _PLACED,
}


def to_ocsf(what: Record | Event, *, at: datetime | None = None) -> dict[str, object]:
    """Return an event as an OCSF event: calls as API Activity, credentials as Authentication.

    What OCSF has no place for is under `unmapped`.

    Args:
        what: A record of an audit trail, or an event.
        at: When an event happened, aware; a record knows.

    Raises:
        ValueError: An event without `at`, or a record whose time is none.
    """
    if isinstance(what, Record):
        name, facts, when, number = what.event, what.facts, moment_of(what.at), what.seq
    else:
        name, facts, when, number = what.name, dict(what.attributes), at, None
    if when is None:
        raise ValueError(f"{name} without a time: to_ocsf() needs at= for an event")
    class_uid, category_uid, class_name = _CLASSES.get(name.partition(".")[0], _BASE)
    event: dict[str, object] = {
        "activity_id": _OTHER,
        "activity_name": name,
        "category_uid": category_uid,
        "class_uid": class_uid,
        "class_name": class_name,
        "type_uid": class_uid * 100 + _OTHER,
        "time": int(when.timestamp() * 1000),
        "severity_id": next((severity for level, severity in _SEVERITIES if what.level >= level), 1),
        "message": what.message,
        "metadata": _metadata(name, facts, number),
        **_verdict(facts),
        **(_api(facts) if class_uid == _API[0] else _credentials(facts) if class_uid else {}),
        "unmapped": {key: value for key, value in facts.items() if key not in _PLACED_IN[class_uid]},
    }
    return event


def _metadata(name: str, facts: Mapping[str, Fact], number: int | None) -> dict[str, object]:
    metadata: dict[str, object] = {
        "version": _VERSION,
        "product": {"name": "spiffe-client", "vendor_name": "spiffe-client"},
        "event_code": name,
        "profiles": ["security_control"] if f.DECISION in facts else [],
    }
    places = {"correlation_uid": facts.get(f.TASK), "uid": facts.get(f.CALL), "sequence": number}
    return metadata | {key: value for key, value in places.items() if value not in (None, "")}


def _verdict(facts: Mapping[str, Fact]) -> dict[str, object]:
    verdict: dict[str, object] = {}
    denied = facts.get(f.DECISION) == f.DENY
    if f.DECISION in facts:
        verdict |= {"action_id": 2 if denied else 1, "action": "Denied" if denied else "Allowed"}
        verdict |= {"disposition_id": 2 if denied else 1, "disposition": "Blocked" if denied else "Allowed"}
    if facts.get(f.POLICY):
        verdict["policy"] = {"name": facts[f.POLICY]}
    failed = denied or facts.get(f.OUTCOME, "ok") not in _GOOD or "error" in facts
    verdict |= {"status_id": 2 if failed else 1, "status": "Failure" if failed else "Success"}
    if facts.get(f.REASON):
        verdict["status_code"] = facts[f.REASON]
    took = facts.get(f.DURATION_MS)
    if isinstance(took, int | float):
        verdict["duration"] = int(took)
    return verdict


def _actor(facts: Mapping[str, Fact]) -> dict[str, object]:
    who = facts.get(f.WORKLOAD) or facts.get(f.AGENT) or "unknown"
    return {"uid": who, "name": who, "type_id": _OTHER, "type": "Workload"}


def _api(facts: Mapping[str, Fact]) -> dict[str, object]:
    api: dict[str, object] = {"operation": facts.get(f.ACTION) or "unknown"}
    if facts.get(f.AUDIENCE):
        api["service"] = {"name": facts[f.AUDIENCE]}
    event: dict[str, object] = {"api": api, "actor": {"user": _actor(facts)}}
    event["src_endpoint"] = {"uid": _actor(facts)["uid"], "type_id": _OTHER, "type": "Workload"}
    if facts.get(f.AGENT):
        event["ai_agent"] = {"uid": facts[f.AGENT], "instance_uid": facts.get(f.TASK, "")}
    if facts.get(f.RESOURCE):
        tenant = facts.get(f.TENANT)
        event["resources"] = [{"name": facts[f.RESOURCE], **({"namespace": tenant} if tenant else {})}]
    if facts.get(f.TRACE_ID):
        event["trace"] = {"uid": facts[f.TRACE_ID]}
    return event


def _credentials(facts: Mapping[str, Fact]) -> dict[str, object]:
    service = facts.get(f.AUDIENCE) or facts.get("issuer")
    event: dict[str, object] = {"user": _actor(facts), "actor": {"user": _actor(facts)}}
    return {**event, "service": {"name": service}} if service else event

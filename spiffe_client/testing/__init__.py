"""For tests of agents and of adapters: a contract suite, a clock that a test moves, a hunt for secrets.

`AdapterContract` is a pytest class: who connects an agent framework subclasses it, says how the
framework runs a script, and gets every check that `spiffe_client`'s own adapters pass. It needs
pytest and the extra `dev`; nothing else here does.

| what | modules |
|---|---|
| the suite | `_contract` of `_checks_calls`, `_checks_credentials`, `_checks_people`; `_adapter` is what it asks for |
| its world | `_scene`, `_toolbox`: a trust domain, a token broker, a service, an agent, its tools |
| of use elsewhere | `_leaks`, `_manual_clock` |
"""

from __future__ import annotations

from spiffe_client._lazy import load_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spiffe_client.testing._contract import AdapterContract
    from spiffe_client.testing._leaks import LeakHunt
    from spiffe_client.testing._manual_clock import ManualClock, settle
    from spiffe_client.testing._play import Play, Reply, ToolCall

__all__ = ["AdapterContract", "LeakHunt", "ManualClock", "Play", "Reply", "ToolCall", "settle"]

_HOMES = {
    "AdapterContract": "spiffe_client.testing._contract",
    "LeakHunt": "spiffe_client.testing._leaks",
    "ManualClock": "spiffe_client.testing._manual_clock",
    "Play": "spiffe_client.testing._play",
    "Reply": "spiffe_client.testing._play",
    "ToolCall": "spiffe_client.testing._play",
    "settle": "spiffe_client.testing._manual_clock",
}


def __getattr__(name: str) -> object:
    return load_name(__name__, _HOMES, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

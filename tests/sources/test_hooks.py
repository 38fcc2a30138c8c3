"""Listening keeps nobody alive and leaves nothing behind."""

import gc

import pytest

from spiffe_client.sources._hooks import Hooks


class Listener:
    def __init__(self) -> None:
        self.heard = []

    def hear(self, what: str) -> None:
        self.heard.append(what)


def test_living_listeners_are_called_in_order() -> None:
    """Who was added first is called first."""
    hooks, one, two = Hooks(), Listener(), Listener()
    hooks.add(one.hear)
    hooks.add(two.hear)

    assert [one.hear, two.hear] == hooks.living()


def test_no_subscriber_leak() -> None:
    """Ten thousand listeners that came and went leave nothing, without any event in between."""
    hooks, stays = Hooks(), Listener()
    hooks.add(stays.hear)
    for _ in range(10_000):
        hooks.add(Listener().hear)
    gc.collect()

    assert 1 == len(hooks)
    assert [stays.hear] == hooks.living()


@pytest.mark.parametrize("thing", [lambda: None, print, Listener, None])
def test_only_bound_methods(thing: object) -> None:
    """A lambda would be forgotten at once or never: it is refused."""
    with pytest.raises(TypeError, match="bound method"):
        Hooks().add(thing)

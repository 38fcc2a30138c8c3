"""Proxies are chosen as httpx chooses them."""

from __future__ import annotations

import httpx
import pytest
from httpx._utils import get_environment_proxies

from spiffe_client.http._proxies import take_proxies

NAMES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"HTTPS_PROXY": "http://proxy.test:3128"},
        {"https_proxy": "proxy.test:3128"},  # without a scheme
        {"HTTP_PROXY": "http://a.test", "HTTPS_PROXY": "https://b.test", "ALL_PROXY": "http://c.test"},
        {"ALL_PROXY": "http://user:password@c.test:8080"},
        {"ALL_PROXY": "http://c.test", "NO_PROXY": "example.com, .sub.example ,"},
        {"ALL_PROXY": "http://c.test", "NO_PROXY": "127.0.0.1,10.0.0.0/8,::1,fe80::/10"},
        {"ALL_PROXY": "http://c.test", "NO_PROXY": "localhost,LOCALHOST"},
        {"ALL_PROXY": "http://c.test", "NO_PROXY": "https://direct.test,http://10.0.0.1"},
        {"ALL_PROXY": "http://c.test", "NO_PROXY": "example.com,*"},  # no proxy at all
        {"NO_PROXY": "example.com"},
    ],
    ids=str,
)
def test_environment_is_read_as_httpx_reads_it(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Same patterns, same order, same proxies."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    ours = take_proxies({})

    expected = get_environment_proxies()
    assert list(expected) == list(ours)
    assert [v and httpx.Proxy(v).url for v in expected.values()] == [v and v.url for v in ours.values()]


class TestArguments:
    def test_trust_env_off(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """`trust_env=False` does not look at the environment, and stays in the arguments."""
        monkeypatch.setenv("HTTPS_PROXY", "http://proxy.test")
        options = {"trust_env": False}

        assert {} == take_proxies(options)
        assert {"trust_env": False} == options

    @pytest.mark.parametrize(
        "proxy", ["http://p.test:1", httpx.URL("http://p.test:1"), httpx.Proxy("http://p.test:1")]
    )
    def test_an_argument_comes_before_the_environment(
        self, proxy: object, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """`proxy=` is for all URLs, in each of the forms httpx takes, and is moved out."""
        monkeypatch.setenv("HTTPS_PROXY", "http://other.test")
        monkeypatch.setenv("NO_PROXY", "example.com")
        options = {"proxy": proxy}

        table = take_proxies(options)

        assert ["all://"] == list(table)
        assert httpx.URL("http://p.test:1") == table["all://"].url
        assert {} == options

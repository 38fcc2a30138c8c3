"""Nonces belong to the server that gave them, and asking twice for the same is the end."""

from __future__ import annotations

import threading

import pytest

from spiffe_client.errors import TokenRequestError
from spiffe_client.tokens._nonces import Nonces
from spiffe_client.tokens._origin import Origin, is_loopback, origin_of

BROKER = "https://tokens.prod.example/token"
ORDERS = "https://orders.prod.example/v1/orders"
ASKED = "use_dpop_nonce"


class TestOrigin:
    @pytest.mark.parametrize(
        ("url", "origin"),
        [
            ("https://orders.prod.example", "https://orders.prod.example"),
            ("HTTPS://Orders.PROD.example:443/v1?q=1#f", "https://orders.prod.example"),
            ("https://orders.prod.example:8443/", "https://orders.prod.example:8443"),
            ("https://user:secret@orders.prod.example/", "https://orders.prod.example"),
            ("https://orders.prod.example@evil.example/", "https://evil.example"),
            ("https://[2001:DB8::1]:8443/", "https://[2001:db8::1]:8443"),
            ("http://127.0.0.1:80", "http://127.0.0.1"),
            ("http://127.0.0.1:443", "http://127.0.0.1:443"),
            ("https://orders.prod.example./", "https://orders.prod.example."),
            ("https://xn--bcher-kva.example/", "https://xn--bcher-kva.example"),
        ],
    )
    def test_scheme_host_and_port(self, url: str, origin: str) -> None:
        """RFC 6454 §4, §6.2; nothing else of a URL belongs to it."""
        assert origin == str(origin_of(url))

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "orders",
            "spiffe://prod.example/orders",
            "ftp://orders.prod.example",
            "https:///path",
            "https://",
            "https://orders.prod.example:99999",
            "https://orders.prod.example:x",
            "https://[::1",
            "https://evil.example\\@orders.prod.example/",  # browsers read another host than RFC 3986
            "https://orders.prod.example\n.evil.example/",
            " https://orders.prod.example",
            "https://orders.prod.example /",
            "https://bücher.example/",
            "https://orders%2eprod.example/",
            "https://[fe80::1%25eth0]/",
        ],
    )
    def test_what_has_none(self, url: str) -> None:
        """Where parsers disagree there is none: that is how tokens get to the wrong host."""
        with pytest.raises(TokenRequestError) as refused:
            origin_of(url)

        assert len(url) < 9 or url not in str(refused.value)

    @pytest.mark.parametrize(
        ("host", "loopback"),
        [
            ("localhost", True),
            ("127.0.0.1", True),
            ("127.8.9.10", True),
            ("::1", True),
            ("localhost.evil.example", False),
            ("127.0.0.1.evil.example", False),
            ("0.0.0.0", False),
            ("10.0.0.1", False),
            ("localhost.", False),
        ],
    )
    def test_loopback(self, host: str, loopback: bool) -> None:
        """Only what no resolver can turn into another machine."""
        assert loopback is is_loopback(host)


class TestNonces:
    def test_each_server_has_its_own(self) -> None:
        """RFC 9449 §9: the token broker's nonce is not a resource server's."""
        nonces = Nonces()
        nonces.seen(BROKER, {"dpop-nonce": "of-the-broker"})
        nonces.seen(ORDERS, {"dpop-nonce": "of-orders"})

        assert "of-the-broker" == nonces.of("https://tokens.prod.example:443/revoke")
        assert "of-orders" == nonces.of(origin_of(ORDERS))
        assert None is nonces.of("https://orders.prod.example:8443/")

    def test_the_newest_counts(self) -> None:
        """RFC 9449 §8.2: also one that came with a success."""
        nonces = Nonces()
        for nonce in ("one", "two", "two"):
            assert nonce == nonces.seen(ORDERS, {"dpop-nonce": nonce})

        assert "two" == nonces.of(ORDERS)

    @pytest.mark.parametrize("value", ["", "a b", 'a"b', "a\\b", "a, b", "é", "a\r\nx: y", "n" * 1025])
    def test_attack_what_is_no_nonce_is_left_aside(self, value: str) -> None:
        """RFC 9449 §8.1; and an answer cannot make us carry its text of any size about."""
        nonces = Nonces()
        nonces.seen(ORDERS, {"dpop-nonce": "good"})

        assert None is nonces.seen(ORDERS, {"dpop-nonce": value})
        assert "good" == nonces.of(ORDERS)

    def test_bounded(self) -> None:
        """Who was heard of the longest ago is forgotten first."""
        nonces = Nonces(capacity=2)
        for host, nonce in [("a", "1"), ("b", "1"), ("a", "2"), ("c", "1")]:
            nonces.seen(f"https://{host}.example/", {"dpop-nonce": nonce})

        assert 2 == len(nonces)
        assert ["2", None, "1"] == [nonces.of(f"https://{host}.example/") for host in "abc"]

    def test_from_many_threads(self) -> None:
        """None is lost count of, none raises."""
        nonces = Nonces(capacity=8)

        def hear(number: int) -> None:
            for step in range(500):
                nonces.seen(Origin("https", f"h{(number + step) % 16}", 443), {"dpop-nonce": str(step)})

        threads = [threading.Thread(target=hear, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert 8 == len(nonces)


class TestRetry:
    def test_once_with_a_new_one(self) -> None:
        """RFC 9449 §8, §9: the server asks, and says with what."""
        nonces = Nonces()

        assert "n1" == nonces.retry(ORDERS, error=ASKED, headers={"dpop-nonce": "n1"}, sent=None)
        assert "n2" == nonces.retry(ORDERS, error=ASKED, headers={"dpop-nonce": "n2"}, sent="n1")
        assert "n2" == nonces.of(ORDERS)

    @pytest.mark.parametrize(
        ("error", "headers", "sent"),
        [
            (ASKED, {"dpop-nonce": "n1"}, "n1"),  # what was sent already
            (ASKED, {}, None),
            (ASKED, {}, "n1"),
            (ASKED, {"dpop-nonce": "a b"}, None),
            ("invalid_token", {"dpop-nonce": "n1"}, None),
            (None, {"dpop-nonce": "n1"}, None),
        ],
    )
    def test_attack_no_loop(self, error: str | None, headers: dict[str, str], sent: str | None) -> None:
        """A server that asks again for what it got, or for nothing, cannot keep us busy."""
        assert None is Nonces().retry(ORDERS, error=error, headers=headers, sent=sent)

    def test_another_error_brings_a_nonce_all_the_same(self) -> None:
        """RFC 9449 §8.2: it is for the next request."""
        nonces = Nonces()
        nonces.retry(ORDERS, error="invalid_token", headers={"dpop-nonce": "next"}, sent=None)

        assert "next" == nonces.of(ORDERS)

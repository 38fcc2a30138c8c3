"""SPIFFE IDs and trust domains follow the grammar of SPIFFE-ID §2 to the byte."""

from __future__ import annotations

import pickle
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiffe_client.errors import InvalidIdError
from spiffe_client.ids import SpiffeId, TrustDomain

IN_TRUST_DOMAIN = set(string.ascii_letters + string.digits + "._-")
IN_SEGMENT = set(string.ascii_letters + string.digits + "._-")


class TestTrustDomain:
    @pytest.mark.parametrize("byte", range(256))
    def test_every_byte(self, byte: int) -> None:
        """SPIFFE-ID §2.1: letters, digits, dot, dash, underscore, and nothing else."""
        char = chr(byte)
        if char in IN_TRUST_DOMAIN:
            assert f"a{char.lower()}b" == TrustDomain(f"a{char}b").name
        else:
            with pytest.raises(InvalidIdError):
                TrustDomain(f"a{char}b")

    @pytest.mark.parametrize("byte", range(256))
    def test_every_byte_inside_an_id(self, byte: int) -> None:
        """SPIFFE-ID §2.1: the same set holds for the authority of an ID; '/' ends it."""
        char = chr(byte)
        if char in IN_TRUST_DOMAIN:
            assert f"a{char.lower()}b" == SpiffeId.parse(f"spiffe://a{char}b/x").trust_domain.name
        elif char == "/":
            assert "/b/x" == SpiffeId.parse(f"spiffe://a{char}b/x").path
        else:
            with pytest.raises(InvalidIdError):
                SpiffeId.parse(f"spiffe://a{char}b/x")

    def test_at_most_255_bytes(self) -> None:
        """SPIFFE-ID §2.1: 255 bytes are a trust domain, 256 are not."""
        assert 255 == len(TrustDomain("a" * 255).name)
        with pytest.raises(InvalidIdError, match="more than 255 bytes"):
            TrustDomain("a" * 256)

    def test_canonical_form_is_lower_case(self) -> None:
        """SPIFFE-ID §2.4: trust domains compare case-insensitively, we keep the lower case."""
        assert TrustDomain("prod.example") == TrustDomain("PROD.Example")
        assert "prod.example" == str(TrustDomain("PROD.Example"))

    def test_kelvin_sign_is_not_k(self) -> None:
        """A Unicode letter that lower-cases into ASCII is refused, not folded."""
        with pytest.raises(InvalidIdError):
            TrustDomain("ban\u212a.example")

    def test_ipv4_looking_names_are_plain_names(self) -> None:
        """SPIFFE-ID §2.1: an IPv4 address is a valid name; IPv6 is not."""
        assert "10.0.0.1" == TrustDomain("10.0.0.1").name
        with pytest.raises(InvalidIdError):
            SpiffeId.parse("spiffe://[::1]/x")

    def test_parse_takes_names_ids_and_itself(self) -> None:
        """All the ways in which users have a trust domain at hand."""
        td = TrustDomain("a.test")
        assert td is TrustDomain.parse(td)
        assert td == TrustDomain.parse("a.test")
        assert td == TrustDomain.parse("spiffe://a.test")
        assert td == TrustDomain.parse(SpiffeId.parse("spiffe://a.test/x"))

    def test_own_id_has_no_path(self) -> None:
        """SPIFFE-ID §2.2: a trust domain's own ID has an empty path."""
        assert "spiffe://a.test" == str(TrustDomain("a.test").id)

    @pytest.mark.parametrize("wrong", [None, 7, b"a.test", ""])
    def test_other_types_are_typed_errors(self, wrong: object) -> None:
        """Never an AttributeError from inside."""
        with pytest.raises(InvalidIdError):
            TrustDomain(wrong)  # type: ignore[arg-type]

    def test_order(self) -> None:
        """Sorted by name; not comparable with strings."""
        assert [TrustDomain("a"), TrustDomain("b")] == sorted([TrustDomain("b"), TrustDomain("a")])
        with pytest.raises(TypeError):
            TrustDomain("a") < "b"  # type: ignore[operator]


class TestSpiffeId:
    @pytest.mark.parametrize("byte", range(256))
    def test_every_byte_in_a_segment(self, byte: int) -> None:
        """SPIFFE-ID §2.2: a path segment holds letters, digits, dot, dash, underscore."""
        char = chr(byte)
        text = f"spiffe://a.test/x{char}y"
        if char in IN_SEGMENT or char == "/":
            assert text == str(SpiffeId.parse(text))
        else:
            with pytest.raises(InvalidIdError):
                SpiffeId.parse(text)

    @pytest.mark.parametrize(
        "wrong",
        [
            "",
            "spiffe:",
            "spiffe:/",
            "spiffe://",
            "spiffe:///x",  # no trust domain
            "http://a.test/x",
            "://a.test/x",
            "a.test/x",
            "spiffe://a.test/",  # trailing slash
            "spiffe://a.test/x/",
            "spiffe://a.test//x",  # empty segment
            "spiffe://a.test/./x",
            "spiffe://a.test/../x",
            "spiffe://a.test/x/..",
            "spiffe://a.test/x?q=1",
            "spiffe://a.test?q=1",
            "spiffe://a.test/x#f",
            "spiffe://a.test#f",
            "spiffe://user@a.test/x",
            "spiffe://a.test:443/x",
            "spiffe://a%2etest/x",
            "spiffe://a.test/x%2fy",
            " spiffe://a.test/x",
            "spiffe://a.test/x ",
            "spiffe://a.test/x\n",
            "spiffe://ä.test/x",
        ],
    )
    def test_malformed(self, wrong: str) -> None:
        """SPIFFE-ID §2: everything outside the grammar is refused."""
        with pytest.raises(InvalidIdError):
            SpiffeId.parse(wrong)

    @pytest.mark.parametrize("dots", ["...", ".a", "a.", "..a", "-", "_"])
    def test_dots_that_are_no_traversal(self, dots: str) -> None:
        """SPIFFE-ID §2.2: only the segments '.' and '..' are special."""
        assert f"/{dots}" == SpiffeId.parse(f"spiffe://a.test/{dots}").path

    def test_scheme_and_trust_domain_in_any_case(self) -> None:
        """SPIFFE-ID §2.4: scheme and trust domain fold, the path does not."""
        assert "spiffe://a.test/Orders" == str(SpiffeId.parse("SPIFFE://A.Test/Orders"))
        assert SpiffeId.parse("spiffe://a.test/orders") != SpiffeId.parse("spiffe://a.test/Orders")

    def test_up_to_2048_bytes(self) -> None:
        """SPIFFE-ID §2.3: 2048 bytes are accepted, one more is not, however it is made."""
        longest = "spiffe://a.test/" + "x" * (2048 - 16)
        assert longest == str(SpiffeId.parse(longest))
        with pytest.raises(InvalidIdError, match="more than 2048 bytes"):
            SpiffeId.parse(longest + "x")
        with pytest.raises(InvalidIdError, match="more than 2048 bytes"):
            SpiffeId(TrustDomain("a.test"), "/" + "x" * 2048)

    def test_the_message_says_where_and_is_bounded(self) -> None:
        """A log line is enough to act on, and a hostile input cannot fill the log."""
        with pytest.raises(InvalidIdError, match=r"may not hold ':' \(at 6\)"):
            SpiffeId.parse("spiffe://a.test:443/x")
        with pytest.raises(InvalidIdError) as e:
            SpiffeId.parse("spiffe://" + "%" * 100_000)
        assert 300 > len(str(e.value))

    def test_constructor_checks_too(self) -> None:
        """There is no way around the grammar."""
        with pytest.raises(InvalidIdError, match="must begin with '/'"):
            SpiffeId(TrustDomain("a.test"), "x")
        with pytest.raises(InvalidIdError, match=r"use SpiffeId\.parse"):
            SpiffeId("a.test", "/x")  # type: ignore[arg-type]

    @pytest.mark.parametrize("wrong", [None, 7, b"spiffe://a.test/x"])
    def test_other_types_are_typed_errors(self, wrong: object) -> None:
        """Never an AttributeError from inside."""
        with pytest.raises(InvalidIdError, match="expected str"):
            SpiffeId.parse(wrong)  # type: ignore[arg-type]

    def test_value(self) -> None:
        """Frozen, hashable, ordered, picklable."""
        a, b = SpiffeId.parse("spiffe://a.test/a"), SpiffeId.parse("spiffe://a.test/b")
        assert a is SpiffeId.parse(a)
        assert [a, b] == sorted([b, a])
        assert 1 == len({a, SpiffeId.parse(str(a))})
        assert a == pickle.loads(pickle.dumps(a))
        with pytest.raises(TypeError):
            a < "b"  # type: ignore[operator]
        with pytest.raises(AttributeError):
            a.path = "/c"  # type: ignore[misc]

    @given(st.text())
    def test_any_text(self, text: str) -> None:
        """Any text is an ID or an InvalidIdError."""
        for candidate in (text, f"spiffe://{text}", f"spiffe://a.test/{text}"):
            try:
                parsed = SpiffeId.parse(candidate)
            except InvalidIdError:
                continue
            assert parsed == SpiffeId.parse(str(parsed))

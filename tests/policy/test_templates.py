"""A template names the resources that it says, and whatever a model writes names no others."""

from __future__ import annotations

import pytest

from spiffe_client import ResourceError
from spiffe_client.errors import PolicyError
from spiffe_client.policy import Resource, ResourceTemplate

#: Names that somebody else chose, for one segment: none of them is one.
HOSTILE = {
    "parent": "..", "self": ".", "empty": "", "slash": "a/b", "leading slash": "/a", "escaped dots": "%2e%2e",
    "escaped slash": "a%2fb", "wildcard": "*", "rest": "**", "part wildcard": "inv-*", "parameter": "{tenant}",
    "backslash": "a\\b", "nul": "a\x00", "newline": "a\n", "space": "a b", "tab": "a\t", "query": "a?b", "fragment": "a#b",
    "full-width dot": "\uff0e\uff0e", "dot leader": "\u2024\u2024", "fraction slash": "a\u2044b", "cyrillic a": "\u0430cme",
    "kelvin": "\u212a", "zero width": "ac\u200bme", "right to left": "\u202eacme", "combining": "a\u0301",
    "arabic digit": "\u0661", "overlong": "a" * 129, "comma": "a,b", "semicolon": "a;b", "quote": "a'b", "surrogate": "\ud800",
}  # fmt: skip
hostile = pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)


class TestResource:
    @pytest.mark.parametrize("text", ["a", "tenants/acme/invoices/7", "a.b/..a/...", "A-Z_~@+=:/x", "a/" * 64 + "a", "a" * 128])
    def test_a_path_of_short_words(self, text: str) -> None:
        """It is what was written, and parsing it again changes nothing."""
        resource = Resource.parse(text)
        assert (text, resource) == (str(resource), Resource.parse(resource))

    @hostile
    def test_other_names_are_refused(self, name: str) -> None:
        """Alone, at the beginning, in between and at the end; nothing is decoded or folded."""
        for text in (name, f"{name}/a", f"a/{name}/b", f"a/{name}"):
            if text in ("a/b", "a/a/b", "a/b/a", "a/a/b/b"):  # a slash between good segments
                continue
            if name == "a/b":
                Resource.parse(text)
                continue
            with pytest.raises(ResourceError, match="not a resource"):
                Resource.parse(text)

    def test_an_overlong_one(self) -> None:
        """It is refused by its length, and not shown whole."""
        with pytest.raises(ResourceError, match="more than 1024") as e:
            Resource.parse("a/" * 512 + "ab")
        assert len(str(e.value)) < 250

    def test_no_text(self) -> None:
        """Types are looked at, too."""
        with pytest.raises(ResourceError, match="expected str, got int"):
            Resource.parse(7)  # type: ignore[arg-type]

    def test_kind_of_error(self) -> None:
        """It can be caught as what it is."""
        assert issubclass(ResourceError, PolicyError) and issubclass(ResourceError, ValueError)


class TestTemplate:
    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("", "segment 1"),
            ("a//b", "segment 2"),
            ("/a", "segment 1"),
            ("a/", "segment 2"),
            ("a/**/b", "only at the end"),
            ("a/inv-*", "segment 2"),
            ("a/{}", "segment 2"),
            ("a/{Tenant}", "segment 2"),
            ("a/x{tenant}", "segment 2"),
            ("a/{tenant}x", "segment 2"),
            ("a/***", "segment 2"),
            ("a/..", "segment 2"),
            ("a/{tenant}\n", "segment 2"),
            ("a/*\n", "segment 2"),
            ("a/" * 600, "more than 1024"),
        ],
        ids=range(15),
    )
    def test_malformed(self, text: str, why: str) -> None:
        """The error says which segment."""
        with pytest.raises(ResourceError, match=why):
            ResourceTemplate.parse(text)

    def test_parsed_again(self) -> None:
        """Nothing changes."""
        template = ResourceTemplate.parse("a/{b}/{c}/*")
        assert ResourceTemplate.parse(template) is template
        assert (("b", "c"), "a/{b}/{c}/*") == (template.parameters, str(template))

    @pytest.mark.parametrize(
        ("text", "those", "not_those"),
        [
            ("a/b", ["a/b"], ["a", "a/b/c", "A/b", "a/bb", "xa/b", "a/b/"]),
            ("a/*", ["a/b", "a/..b"], ["a", "a/", "a/b/c", "a/.", "a/.."]),
            ("a/**", ["a/b", "a/b/c", "a/b/c/d"], ["a", "a/", "a/b//c", "a/b/..", "a/../b", "b/c"]),
            ("**", ["a", "a/b"], ["", "/a", ".", ".."]),
            ("a.c/*", ["a.c/x"], ["abc/x"]),
            ("*/x", ["a/x"], ["x", "a/b/x"]),
        ],
    )
    def test_what_matches(self, text: str, those: list[str], not_those: list[str]) -> None:
        """Whole segments, in their order, no more and no less."""
        template = ResourceTemplate.parse(text)
        assert those == [r for r in those if template.matches(r)]
        assert [] == [r for r in not_those if template.matches(r)]

    @hostile
    def test_no_wildcard_takes_other_names(self, name: str) -> None:
        """What is no segment is not one for `*` and `**` either."""
        assert not ResourceTemplate("t/*").matches(f"t/{name}")
        assert name == "a/b" or not ResourceTemplate("t/**").matches(f"t/{name}")

    def test_overlong_and_odd_things_match_nothing(self) -> None:
        """Also where each segment is a good one."""
        assert not ResourceTemplate("**").matches("a/" * 512 + "ab")
        assert not ResourceTemplate("**").matches(7)  # type: ignore[arg-type]
        assert ResourceTemplate("**").matches(Resource("a/b"))

    def test_unfilled_it_names_nothing(self) -> None:
        """Nobody is told that it does not match, who meant to fill it first."""
        with pytest.raises(ResourceError, match="'tenant' has no value"):
            ResourceTemplate("t/{tenant}").matches("t/acme")


class TestFill:
    def test_values_take_the_place_of_parameters(self) -> None:
        """Every time they stand there; what is given besides does not matter."""
        template = ResourceTemplate("t/{tenant}/{tenant}/{n}/*")
        assert ResourceTemplate("t/acme/acme/7/*") == template.fill({"tenant": "acme", "n": "7", "x": ".."})

    @hostile
    def test_a_value_is_one_segment(self, name: str) -> None:
        """Whoever chooses the value of a parameter cannot widen the template."""
        with pytest.raises(ResourceError, match="the parameter 'tenant'"):
            ResourceTemplate("t/{tenant}/x").fill({"tenant": name})

    def test_a_missing_value(self) -> None:
        """Or one of another type."""
        for params in ({}, {"tenant": None}, {"tenant": 7}):
            with pytest.raises(ResourceError, match="'tenant' is not given"):
                ResourceTemplate("t/{tenant}").fill(params)  # type: ignore[arg-type]


class TestCovers:
    @pytest.mark.parametrize(
        ("wide", "narrow"),
        [
            ("a/b", "a/b"), ("a/*", "a/b"), ("a/*", "a/{t}"), ("a/*", "a/*"), ("a/**", "a/b"), ("a/**", "a/*"),
            ("a/**", "a/b/c"), ("a/**", "a/b/**"), ("a/**", "a/**"), ("**", "a/{t}/*"), ("a/{t}", "a/{t}"), ("*/b", "a/b"),
        ],
    )  # fmt: skip
    def test_wider(self, wide: str, narrow: str) -> None:
        """Whatever the narrower one matches, the wider one does."""
        assert ResourceTemplate(wide).covers(ResourceTemplate(narrow))

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("a/b", "a/c"), ("a/b", "a/*"), ("a/{t}", "a/b"), ("a/{t}", "a/{u}"), ("a/{t}", "a/*"), ("a/*", "a/**"),
            ("a/*", "a/b/c"), ("a/*", "a"), ("a/**", "a"), ("a/b/**", "a/**"), ("a", "a/b"), ("*", "**"),
        ],
    )  # fmt: skip
    def test_not_wider(self, one: str, other: str) -> None:
        """There is something of the other that is not of the first."""
        assert not ResourceTemplate(one).covers(ResourceTemplate(other))

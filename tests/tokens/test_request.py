"""A request is a value: the same if it asks for the same, and never the same if it does not."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiffe_client._redact import Secret
from spiffe_client.errors import TokenRequestError
from spiffe_client.tokens import AccessToken, Binding, ForeignToken, OwnSvid, SecurityToken, TokenRequest
from spiffe_client.tokens._request import canonical_json
from spiffe_client.tokens._urns import ACCESS_TOKEN, CLIENT_CREDENTIALS, JWT, JWT_BEARER, TOKEN_EXCHANGE

SCOPE = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters='"\\'), min_size=1, max_size=4
)
NAME = st.text(min_size=1, max_size=4)
RESOURCE = st.builds("urn:{}".format, st.text("ab/:?", min_size=1, max_size=3))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=4,
)
DETAIL = st.builds(
    lambda kind, more: {**more, "type": kind}, NAME, st.dictionaries(st.text(max_size=2), JSON, max_size=2)
)
SUBJECT = st.one_of(
    st.builds(OwnSvid, audience=st.none() | NAME, token_type=st.sampled_from([JWT, "urn:x"])),
    st.builds(ForeignToken, token=st.builds(Secret, NAME), token_type=st.sampled_from([ACCESS_TOKEN, JWT])),
)
PARTS: dict[str, st.SearchStrategy[object]] = {
    "scope": st.lists(SCOPE, max_size=3),
    "audience": st.lists(NAME, max_size=3),
    "resource": st.lists(RESOURCE, max_size=3),
    "authorization_details": st.lists(DETAIL, max_size=2),
    "purpose": st.text(max_size=4),
    "subject": SUBJECT,
    "actor": st.none() | SUBJECT,
    "grant": st.sampled_from([TOKEN_EXCHANGE, JWT_BEARER]),
    "requested_token_type": st.none() | NAME,
    "parameters": st.dictionaries(st.text(max_size=2), st.text(max_size=2), max_size=2),
    "exact": st.booleans(),
}


def make(parts: Mapping[str, object]) -> TokenRequest:
    rest = {name: value for name, value in parts.items() if name != "scope"}
    return TokenRequest.of(*parts.get("scope", ()), **rest)  # type: ignore[arg-type, misc]


def meaning(request: TokenRequest) -> tuple[object, ...]:
    """What is asked for, said another way than the key says it."""

    def who(subject: object) -> object:
        if isinstance(subject, ForeignToken):
            assert isinstance(subject.token, Secret)
            return ("foreign", subject.token.reveal(), subject.token_type)
        return subject

    fields = request.__dataclass_fields__
    return tuple(who(getattr(request, name)) for name in fields if name != "key")


class TestKey:
    @given(st.fixed_dictionaries(PARTS), st.fixed_dictionaries(PARTS))
    def test_two_requests_share_a_key_only_if_they_are_the_same(self, one: dict, two: dict) -> None:
        """A token for one is never handed out for another."""
        a, b = make(one), make(two)
        assert (meaning(a) == meaning(b)) is (a.key == b.key)

    @given(st.fixed_dictionaries(PARTS), st.sampled_from(sorted(PARTS)), st.data())
    def test_one_part_that_differs_is_enough(self, parts: dict, name: str, data: st.DataObject) -> None:
        """Whichever it is."""
        other = {**parts, name: data.draw(PARTS[name])}
        a, b = make(parts), make(other)
        assert (meaning(a) == meaning(b)) is (a.key == b.key)

    @given(st.fixed_dictionaries(PARTS), st.randoms())
    def test_order_and_repetition_mean_nothing(self, parts: dict, chance) -> None:
        """Scopes, audiences, resources, parameters, members of objects."""
        other = dict(parts)
        for name in ("scope", "audience", "resource"):
            other[name] = [*parts[name], *parts[name]]
            chance.shuffle(other[name])
        other["parameters"] = dict(reversed(parts["parameters"].items()))
        other["authorization_details"] = [
            dict(reversed(detail.items())) for detail in parts["authorization_details"]
        ]
        assert (make(parts), make(parts).key) == (make(other), make(other).key)

    @pytest.mark.parametrize(
        ("one", "two"),
        [
            ({"scope": ["a", "b"]}, {"scope": ["a"], "audience": ["b"]}),
            ({"audience": ["ab"]}, {"audience": ["a", "b"]}),
            ({"audience": ['a","b']}, {"audience": ["a", "b"]}),
            ({"audience": ["urn:x"]}, {"resource": ["urn:x"]}),
            ({"resource": ["https://x"]}, {"resource": ["https://x/"]}),
            ({"purpose": ""}, {"purpose": " "}),
            ({"parameters": {"a": "b,c"}}, {"parameters": {"a": "b", "c": ""}}),
            ({"requested_token_type": None}, {"requested_token_type": "None"}),
            ({"subject": OwnSvid()}, {"subject": OwnSvid(audience="x")}),
            ({"actor": None}, {"actor": OwnSvid()}),
        ],
        ids=str,
    )
    def test_what_looks_alike_and_is_not(self, one: dict, two: dict) -> None:
        """Joined text would make one of each pair; URIs are compared byte by byte."""
        assert make(one).key != make(two).key

    def test_foreign_tokens_are_told_apart_without_being_shown(self) -> None:
        """The key holds a digest."""
        secret = Secret("eyJhbGciOi.secret.text")
        request = make({"subject": ForeignToken(secret)})
        assert "secret" not in repr(request) and "secret" not in str(request.subject.key)  # type: ignore[union-attr]
        assert request.key != make({"subject": ForeignToken(Secret("other"))}).key

    def test_a_source_is_known_by_its_key(self) -> None:
        """Its content may change at any time without making it another request."""

        class File:
            name = "file"
            key = ("/run/secrets/subject",)

            async def read(self) -> Secret[str]:
                raise NotImplementedError

        class Other(File):
            key = ("/run/secrets/other",)

        one, two = (make({"subject": ForeignToken(source)}) for source in (File(), Other()))
        assert (one.key == make({"subject": ForeignToken(File())}).key, one.key == two.key) == (True, False)

    def test_issued_tokens_as_subjects(self) -> None:
        """By their text and type, not by what else is known of them."""
        until = datetime(2030, 1, 1, tzinfo=UTC)
        request = TokenRequest.of("a")
        token = AccessToken(
            Secret("one"), "Bearer", "https://i", request, frozenset("a"), "", ACCESS_TOKEN, until, Binding()
        )
        ticket = SecurityToken(Secret("one"), "https://i", request, frozenset(), JWT, until)
        same = replace(token, expires_at=datetime(2031, 1, 1, tzinfo=UTC))
        keys = [
            make({"subject": subject}).key
            for subject in (token, same, ticket, replace(token, token=Secret("two")))
        ]
        assert (True, 3) == (keys[0] == keys[1], len(set(keys)))


class TestRefused:
    @pytest.mark.parametrize("scope", ['a"b', "a\\b", "ä", "a\nb", "a\tb", "\x7f", "a  b", " a", ""])
    def test_scopes(self, scope: str) -> None:
        """RFC 6749 §3.3."""
        with pytest.raises(TokenRequestError, match="scope"):
            TokenRequest.of(scope)

    @pytest.mark.parametrize(
        "resource",
        ["orders", "/v1", "https://x/#part", "https://x y", "https://ä", "://x", "1x:y", "https:", "", 7],
    )
    def test_resources(self, resource: object) -> None:
        """RFC 8707 §2: absolute, without fragment."""
        with pytest.raises(TokenRequestError, match="resource"):
            TokenRequest.of("a", resource=[resource])  # type: ignore[list-item]

    @pytest.mark.parametrize("audience", [[""], [None], [b"x"]])
    def test_audiences(self, audience: list) -> None:
        """Names, and at least a character each."""
        with pytest.raises(TokenRequestError, match="audience"):
            TokenRequest.of("a", audience=audience)

    @pytest.mark.parametrize(
        "details", [{"type": "x"}, "x", [{}], [{"type": ""}], [{"type": 1}], ["x"], [None]]
    )
    def test_authorization_details(self, details: object) -> None:
        """RFC 9396 §2: a list of objects with a `type` each."""
        with pytest.raises(TokenRequestError, match="authorization_details"):
            TokenRequest.of("a", authorization_details=details)  # type: ignore[arg-type]

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, object()])
    def test_details_that_are_not_json(self, value: object) -> None:
        """Numbers that JSON cannot write, and objects."""
        with pytest.raises(TokenRequestError, match="not JSON"):
            TokenRequest.of("a", authorization_details=[{"type": "x", "value": value}])

    def test_details_without_end(self) -> None:
        """An object that holds itself."""
        loop: dict[str, object] = {"type": "x"}
        loop["loop"] = loop
        with pytest.raises(TokenRequestError, match="not JSON"):
            TokenRequest.of("a", authorization_details=[loop])

    def test_grants_and_their_subjects(self) -> None:
        """Each grant has what it needs and nothing else (RFC 6749 §4.4, RFC 7523 §2.1, RFC 8693 §2.1)."""
        for parts in (
            {"grant": "password"},
            {"grant": TOKEN_EXCHANGE, "subject": None},
            {"grant": JWT_BEARER, "subject": None},
            {"grant": CLIENT_CREDENTIALS, "actor": OwnSvid()},
            {"grant": CLIENT_CREDENTIALS, "subject": ForeignToken(Secret("x"))},
        ):
            with pytest.raises(TokenRequestError):
                make(parts)

    def test_a_purpose_is_text(self) -> None:
        """In words."""
        with pytest.raises(TokenRequestError, match="purpose"):
            make({"purpose": 7})


class TestMade:
    def test_scopes_are_divided_by_spaces(self) -> None:
        """As OAuth writes them, or one by one."""
        assert frozenset({"a", "b", "c"}) == TokenRequest.of("a b", "c").scope

    def test_client_credentials_have_no_subject(self) -> None:
        """Whether or not one was named by default."""
        assert None is TokenRequest.of("a", grant=CLIENT_CREDENTIALS).subject
        assert None is TokenRequest.of("a", grant=CLIENT_CREDENTIALS, subject=None).subject

    def test_one_audience_is_one_audience(self) -> None:
        """Text is not a list of characters."""
        assert frozenset({"orders"}) == TokenRequest.of("a", audience="orders").audience
        assert frozenset({"urn:x"}) == TokenRequest.of("a", resource="urn:x").resource

    def test_details_have_one_text(self) -> None:
        """Members sorted, no spaces, empty for none."""
        assert (
            '[{"a":1,"type":"x"}]'
            == TokenRequest.of(authorization_details=[{"type": "x", "a": 1}]).authorization_details
        )
        assert "" == TokenRequest.of("a").authorization_details
        assert '"ä"' == canonical_json("ä", "it")

    def test_frozen(self) -> None:
        """It is a key: nobody changes it."""
        with pytest.raises(AttributeError):
            TokenRequest.of("a").purpose = "x"  # type: ignore[misc]

    def test_nothing_secret_is_pickled(self) -> None:
        """A request that holds a token does not leave the process."""
        with pytest.raises(TypeError):
            pickle.dumps(TokenRequest.of("a", subject=ForeignToken(Secret("x"))))


class Odd:
    """Looks as if it held something."""

    def __iter__(self):
        raise TypeError

    def __eq__(self, other: object) -> bool:
        raise TokenRequestError("never compared")

    __hash__ = None  # type: ignore[assignment]  # what cannot be hashed is a value, too


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.binary()
    | st.sampled_from(
        [object(), Odd(), list, len, Secret("s"), Secret(b"s"), 1j, list[int], range(3), OwnSvid()]
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=2)
        | st.builds(OwnSvid, audience=inner, token_type=inner)
        | st.builds(ForeignToken, token=inner, token_type=inner)
        | st.lists(st.text(), max_size=2).map(lambda texts: (text for text in texts))
    ),
    max_leaves=4,
)


@given(
    scope=st.lists(ANYTHING | SCOPE, max_size=2),
    parts=st.fixed_dictionaries(
        {}, optional={name: ANYTHING | some for name, some in PARTS.items() if name != "scope"}
    ),
)
def test_whatever_is_asked_for(scope, parts) -> None:
    """A request, or the one error: never another, whatever the values are."""
    try:
        request = TokenRequest.of(*scope, **parts)
    except TokenRequestError as error:
        assert str(error)
    else:
        assert 32 == len(request.key)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            lambda: TokenRequest.of(["a", "b"]),
            'scopes are separate words: token("orders:read", "orders:audit"), not a list',
        ),
        (
            lambda: TokenRequest.of({"a"}),
            'scopes are separate words: token("orders:read", "orders:audit"), not a list',
        ),
        (
            lambda: TokenRequest.of(5),
            'scopes are separate words: token("orders:read", "orders:audit"), not int',
        ),
        (lambda: TokenRequest.of("a", audience=None), "audience is text, or several: not None"),
        (lambda: TokenRequest.of("a", audience=5), "audience is text, or several: not int"),
        (lambda: TokenRequest.of("a", audience=b"x"), "audience is text, or several: not bytes"),
        (
            lambda: TokenRequest.of("a", audience=["x", None]),
            "audience is text, or several: not None among them",
        ),
        (lambda: TokenRequest.of("a", resource=Odd()), "resource is text, or several: not Odd"),
        (
            lambda: TokenRequest.of("a", authorization_details={"type": "t"}),
            "authorization_details is a list of objects (RFC 9396 §2): not dict",
        ),
        (lambda: TokenRequest.of("a", purpose=None), "the purpose is text, not None"),
        (lambda: TokenRequest.of("a", requested_token_type=5), "requested_token_type is a URN, not int"),
        (lambda: TokenRequest.of("a", exact="yes"), "exact is True or False, not str"),
        (lambda: TokenRequest.of("a", parameters=[1]), "parameters is a mapping of text to text, not list"),
        (lambda: TokenRequest.of("a", parameters={"a": 1}), "parameters: names and values are text"),
        (
            lambda: TokenRequest.of("a", subject="eyJ"),
            "a subject or actor is OwnSvid(), ForeignToken(Secret(text)), or a token that was issued here: not str",
        ),
        (
            lambda: TokenRequest.of("a", subject=ForeignToken(Secret(b"x"))),
            "a token to be exchanged is text, not bytes",
        ),
        (
            lambda: TokenRequest.of("a", subject=OwnSvid(audience=len)),
            "a member of the subject or the actor is not text",
        ),
    ],
)
def test_what_is_meant_is_said(asked, said) -> None:
    """A newcomer's mistake is answered with what to write instead."""
    with pytest.raises(TokenRequestError) as e:
        asked()
    assert said == str(e.value)


def test_details_may_come_one_by_one() -> None:
    """A generator is a list, too; it was taken for an empty one."""
    details = ({"type": kind} for kind in "ab")
    assert (
        '[{"type":"a"},{"type":"b"}]'
        == TokenRequest.of("a", authorization_details=details).authorization_details
    )

"""JSON and base64url of security documents have one meaning or none."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiffe_client._json import decode_base64url, parse_json_object
from tests.support.tokens import b64

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


class TestParseJsonObject:
    @given(st.dictionaries(st.text(), VALUES, max_size=4))
    def test_objects_are_read(self, value: dict[str, object]) -> None:
        """RFC 8259: what is well-formed comes out as it is."""
        assert value == parse_json_object(json.dumps(value).encode())

    @pytest.mark.parametrize(
        "text",
        [
            b"",
            b"[]",
            b'"text"',
            b"null",
            b"{",
            b"{} {}",
            b"{'a': 1}",
            b'{"a": NaN}',
            b'{"a": Infinity}',
            b'{"a": -Infinity}',
            b'{"a": 1e999}',  # valid JSON that no float holds: infinity by another name
            b'{"a": ' + b"9" * 5000 + b"}",  # more digits than an int is made of
            b'{"a": 1, "a": 1}',
            b'{"a": 1, "\\u0061": 2}',  # the same name, spelt differently
            b'{"a": {"b": 1, "b": 2}}',
            b'\xef\xbb\xbf{"a": 1}',  # a byte order mark
            '{"a": 1}'.encode("utf-16"),
            b'{"a": "\xff"}',
            b'{"a":' + b"[" * 50_000,  # deeper than any parser should go
            b'{"a":' * 50_000,
        ],
    )
    def test_everything_else_is_nothing(self, text: bytes) -> None:
        """Not read leniently, not an exception that holds the text."""
        assert None is parse_json_object(text)

    def test_ambiguous_inner_objects_can_be_dropped_alone(self) -> None:
        """One bad key of a set does not lose the others (Trust Domain and Bundle §4.2)."""
        text = b'{"keys": [{"kid": "a", "kid": "b"}, {"kid": "c"}]}'
        assert {"keys": [None, {"kid": "c"}]} == parse_json_object(text, repeated="drop")
        assert None is parse_json_object(b'{"keys": [], "keys": [1]}', repeated="drop")

    @given(st.binary(max_size=100))
    def test_any_bytes_give_an_object_or_none(self, data: bytes) -> None:
        """Never an exception."""
        assert isinstance(parse_json_object(data), dict | None)


class TestDecodeBase64url:
    @given(st.binary(max_size=50))
    def test_what_was_encoded_comes_back(self, data: bytes) -> None:
        """RFC 7515 §2."""
        assert data == decode_base64url(b64(data))

    @pytest.mark.parametrize(
        "text",
        [
            "YQ==",  # padding
            "YR",  # spare bits that are not zero: the same byte as YQ
            "Y",  # six bits are no byte
            "YW Jj",
            "YWJj\n",
            "+/+/",  # the other alphabet
            "ÿ",
            None,
            5,
            b"YQ",
        ],
    )
    def test_other_spellings_are_refused(self, text: object) -> None:
        """A signature that could be spelt in several ways would make one token into several."""
        assert None is decode_base64url(text)

    @given(st.text(max_size=30))
    def test_any_text_has_one_spelling_or_none(self, text: str) -> None:
        """What decodes encodes to the same again."""
        data = decode_base64url(text)
        assert data is None or text == b64(data)

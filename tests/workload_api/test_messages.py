"""Every message of the Workload API means what the official protobuf package says it means."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from spiffe_client.errors import ProtocolError
from spiffe_client.workload_api import _fields, _jwt_messages, _messages, _struct, _wire, _wit_messages
from spiffe_client.workload_api._fields import Message
from tests.support.official_messages import official_messages

KEYED = {"X509SVIDResponse": "federated_bundles", "ValidateJWTSVIDResponse": "claims"}

text = st.text(max_size=20)
blob = st.binary(max_size=40)
texts = st.lists(text, max_size=4).map(tuple)
blobs = st.lists(blob, max_size=4).map(tuple)
blob_map = st.dictionaries(text, blob, max_size=4)
json_value = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=12,
)


def lists_of(entry: type[Message], **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(st.builds(entry, **fields), max_size=3).map(tuple)


MESSAGES: dict[str, tuple[type[Message], st.SearchStrategy[Message]]] = {
    name: (cls, st.builds(cls, **fields))
    for name, cls, fields in [
        ("Empty", _messages.Empty, {}),
        (
            "X509SVID",
            _messages.X509SvidEntry,
            {"spiffe_id": text, "x509_svid": blob, "x509_svid_key": blob, "bundle": blob, "hint": text},
        ),
        (
            "X509SVIDResponse",
            _messages.X509SvidResponse,
            {
                "svids": lists_of(_messages.X509SvidEntry, spiffe_id=text, x509_svid=blob, hint=text),
                "crl": blobs,
                "federated_bundles": blob_map,
            },
        ),
        ("X509BundlesResponse", _messages.X509BundlesResponse, {"crl": blobs, "bundles": blob_map}),
        ("JWTSVIDRequest", _jwt_messages.JwtSvidRequest, {"audience": texts, "spiffe_id": text}),
        ("JWTSVID", _jwt_messages.JwtSvidEntry, {"spiffe_id": text, "svid": text, "hint": text}),
        (
            "JWTSVIDResponse",
            _jwt_messages.JwtSvidResponse,
            {"svids": lists_of(_jwt_messages.JwtSvidEntry, spiffe_id=text, svid=text, hint=text)},
        ),
        ("JWTBundlesResponse", _jwt_messages.JwtBundlesResponse, {"bundles": blob_map}),
        ("ValidateJWTSVIDRequest", _jwt_messages.ValidateJwtSvidRequest, {"audience": text, "svid": text}),
        (
            "ValidateJWTSVIDResponse",
            _jwt_messages.ValidateJwtSvidResponse,
            {"spiffe_id": text, "claims": st.dictionaries(text, json_value, max_size=4)},
        ),
        ("WITSVIDRequest", _wit_messages.WitSvidRequest, {"spiffe_id": text}),
        (
            "WITSVID",
            _wit_messages.WitSvidEntry,
            {"spiffe_id": text, "wit_svid": text, "wit_svid_key": text, "hint": text},
        ),
        (
            "WITSVIDResponse",
            _wit_messages.WitSvidResponse,
            {"svids": lists_of(_wit_messages.WitSvidEntry, spiffe_id=text, wit_svid=text, hint=text)},
        ),
        (
            "WITBundlesResponse",
            _wit_messages.WitBundlesResponse,
            {"bundles": st.dictionaries(text, text, max_size=4)},
        ),
    ]
}


def plain(value: object) -> object:
    """What a message of ours says, as nested tuples and dicts; not-a-number equal to itself."""
    if isinstance(value, Message):
        return {name: plain(getattr(value, name)) for name, _ in value.LAYOUT.values()}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return "NaN" if isinstance(value, float) and math.isnan(value) else value


def official_json(value: Any) -> object:
    """What a google.protobuf.Value says."""
    match value.WhichOneof("kind"):
        case None | "null_value":
            return None
        case "struct_value":
            return {key: official_json(item) for key, item in value.struct_value.fields.items()}
        case "list_value":
            return [official_json(item) for item in value.list_value.values]
        case kind:
            return plain(getattr(value, kind))


def official_plain(message: Any) -> object:
    """What a message of the official package says, in the form of `plain`."""
    out: dict[str, object] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.name == "claims":
            out[field.name] = {key: official_json(item) for key, item in value.fields.items()}
        elif field.message_type is not None and field.message_type.GetOptions().map_entry:
            out[field.name] = dict(value)
        elif field.name == "svids":
            out[field.name] = [official_plain(item) for item in value]
        elif field.is_repeated:
            out[field.name] = list(value)
        else:
            out[field.name] = value
    return out


def has_field_zero(cls: Any, data: bytes) -> bool:
    """Whether there is a field of number 0, which no message may have: the official C core skips it in groups."""
    try:
        cls.decode(data)
    except ProtocolError as error:
        return "has number 0" in str(error)
    return False


def sets_entries_aside(message: Any) -> bool:
    """Whether the official package took a map's entry for an unknown field.

    Its C core does that with entries that hold unknown fields themselves; other official
    implementations, and ours, skip what is unknown within the entry and keep the entry.
    """
    if message.DESCRIPTOR.full_name == "google.protobuf.Value":
        inner = [v.ListFields()[0][1] for v in [message] if v.WhichOneof("kind") in ("struct_value", "list_value")]
        return any(map(sets_entries_aside, inner))
    maps = [f for f in message.DESCRIPTOR.fields if f.message_type and f.message_type.GetOptions().map_entry]
    if {f.number for f in maps} & {u.field_number for u in UnknownFieldSet(message) if u.wire_type == 2}:
        return True
    match message.DESCRIPTOR.name:
        case "Struct":
            return any(map(sets_entries_aside, message.fields.values()))
        case "ListValue":
            return any(map(sets_entries_aside, message.values))
        case "ValidateJWTSVIDResponse":
            return sets_entries_aside(message.claims)
    return False


def fill(message: Any, ours: Message) -> Any:
    """Say with the official package what a message of ours says."""
    for name, _ in ours.LAYOUT.values():
        value = getattr(ours, name)
        if name == "claims":
            message.claims.update(value)
        elif name == "svids":
            for item in value:
                fill(message.svids.add(), item)
        elif isinstance(value, tuple):
            getattr(message, name).extend(value)
        elif isinstance(value, Mapping):
            getattr(message, name).update(value)
        else:
            setattr(message, name, value)
    return message


def verdict(read: Any, data: bytes) -> object:
    try:
        return read(data)
    except (ProtocolError, DecodeError):
        return "refused"


def longer_varint(value: int, extra: int) -> bytes:
    """A varint, written with up to `extra` bytes more than it needs."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    for _ in range(extra):
        out[-1] |= 0x80
        out.append(0)
    return bytes(out)


@st.composite
def a_field(draw: st.DrawFn, inner: st.SearchStrategy[bytes]) -> bytes:
    """A field as a hostile writer may write it: any number, any wire type, wasteful varints."""
    number = draw(st.integers(1, 6) | st.sampled_from([7, 15, 16, 2**29 - 1]))
    wire_type = draw(st.sampled_from([2, 2, 2, 2, 0, 1, 3, 5]))
    head = longer_varint(number << 3 | wire_type, draw(st.sampled_from([0, 0, 0, 1])))
    match wire_type:
        case 0:
            return head + longer_varint(draw(st.integers(0, 2**64 - 1)), draw(st.sampled_from([0, 0, 1])))
        case 1:
            return head + draw(st.binary(min_size=8, max_size=8))
        case 3:
            return head + draw(inner) + longer_varint(number << 3 | 4, 0)
        case 5:
            return head + draw(st.binary(min_size=4, max_size=4))
    payload = draw(inner | text.map(str.encode) | blob)
    return head + longer_varint(len(payload), draw(st.sampled_from([0, 0, 0, 1]))) + payload


wire_bytes = st.recursive(
    st.just(b""), lambda inner: st.lists(a_field(inner), max_size=4).map(b"".join), max_leaves=20
)
damaged_bytes = st.tuples(wire_bytes, st.integers(0, 60), st.binary(max_size=3)).map(
    lambda parts: parts[0][: parts[1]] + parts[2] + parts[0][parts[1] + len(parts[2]) :]
)
cut_bytes = st.tuples(wire_bytes, st.integers(0, 60)).map(lambda parts: parts[0][: parts[1]])


@pytest.fixture(scope="module")
def official() -> SimpleNamespace:
    """Message classes of the official package, by the names of the standard."""
    return official_messages()


#: Fuzzing is never timed: the machine may be busy.
fuzz = settings(deadline=None)


@pytest.mark.parametrize("name", MESSAGES)
class TestAgainstTheOfficialPackage:
    @fuzz
    @given(data=st.data())
    def test_it_reads_what_we_write(self, official: SimpleNamespace, name: str, data: st.DataObject) -> None:
        """Workload API §3: what our codec writes, the official one reads as the same message."""
        ours = data.draw(MESSAGES[name][1])

        theirs = getattr(official, name).FromString(ours.encode())

        assert plain(ours) == official_plain(theirs)

    @fuzz
    @given(data=st.data())
    def test_we_read_what_it_writes(self, official: SimpleNamespace, name: str, data: st.DataObject) -> None:
        """Workload API §3: what the official codec writes, ours reads as the same message."""
        cls, messages = MESSAGES[name]
        ours = data.draw(messages)

        written = fill(getattr(official, name)(), ours).SerializeToString()

        assert plain(ours) == plain(cls.decode(written))

    @settings(fuzz, max_examples=150)
    @given(data=wire_bytes | cut_bytes | damaged_bytes | st.binary())
    def test_same_verdict_on_any_bytes(self, official: SimpleNamespace, name: str, data: bytes) -> None:
        """Unknown fields, wrong wire types, wasteful varints, groups, duplicates, merged messages,
        invalid UTF-8, cut and damaged bytes: both read the same, or both refuse."""
        cls = MESSAGES[name][0]

        theirs = verdict(getattr(official, name).FromString, data)
        if theirs != "refused":
            assume(not sets_entries_aside(theirs))
            assume(not has_field_zero(cls, data))
            theirs = official_plain(theirs)

        assert theirs == verdict(lambda raw: plain(cls.decode(raw)), data)


class TestMessages:
    def test_every_message_is_tried(self) -> None:
        """No message of the package is left out of these tests."""
        ours = {
            getattr(module, public)
            for module in (_messages, _jwt_messages, _wit_messages)
            for public in module.__all__
        }

        assert ours == {cls for cls, _ in MESSAGES.values()}


class TestDecode:
    def test_says_where(self) -> None:
        """An error names the message, the field and the byte."""
        broken = _wire.write_bytes(1, _wire.write_bytes(1, b"\xff"))

        with pytest.raises(ProtocolError, match="X509SVIDResponse: in svids: X509SVID: in spiffe_id: .*byte 0"):
            _messages.X509SvidResponse.decode(broken)

    def test_last_of_a_doubled_field_counts(self) -> None:
        """A scalar seen twice has its last value."""
        data = _wire.write_bytes(5, b"first") + _wire.write_bytes(5, b"second")

        assert _messages.X509SvidEntry(hint="second") == _messages.X509SvidEntry.decode(data)

    def test_last_of_a_doubled_key_counts(self) -> None:
        """A map entry seen twice has its last value."""
        entry = _wire.write_bytes(1, b"spiffe://a.test")
        data = b"".join(_wire.write_bytes(1, entry + _wire.write_bytes(2, v)) for v in (b"old", b"new"))

        assert {"spiffe://a.test": b"new"} == _jwt_messages.JwtBundlesResponse.decode(data).bundles

    def test_unknown_fields_are_skipped(self) -> None:
        """What a later version of the standard may add costs nothing, in a map's entry too."""
        odd = _wire.write_varint(1, 1) + _wire.write_double(2, 1.0) + _wire.write_bytes(9, b"x")
        entry = odd + _wire.write_bytes(1, b"spiffe://a.test") + _wire.write_bytes(2, b"{}")
        data = odd + _wire.write_bytes(1, entry) + odd

        assert {"spiffe://a.test": b"{}"} == _jwt_messages.JwtBundlesResponse.decode(data).bundles

    def test_absent_is_default(self) -> None:
        """Workload API §4.4: a field that is not there is at its default."""
        assert _messages.X509SvidResponse() == _messages.X509SvidResponse.decode(b"")

    @pytest.mark.parametrize(
        ("cls", "field"),
        [
            (_messages.X509SvidResponse, _wire.write_bytes(1, b"")),
            (_messages.X509SvidResponse, _wire.write_bytes(2, b"")),
            (_jwt_messages.JwtSvidRequest, _wire.write_bytes(1, b"a")),
        ],
    )
    def test_too_many_entries(self, cls: type[Message], field: bytes) -> None:
        """A list is bounded, so that a small message cannot cost much."""
        cls.decode(field * _fields.MAX_ITEMS)
        with pytest.raises(ProtocolError, match="more than 4096 entries"):
            cls.decode(field * (_fields.MAX_ITEMS + 1))

    def test_too_many_keys(self) -> None:
        """A map is bounded too."""
        entries = [_wire.write_bytes(1, _wire.write_bytes(1, str(n).encode())) for n in range(4097)]

        assert 4096 == len(_jwt_messages.JwtBundlesResponse.decode(b"".join(entries[:-1])).bundles)
        with pytest.raises(ProtocolError, match="JWTBundlesResponse: in bundles: more than 4096 entries"):
            _jwt_messages.JwtBundlesResponse.decode(b"".join(entries))


class TestEncode:
    def test_says_where(self) -> None:
        """Text that cannot be written is refused by the field's name."""
        with pytest.raises(ProtocolError, match=r"JWTSVIDRequest\.audience: .*surrogate"):
            _jwt_messages.JwtSvidRequest(audience=("\ud800",)).encode()

    def test_defaults_are_left_out(self) -> None:
        """A default takes no byte, an empty entry of a list does."""
        assert b"" == _messages.X509SvidEntry().encode()
        assert b"\x0a\x00" == _jwt_messages.JwtSvidRequest(audience=("",)).encode()


def nested(depth: int, wrap: Any) -> Any:
    value: Any = "core"
    for _ in range(depth):
        value = wrap(value)
    return value


def claims(value: object) -> _jwt_messages.ValidateJwtSvidResponse:
    return _jwt_messages.ValidateJwtSvidResponse(claims={"deep": value})  # type: ignore[dict-item]


def value_bytes(*values: object) -> bytes:
    """Values as `google.protobuf.Value` messages, one after the other: they merge."""
    return b"".join(
        _wire.write_bytes(2, _struct._write_value(value, 0)) for value in values  # type: ignore[arg-type]
    )


class TestStruct:
    @pytest.mark.parametrize(
        ("values", "merged"),
        [
            (({"a": 1}, {"b": 2}), {"a": 1, "b": 2}),
            (({"a": 1}, {"a": 2}), {"a": 2}),
            (({"a": {"x": 1}}, {"a": {"y": 2}}), {"a": {"y": 2}}),  # entries of a map replace, not merge
            (([1], [2, 3]), [1, 2, 3]),
            (({"a": 1}, None, {"b": 2}), {"b": 2}),
            (({"a": 1}, [1], "x", True), True),
            (({"a": 1}, [1]), [1]),
            (([1], 2.5, [3]), [3]),
            ((), None),
        ],
    )
    def test_a_value_seen_twice_merges(
        self, official: SimpleNamespace, values: tuple[object, ...], merged: object
    ) -> None:
        """Occurrences of one value merge as protobuf demands, and as the official package has it."""
        entry = _wire.write_bytes(1, _wire.write_bytes(1, b"deep") + value_bytes(*values))
        data = _wire.write_bytes(2, entry)

        assert {"deep": merged} == _jwt_messages.ValidateJwtSvidResponse.decode(data).claims
        assert merged == official_json(official.ValidateJWTSVIDResponse.FromString(data).claims.fields["deep"])

    def test_unknown_fields_at_every_level(self) -> None:
        """What a later version of the standard may add is skipped, wherever it is."""
        odd = _wire.write_varint(9, 1) + _wire.write_double(1, 0.5) + _wire.write_varint(2, 1)
        text_value = _wire.write_bytes(3, b"x") + _wire.write_double(9, 1.0)
        list_value = _wire.write_bytes(6, odd + _wire.write_bytes(1, text_value))
        entry = odd + _wire.write_bytes(1, b"deep") + _wire.write_bytes(2, list_value)
        data = odd + _wire.write_bytes(2, odd + _wire.write_bytes(1, entry))

        assert {"deep": ["x"]} == _jwt_messages.ValidateJwtSvidResponse.decode(data).claims

    def test_a_struct_seen_twice_merges(self, official: SimpleNamespace) -> None:
        """So do two occurrences of the claims as a whole."""
        parts = [_jwt_messages.ValidateJwtSvidResponse(claims=c).encode() for c in ({"a": 1, "b": 1}, {"b": 2})]

        assert {"a": 1, "b": 2} == _jwt_messages.ValidateJwtSvidResponse.decode(b"".join(parts)).claims
        assert {"a": 1, "b": 2} == dict(official.ValidateJWTSVIDResponse.FromString(b"".join(parts)).claims)

    @pytest.mark.parametrize("wrap", [lambda v: [v], lambda v: {"k": v}], ids=["lists", "objects"])
    def test_depth_is_limited_both_ways(self, official: SimpleNamespace, wrap: Any) -> None:
        """Nesting up to the limit is read, one more is refused before the interpreter's stack is."""
        deepest = claims(nested(_struct.MAX_DEPTH, wrap))
        assert deepest == _jwt_messages.ValidateJwtSvidResponse.decode(deepest.encode())

        too_deep = claims(nested(_struct.MAX_DEPTH + 1, wrap))
        written = fill(official.ValidateJWTSVIDResponse(), too_deep).SerializeToString()
        with pytest.raises(ProtocolError, match="ValidateJWTSVIDResponse: in claims: more than 32"):
            _jwt_messages.ValidateJwtSvidResponse.decode(written)
        with pytest.raises(ProtocolError, match=r"ValidateJWTSVIDResponse.claims: more than 32"):
            too_deep.encode()

    @pytest.mark.parametrize("field", [b"\x2a", b"\x32"])
    def test_bottomless_nesting(self, field: bytes) -> None:
        """A thousand levels are refused by the limit, not by a RecursionError."""
        data = b""
        for _ in range(1000):
            data = field + longer_varint(len(data), 0) + data
            data = b"\x0a" + longer_varint(len(data), 0) + data
        data = b"\x0a" + longer_varint(len(data), 0) + data
        with pytest.raises(ProtocolError):
            _jwt_messages.ValidateJwtSvidResponse.decode(b"\x12" + longer_varint(len(data), 0) + data)

    def test_whole_numbers_are_ints(self) -> None:
        """`exp` comes back as the int it is in the token, a fraction as a float."""
        read = _jwt_messages.ValidateJwtSvidResponse.decode(
            _jwt_messages.ValidateJwtSvidResponse(claims={"exp": 1700000000, "f": 0.5, "huge": 1e300}).encode()
        )

        assert {"exp": 1700000000, "f": 0.5, "huge": 1e300} == read.claims
        assert [int, float, float] == [type(v) for v in read.claims.values()]

    @pytest.mark.parametrize(
        ("value", "why"),
        [
            (10**400, "larger than a double"),
            (b"bytes", "cannot hold a bytes"),
            (object(), "cannot hold a object"),
            ({1: "x"}, "a key of a Struct is text, not int"),
            ("\ud800", "surrogate"),
        ],
    )
    def test_what_json_cannot_say(self, value: object, why: str) -> None:
        """A claim that is no JSON is refused when it is written."""
        with pytest.raises(ProtocolError, match=f"ValidateJWTSVIDResponse.claims: .*{why}"):
            claims(value).encode()

    def test_tuples_are_lists(self) -> None:
        """A tuple is written like a list."""
        assert claims([1, 2]).encode() == claims((1, 2)).encode()


class TestSecrets:
    @pytest.mark.parametrize(
        "message",
        [
            _messages.X509SvidEntry(spiffe_id="spiffe://a.test/x", x509_svid_key=b"s3cr3t"),
            _jwt_messages.JwtSvidEntry(spiffe_id="spiffe://a.test/x", svid="s3cr3t"),
            _jwt_messages.ValidateJwtSvidRequest(audience="b", svid="s3cr3t"),
            _wit_messages.WitSvidEntry(wit_svid="s3cr3t"),
            _wit_messages.WitSvidEntry(wit_svid_key="s3cr3t"),
            _messages.X509SvidResponse(svids=(_messages.X509SvidEntry(x509_svid_key=b"s3cr3t"),)),
            _jwt_messages.JwtSvidResponse(svids=(_jwt_messages.JwtSvidEntry(svid="s3cr3t"),)),
            _wit_messages.WitSvidResponse(svids=(_wit_messages.WitSvidEntry(wit_svid="s3cr3t"),)),
        ],
        ids=lambda message: message.NAME,
    )
    def test_not_in_the_repr(self, message: Message) -> None:
        """Keys and tokens do not show when a message does."""
        assert "s3cr3t" not in repr(message)
        assert "s3cr3t" not in str(message)

    @pytest.mark.parametrize("number", [2, 3])
    def test_not_in_an_error(self, number: int) -> None:
        """A token that is no text is refused without being quoted, in no exception of the chain."""
        data = _wire.write_bytes(number, b"s3cr3t\xff")
        with pytest.raises(ProtocolError) as e:
            _wit_messages.WitSvidEntry.decode(data)

        shown: BaseException | None = e.value
        while shown is not None:
            assert "s3cr3t" not in f"{shown!r} {shown}"
            shown = shown.__cause__ or shown.__context__

"""The Workload API's messages as the official protobuf package has them: a second opinion."""

from __future__ import annotations

from functools import lru_cache
from types import SimpleNamespace

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, struct_pb2

__all__ = ["official_messages"]

_TYPES = {"string": 9, "bytes": 12}
_MESSAGE = 11
_OPTIONAL, _REPEATED = 1, 3

# As the standard's service definition has them: name, then field: number, type, "*" for a list.
_MESSAGES = {
    "X509SVID": {
        "spiffe_id": (1, "string"),
        "x509_svid": (2, "bytes"),
        "x509_svid_key": (3, "bytes"),
        "bundle": (4, "bytes"),
        "hint": (5, "string"),
    },
    "X509SVIDResponse": {"svids": (1, "X509SVID*"), "crl": (2, "bytes*"), "federated_bundles": (3, "map bytes")},
    "X509BundlesResponse": {"crl": (1, "bytes*"), "bundles": (2, "map bytes")},
    "JWTSVIDRequest": {"audience": (1, "string*"), "spiffe_id": (2, "string")},
    "JWTSVID": {"spiffe_id": (1, "string"), "svid": (2, "string"), "hint": (3, "string")},
    "JWTSVIDResponse": {"svids": (1, "JWTSVID*")},
    "JWTBundlesResponse": {"bundles": (1, "map bytes")},
    "ValidateJWTSVIDRequest": {"audience": (1, "string"), "svid": (2, "string")},
    "ValidateJWTSVIDResponse": {"spiffe_id": (1, "string"), "claims": (2, "google.protobuf.Struct")},
    "WITSVIDRequest": {"spiffe_id": (1, "string")},
    "WITSVID": {
        "spiffe_id": (1, "string"),
        "wit_svid": (2, "string"),
        "wit_svid_key": (3, "string"),
        "hint": (4, "string"),
    },
    "WITSVIDResponse": {"svids": (1, "WITSVID*")},
    "WITBundlesResponse": {"bundles": (1, "map string")},
    "Empty": {},
}


def _add_field(message: descriptor_pb2.DescriptorProto, name: str, number: int, kind: str) -> None:
    field = message.field.add(name=name, number=number, label=_OPTIONAL)
    if kind.endswith("*"):
        field.label, kind = _REPEATED, kind[:-1]
    if kind.startswith("map "):
        camel = "".join(part.capitalize() for part in name.split("_"))
        entry = message.nested_type.add(name=f"{camel}Entry")
        entry.options.map_entry = True
        _add_field(entry, "key", 1, "string")
        _add_field(entry, "value", 2, kind[4:])
        field.label, kind = _REPEATED, f"{message.name}.{entry.name}"
    if kind in _TYPES:
        field.type = _TYPES[kind]
    else:
        field.type, field.type_name = _MESSAGE, f".{kind}"


@lru_cache
def official_messages() -> SimpleNamespace:
    """Message classes of the official package, by the names of the standard."""
    pool = descriptor_pool.DescriptorPool()
    struct = descriptor_pb2.FileDescriptorProto()
    struct_pb2.DESCRIPTOR.CopyToProto(struct)
    pool.Add(struct)
    file = descriptor_pb2.FileDescriptorProto(
        name="workloadapi.proto", syntax="proto3", dependency=[struct.name]
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            _add_field(message, field, number, kind)
    pool.Add(file)
    return SimpleNamespace(
        **{
            name: message_factory.GetMessageClass(pool.FindMessageTypeByName(name))
            for name in _MESSAGES
        }
    )

"""JSON from others, as far as it can be answered: in text that can be written."""

from __future__ import annotations

import json

from spiffe_client._json import parse_json_object

__all__ = ["parse_document"]


def parse_document(text: bytes) -> dict[str, object] | None:
    """Parse a JSON object strictly; None if it is anything else.

    So is one with half of a surrogate pair in it: that is JSON by its grammar and no text (RFC 8259 §8.2,
    RFC 7493 §2.1), and whatever hashes, compares or repeats it fails.
    """
    value = parse_json_object(text)
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return None
    return value

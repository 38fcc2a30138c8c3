"""The h2 connection, set up alike for both sides. The one file that knows h2's configuration."""

from __future__ import annotations

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import Event
from h2.exceptions import H2Error
from h2.settings import SettingCodes, Settings

from spiffe_client._grpc._gate import PREFACE
from spiffe_client._grpc._limits import Limits
from spiffe_client.errors import ProtocolError

__all__ = ["acknowledge", "cap_header_table", "error_name", "open_connection", "receive_frame"]

# What a peer may send ahead of our reading: a few messages of usual size without a round trip.
WINDOW = 256 * 1024
_DEFAULT_WINDOW = 65535
_HEADER_TABLE = 4096


def open_connection(limits: Limits, *, client: bool) -> H2Connection:
    """Make a connection whose preface and SETTINGS are ready to be sent."""
    # What we send is well-formed by construction; what comes is checked.
    h2 = H2Connection(
        H2Configuration(
            client_side=client,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
            normalize_inbound_headers=False,
        )
    )
    # Initial values hold at once; values set later would only hold once the peer has acknowledged.
    settings = {SettingCodes.INITIAL_WINDOW_SIZE: WINDOW, SettingCodes.MAX_HEADER_LIST_SIZE: limits.headers}
    if client:
        settings[SettingCodes.ENABLE_PUSH] = 0
    else:
        settings[SettingCodes.MAX_CONCURRENT_STREAMS] = limits.streams
    h2.local_settings = Settings(client=client, initial_values=settings)
    del h2.local_settings[SettingCodes.ENABLE_CONNECT_PROTOCOL]
    h2.decoder.max_header_list_size = limits.headers
    h2.initiate_connection()
    if not client:
        h2.receive_data(PREFACE)  # `FrameGate` has checked and taken it
    h2.increment_flow_control_window(WINDOW - _DEFAULT_WINDOW)
    return h2


def receive_frame(h2: H2Connection, frame: bytes) -> list[Event]:
    """Give h2 one frame.

    Raises:
        ProtocolError: It breaks a rule of HTTP/2.
    """
    try:
        return h2.receive_data(frame)
    except H2Error as error:
        raise ProtocolError(f"broken HTTP/2: {error}") from error


def acknowledge(h2: H2Connection, stream_id: int, size: int) -> None:
    """Open the windows again for what was taken in."""
    if size:
        h2.acknowledge_received_data(size, stream_id)


def cap_header_table(h2: H2Connection) -> None:
    """Remember no more of the headers we send than the default, however much the peer offers."""
    if h2.encoder.header_table_size > _HEADER_TABLE:  # noqa: PLR1730 - assigning is not free of effects
        h2.encoder.header_table_size = _HEADER_TABLE


def error_name(code: int) -> str:
    """Name an HTTP/2 error code (RFC 9113 §7)."""
    try:
        return ErrorCodes(code).name
    except ValueError:
        return f"error code {code}"

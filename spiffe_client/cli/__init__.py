"""The command line, `spiffe-client …`: look at identities, judge SVIDs, find faults, play it all through.

See docs/cli.md for the options, the keys of the JSON output and the exit codes.
"""

from __future__ import annotations

from spiffe_client.cli._main import main

__all__ = ["main"]

"""`python -m spiffe_client.cli` is `spiffe-client`."""

from __future__ import annotations

import sys

from spiffe_client.cli._main import main

__all__: list[str] = []

sys.exit(main())

"""The extras of spiffe-client: a checkout's are the released ones, and integrations by path. For hatchling, not imported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface


class CheckoutExtras(MetadataHookInterface):
    """Puts the extras into the metadata.

    It is asked in a checkout only: a source distribution has its extras in its `PKG-INFO`, where hatchling finds them.
    """

    def update(self, metadata: dict[str, Any]) -> None:
        """See `MetadataHookInterface.update`."""
        extras = {name: list(needs) for name, needs in self.config["extras"].items()}
        # What pip unpacks to build is gone when it has ended; the wheel may be in its cache for years.
        if not any(part.startswith(("pip-install-", "pip-req-build-")) for part in Path(self.root).parts):
            for name, needs in self.config["in-checkout"].items():
                # Not hatchling's own `{root:uri}`, which escapes spaces only.
                extras[name] += [need.format(root=Path(self.root).as_uri()) for need in needs]
        metadata["optional-dependencies"] = extras


class ReleasedExtras(BuildHookInterface[Any]):
    """Takes what is required by path out of a source distribution, and so out of the wheel that is built from it."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """See `BuildHookInterface.initialize`."""
        del version, build_data
        for needs in self.metadata.core.optional_dependencies.values():
            needs[:] = [need for need in needs if "file:" not in need]

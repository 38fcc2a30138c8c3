"""Bundles of other trust domains from their bundle endpoints (SPIFFE Federation §4-5)."""

from __future__ import annotations

from spiffe_client.http.federation._endpoints import SpiffeEndpoint, WebEndpoint
from spiffe_client.http.federation._fetch import fetch_bundle
from spiffe_client.http.federation._source import FederatedBundleSource

__all__ = ["FederatedBundleSource", "SpiffeEndpoint", "WebEndpoint", "fetch_bundle"]

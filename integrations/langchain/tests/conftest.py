"""LangGraph runs on asyncio."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    # LangGraph 1.0 warns of itself when it is imported.
    config.addinivalue_line("filterwarnings", "ignore:AgentState(\\w*) has been moved to")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"

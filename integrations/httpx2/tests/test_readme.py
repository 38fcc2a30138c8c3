"""The example runs as it stands in the README, and prints what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path


def test_example() -> None:
    page = (Path(__file__).parents[1] / "README.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (printed,) = re.findall(r"^```text\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    ran = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (0, printed) == (ran.returncode, ran.stdout), ran.stderr

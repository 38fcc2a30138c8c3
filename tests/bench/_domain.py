"""A development trust domain in a process of its own, told what to do over its standard input."""

from __future__ import annotations

import subprocess
import sys
from types import TracebackType

import anyio

from spiffe_client.dev import DevTrustDomain

__all__ = ["DomainProcess"]

ID = "spiffe://bench.test/workload"


class DomainProcess:
    """Starts on entry, stops on exit; `endpoint` is where its Workload API listens."""

    endpoint: str

    def __enter__(self) -> DomainProcess:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench._domain"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.endpoint = self._read()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    def _read(self) -> str:
        assert self._process.stdout
        line = self._process.stdout.readline().strip()
        if not line:
            raise RuntimeError("the trust domain's process ended")
        return line

    def tell(self, command: str) -> None:
        """Have `rotate`, `stop` or `resume` carried out, and wait until it is."""
        assert self._process.stdin
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        assert self._read() == "done"


async def _serve() -> None:
    async with DevTrustDomain("bench.test", svid_ttl=3600) as domain:
        domain.register(ID, any=True)
        print(domain.endpoint, flush=True)
        commands = {"rotate": domain.rotate, "stop": domain.stop_serving, "resume": domain.resume}
        while line := await anyio.to_thread.run_sync(sys.stdin.readline):
            await commands[line.strip()]()
            print("done", flush=True)


if __name__ == "__main__":
    anyio.run(_serve)

"""A memory that several processes share: a name comes once, whoever is told it."""

from __future__ import annotations

import math
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from spiffe_client.testing import ManualClock
from spiffe_client_mcp import SqliteReplayCache, _sqlite
from spiffe_client_mcp._once import Once

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("kind", ["process", "file"])
async def test_once(kind: str, tmp_path: Path) -> None:
    """Until its time is over, and then it may come again; one without an end never."""
    clock = ManualClock()
    now = clock.now().timestamp()
    cache = Once(9, clock) if kind == "process" else SqliteReplayCache(tmp_path / "seen", clock=clock)
    assert [True, False] == [await cache.add("a", now + 10) for _ in range(2)]
    assert await cache.add("b", math.inf)
    await clock.advance(9)
    assert not await cache.add("a", now + 10)
    await clock.advance(2)
    assert [True, False] == [await cache.add("a", now + 20) for _ in range(2)]
    await clock.advance(1e9)
    assert not await cache.add("b", math.inf)
    if isinstance(cache, SqliteReplayCache):
        cache.close()
        assert not await cache.add("b", math.inf)
        cache.close()
        cache.close()


async def test_it_is_this_user_s(tmp_path: Path) -> None:
    """Nobody else reads or writes it."""
    with closing(SqliteReplayCache(tmp_path / "seen")) as cache:
        await cache.add("a", math.inf)
        modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert {0o600} == modes


async def test_full(tmp_path: Path) -> None:
    """It has a bound: beyond that it takes nothing, until there is room again."""
    clock = ManualClock()
    until = clock.now().timestamp() + 10
    path = tmp_path / "seen"
    with closing(SqliteReplayCache(path, most_bytes=1 << 16, clock=clock)) as cache:
        with pytest.raises(sqlite3.OperationalError, match="full"):
            for number in range(10_000):
                await cache.add(f"{number:0100}", until)
        assert not await cache.add(f"{0:0100}", until)
        assert path.stat().st_size <= 1 << 16
        await clock.advance(11)
        assert await cache.add("a", until + 10)


async def test_what_is_no_database(tmp_path: Path) -> None:
    """It says so each time, and keeps nothing open."""
    (tmp_path / "seen").write_text("no database" * 1000)
    (tmp_path / "seen").chmod(0o600)
    cache = SqliteReplayCache(tmp_path / "seen")
    for _ in range(2):
        with pytest.raises(sqlite3.DatabaseError):
            await cache.add("a", math.inf)


async def test_many_threads(tmp_path: Path) -> None:
    """Calls at once are told apart."""
    took: list[str] = []
    with closing(SqliteReplayCache(tmp_path / "seen")) as cache:

        async def add(name: str) -> None:
            if await cache.add(name, math.inf):
                took.append(name)

        async with anyio.create_task_group() as tasks:
            for number in range(40):
                tasks.start_soon(add, str(number % 8))
    assert sorted(map(str, range(8))) == sorted(took)


@pytest.mark.parametrize("kind", ["process", "file"])
async def test_attack_a_request_that_is_slow(kind: str, tmp_path: Path) -> None:
    """What has expired on its way is not taken, not even once: it would be forgotten at once, and taken again."""
    clock = ManualClock()
    cache = Once(9, clock) if kind == "process" else SqliteReplayCache(tmp_path / "seen", clock=clock)
    assert not await cache.add("a", clock.now().timestamp() - 1)
    assert not await cache.add("b", math.nan)
    if isinstance(cache, SqliteReplayCache):
        cache.close()


async def test_attack_a_file_that_was_taken_away(tmp_path: Path) -> None:
    """What was in it could come again: nothing is taken, until somebody opens another one."""
    path = tmp_path / "seen"
    with closing(SqliteReplayCache(path)) as cache, closing(SqliteReplayCache(path)) as another:
        assert await cache.add("a", math.inf)
        path.unlink()
        with pytest.raises(FileNotFoundError):
            await cache.add("a", math.inf)
        assert await another.add("b", math.inf)
        with pytest.raises(FileNotFoundError, match="not the file any more"):
            await cache.add("a", math.inf)


@pytest.mark.parametrize("what", ["others write it", "a link"])
async def test_attack_a_file_of_somebody_else(what: str, tmp_path: Path) -> None:
    """It could be made to forget."""
    path = tmp_path / "seen"
    (tmp_path / "there").touch(mode=0o600)
    if what == "a link":
        path.symlink_to(tmp_path / "there")
    else:
        path.touch()
        path.chmod(0o602)
    with pytest.raises(PermissionError):
        await SqliteReplayCache(path).add("a", math.inf)


async def test_before_a_fork(tmp_path: Path) -> None:
    """Nobody is in the middle of anything, and a child inherits nothing of SQLite's; after it all goes on."""
    with closing(SqliteReplayCache(tmp_path / "seen")) as cache:
        assert await cache.add("a", math.inf)
        _sqlite._before_fork()
        try:
            assert None is cache._open
        finally:
            _sqlite._LOCK.release()
        assert [False, True] == [await cache.add(name, math.inf) for name in "ab"]


#: A child that works with the file while its parent closes it: a name comes once, whoever of them takes it.
PARENT_AND_CHILD = """
import math, os, sys
from spiffe_client_mcp import SqliteReplayCache
path = sys.argv[1]
parent = SqliteReplayCache(path)
assert parent._add("before", math.inf)
ready, go_on = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    parent._add("child", math.inf)
    os.write(ready[1], b"1")
    os.read(go_on[0], 1)
    os._exit(parent._add("x", math.inf))
os.read(ready[0], 1)
parent.close()
assert SqliteReplayCache(path)._add("x", math.inf)
os.write(go_on[1], b"1")
assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""


def test_attack_a_worker_whose_parent_has_closed(tmp_path: Path) -> None:
    """What SQLite knows of a file before a fork has no locks after it, and so a name came twice."""
    done = subprocess.run(
        [sys.executable, "-c", PARENT_AND_CHILD, str(tmp_path / "seen")], capture_output=True, text=True, timeout=120
    )
    assert (0, "", "") == (done.returncode, done.stdout, done.stderr)


#: A server that has loaded its app, and forks: in a process of its own, which has no threads.
FORKING = """
import math, multiprocessing, sys
import anyio
from spiffe_client_mcp import SqliteReplayCache

def worker():
    begin.wait()

    async def add():
        return [name for name in map(str, range(50)) if await cache.add(name, math.inf)]

    took.put(anyio.run(add))
    cache.close()

context = multiprocessing.get_context("fork")
cache = SqliteReplayCache(sys.argv[1])
used = int(sys.argv[2])
if used:
    assert cache._add("0", math.inf)
begin, took = context.Event(), context.Queue()
workers = [context.Process(target=worker) for _ in range(6)]
for process in workers:
    process.start()
begin.set()
names = [name for _ in workers for name in took.get(timeout=60)]
for process in workers:
    process.join()
    assert 0 == process.exitcode
assert sorted(map(str, range(used, 50))) == sorted(names), names
assert not cache._add("1", math.inf)
cache.close()
"""


@pytest.mark.parametrize("used", ["0", "1"], ids=["new", "used before"])
def test_processes_that_are_forked(used: str, tmp_path: Path) -> None:
    """All at once, and each name is taken by one of them."""
    done = subprocess.run(
        [sys.executable, "-c", FORKING, str(tmp_path / "seen"), used], capture_output=True, text=True, timeout=120
    )
    assert (0, "", "") == (done.returncode, done.stdout, done.stderr)

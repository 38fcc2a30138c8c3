"""Who is on the other end of a unix socket."""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import Mapping
from dataclasses import replace

import pytest

from spiffe_client.dev._caller import Caller, caller_of


class FakeSocket:
    """A socket of another platform: what its kernel would answer."""

    def __init__(self, answers: Mapping[tuple[int, int], bytes]) -> None:
        self.answers = answers

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        try:
            return self.answers[level, option][:size]
        except KeyError:
            raise OSError("no such option") from None


def xucred(*, version: int = 0, uid: int = 501, groups: tuple[int, ...] = (20,)) -> bytes:
    return struct.pack("=IIhxx16I", version, uid, len(groups), *groups, *[0] * (16 - len(groups)))


def macos(credentials: bytes, pid: int = 77) -> FakeSocket:
    return FakeSocket({(0, 1): credentials, (0, 2): struct.pack("i", pid)})


class TestHere:
    def test_the_kernel_of_this_machine_is_asked(self) -> None:
        """A real pair of sockets, both ends ours: all on Linux, all but the path on macOS."""
        known = Caller(os.getuid(), os.getgid(), os.getpid(), os.path.realpath(sys.executable))
        expected = {"linux": known, "darwin": replace(known, path=None)}
        ours, theirs = socket.socketpair(socket.AF_UNIX)
        with ours, theirs:
            assert expected.get(sys.platform, Caller()) == caller_of(ours)


class TestLinux:
    def test_an_executable_that_is_not_ours_to_see(self) -> None:
        """A process that has ended, or another user's, has no path; the rest stays known."""
        gone = FakeSocket({(socket.SOL_SOCKET, getattr(socket, "SO_PEERCRED", 17)): struct.pack("3i", 2**22 + 1, 5, 6)})

        assert Caller(uid=5, gid=6, pid=2**22 + 1) == caller_of(gone, platform="linux")


class TestMacOs:
    def test_tells_user_group_and_process(self) -> None:
        """LOCAL_PEERCRED and LOCAL_PEERPID; the first group is the effective one."""
        assert Caller(uid=501, gid=20, pid=77) == caller_of(macos(xucred(groups=(20, 12))), platform="darwin")

    def test_no_groups(self) -> None:
        """Then there is no group to match."""
        assert Caller(uid=501, pid=77) == caller_of(macos(xucred(groups=())), platform="darwin")

    def test_a_structure_of_another_version_is_not_read(self) -> None:
        """A layout that is not known means nothing is known."""
        assert Caller() == caller_of(macos(xucred(version=1)), platform="darwin")

    def test_an_answer_cut_short_is_not_read(self) -> None:
        """So does half a structure."""
        assert Caller() == caller_of(macos(xucred()[:10]), platform="darwin")


class TestElsewhere:
    def test_nothing_is_known(self) -> None:
        """Only registrations for any caller match then."""
        assert Caller() == caller_of(FakeSocket({}), platform="win32")

    @pytest.mark.parametrize("platform", ["linux", "darwin"])
    def test_a_kernel_that_refuses_tells_nothing(self, platform: str) -> None:
        """An error is no identity."""
        assert Caller() == caller_of(FakeSocket({}), platform=platform)

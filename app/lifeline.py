"""Becomes another program that ends with its parent; run as a script, with the standard library only."""

import ctypes
import os
import signal
import sys
import time

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(arguments: list[str]) -> None:
    """Replace this process by `arguments[3:]`, as user and group `arguments[1:3]`, bound to parent `arguments[0]`."""
    parent, user, group, program, *rest = arguments
    if int(user) != os.geteuid():
        become(int(user), int(group))
    # After the change of user: changing credentials clears the parent-death signal.
    end_with(int(parent))
    os.execv(program, [program, *rest])  # noqa: S606 - replacing this process is the point


def become(user: int, group: int) -> None:
    """Give up root for good; supplementary groups go first, while that is still allowed."""
    os.setgroups([])
    os.setgid(group)
    os.setuid(user)


def end_with(parent: int) -> None:
    """Arrange for SIGINT, PostgreSQL's fast shutdown, when the parent is gone, however it ended."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGINT)
    else:
        watch(parent)
    if os.getppid() != parent:  # it died before the lines above
        sys.exit(1)


def watch(parent: int) -> None:
    """Leave a child behind that looks for the parent twice a second, where the kernel offers nothing better."""
    target = os.getpid()
    if os.fork():
        return
    while os.getppid() == target and is_running(parent):
        time.sleep(0.5)
    if os.getppid() == target:
        os.kill(target, signal.SIGINT)
    os._exit(0)


def is_running(process: int) -> bool:
    """Say whether a process exists, whoever owns it."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


if __name__ == "__main__":
    main(sys.argv[1:])

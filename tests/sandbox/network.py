"""Three machines: network namespaces for the tool, A and B, each leg between two of them a cable of its own that can be
cut alone. What a client of A does happens on A's machine, so that a cut leg is never a client's.

    tool --10.201.1-- a,  tool --10.201.2-- b,  a --10.201.3-- b        (.1 the first named, .2 the other)

A cut takes the far end down, as a pulled cable does: the near end isn't told, what is sent vanishes.
"""
import contextlib
import ctypes
import functools
import itertools
import os
import subprocess
import threading

LEGS = {"tool_a": ("tool", "a", 1), "tool_b": ("tool", "b", 2), "a_b": ("a", "b", 3)}
CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
_numbers = itertools.count()


def ip(*words):
    subprocess.run(["ip", *words], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


@functools.lru_cache(maxsize=1)
def network_reason():
    """Why there are no network namespaces here, or None: a named skip."""
    if os.getuid() != 0:
        return "network namespaces need root"
    name = f"co-try-{os.getpid()}"
    try:
        ip("netns", "add", name)
    except (OSError, subprocess.CalledProcessError) as error:
        return f"network namespaces aren't permitted here ({error})"
    try:
        ip("-n", name, "link", "add", "one", "type", "veth", "peer", "name", "two")
        return None
    except (OSError, subprocess.CalledProcessError) as error:
        return f"no veth in network namespaces here ({error})"
    finally:
        ip("netns", "del", name)


def _enter(fd):
    if _libc.setns(fd, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


class Home:
    """One machine."""

    def __init__(self, name, addresses):
        self.name, self.addresses = name, addresses  # addresses: as seen by whom
        self.path = f"/run/netns/{name}"
        self.prefix = ["nsenter", f"--net={self.path}"]

    @contextlib.contextmanager
    def inside(self):
        """What this thread connects in the block, it connects on this machine."""
        with open(f"/proc/self/task/{threading.get_native_id()}/ns/net", "rb") as back, open(self.path, "rb") as there:
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(back.fileno())


class Leg:
    def __init__(self, homes, ends, number):
        self.homes, self.ends, self.number = homes, ends, number

    def _set(self, state):
        ip("-n", self.homes[self.ends[1]].name, "link", "set", f"leg{self.number}", state)

    def cut(self):
        self._set("down")

    def restore(self):
        self._set("up")


class Network:
    def __init__(self):
        tag = f"co-{os.getpid()}-{next(_numbers)}"
        self.homes = {
            "tool": Home(f"{tag}-tool", {}),
            "a": Home(f"{tag}-a", {"tool": "10.201.1.2", "b": "10.201.3.1"}),
            "b": Home(f"{tag}-b", {"tool": "10.201.2.2", "a": "10.201.3.2"}),
        }
        self.legs = {}
        self.made = []
        try:
            self._make()
        except BaseException:
            self.stop()
            raise

    def _make(self):
        for home in self.homes.values():
            ip("netns", "add", home.name)
            self.made.append(home)
            ip("-n", home.name, "link", "set", "lo", "up")
        for leg, (near, far, number) in LEGS.items():
            one, two = self.homes[near].name, self.homes[far].name
            ip("link", "add", f"leg{number}", "netns", one, "type", "veth", "peer", "name", f"leg{number}", "netns", two)
            for end, name in ((1, one), (2, two)):
                ip("-n", name, "address", "add", f"10.201.{number}.{end}/24", "dev", f"leg{number}")
                ip("-n", name, "link", "set", f"leg{number}", "up")
            self.legs[leg] = Leg(self.homes, (near, far), number)

    def stop(self):
        while self.made:
            ip("netns", "del", self.made.pop().name)

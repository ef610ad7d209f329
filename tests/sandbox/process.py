"""Processes by their pid: children, state, signals. Nothing is ever ended by name."""
import ctypes
import os
import signal
import threading

from .wait import wait_for


PR_SET_CHILD_SUBREAPER = 36
# Servers that daemonize become children of this process, so that they can be reaped where no init does it: a
# PostgreSQL that was killed and stays a zombie keeps the next one from starting.
def adopt_orphans():
    """Of a new process, for itself: what it forks doesn't inherit it."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


adopt_orphans()


def reap(pids):
    """Of adopted children only: those of subprocess.Popen are Popen's to wait for."""
    for pid in pids:
        try:
            os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            pass


class Adopted:
    """What the tool's processes, and commands on a server's machine, leave to this process when they end. A kernel with a thousand
    zombies is slow to look through. A child that somebody waits for isn't taken from him: one of the tool is announced, and any
    other is in this session or leads its own."""

    def __init__(self):
        self.lock, self.awaited = threading.Lock(), set()

    def reap(self, name):
        with self.lock:
            reap(pid for pid in self.children() if stat_of(pid) == ("Z", os.getpid()) and
                 (name_of(pid) == name or session_of(pid) not in (None, pid, os.getsid(0))))

    def children(self):
        with open(f"/proc/self/task/{threading.main_thread().native_id}/children", encoding="ascii") as file:
            return {int(pid) for pid in file.read().split()} - self.awaited

    def dying(self, name):
        """Those of that name that were killed and aren't gone: the command line can't be read any more, while a thread that is in
        an fsync has all files and locks still."""
        with self.lock:
            return [pid for pid in self.children() if name_of(pid) == name and alive(pid) and not command_line(pid)]


def session_of(pid):
    try:
        return os.getsid(pid)
    except OSError:
        return None


def name_of(pid):
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8") as file:
            return file.read().rstrip("\n")
    except OSError:
        return None


adopted = Adopted()


def stat_of(pid):
    """(state, parent) of a process, or None."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rsplit(b")", 1)[1].split()
        return fields[0].decode(), int(fields[1])
    except (OSError, IndexError):
        return None


def alive(pid):
    stat = stat_of(pid) if pid else None
    return stat is not None and (stat[0] not in "ZX" or has_threads(pid))


def has_threads(pid):
    """A process whose first thread has ended lives on, with its files and locks, until the last has."""
    try:
        return len(os.listdir(f"/proc/{pid}/task")) > 1
    except OSError:
        return False


def family(pid):
    """The process and all its descendants."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            stat = stat_of(int(name))
            if stat:
                parents.setdefault(stat[1], []).append(int(name))
    found, todo = [], [pid]
    while todo:
        one = todo.pop()
        found.append(one)
        todo += parents.get(one, [])
    return found


def send(pid, number):
    try:
        os.kill(pid, number)
        return True
    except ProcessLookupError:
        return False


def stopped_family(pid):
    """The same, of a process that is stopped first: what it forked in between would be missed, a server's newest client for one."""
    if send(pid, signal.SIGSTOP):
        wait_for(lambda: (stat_of(pid) or "X")[0] in "TtZX", 60, f"process {pid} stops", 0.001)
    return family(pid)


def send_family(pid, number):
    for one in family(pid):
        send(one, number)


def end(pid, timeout_s=60.0):
    """SIGKILL, and seen gone (a zombie of somebody else's counts as gone)."""
    if pid and send(pid, signal.SIGKILL):
        send(pid, signal.SIGCONT)
        wait_for(lambda: not alive(pid), timeout_s, f"process {pid} ends")


def unread(port):
    """Whether somebody's request to this port of 127.0.0.1 lies there unread, as at a server that is frozen."""
    with open("/proc/net/tcp", encoding="ascii") as file:
        rows = [line.split() for line in file.readlines()[1:]]
    return any(row[1].endswith(f":{port:04X}") and row[3] == "01" and int(row[4].split(":")[1], 16) > 0 for row in rows)


def command_line(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read()
    except OSError:
        return b""


def with_argument(text):
    """Pids of processes whose command line contains `text` (a path of our own temporary folder)."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]
    return [pid for pid in pids if text.encode() in command_line(pid)]

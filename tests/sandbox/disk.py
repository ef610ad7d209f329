"""A disk of the journal's own that can be full, and one whose fsync fails."""
import errno
import functools
import os
import pathlib
import subprocess

SHIM = pathlib.Path(__file__).with_name("failing_fsync.c")
NETWORK_SHIM = pathlib.Path(__file__).with_name("network_disk.c")


@functools.lru_cache(maxsize=1)
def disk_reason():
    if os.getuid() != 0:
        return "mounting a small disk needs root"
    if not os.path.exists("/dev/loop-control"):
        return "there are no loop devices here"
    return None


class SmallDisk:
    """An ext4 of its own, in a file with holes: big enough for the journal of hundreds of runs."""

    def __init__(self, folder, megabytes=256):
        self.image, self.path = folder / "disk.image", folder / "disk"
        self.path.mkdir()
        with open(self.image, "wb") as file:
            file.truncate(megabytes << 20)
        run = functools.partial(subprocess.run, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        run(["mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-m", "0", str(self.image)])
        run(["mount", "-o", "loop", str(self.image), str(self.path)])
        self.filler = self.path / "filler"

    def fill(self):
        """Until not one more byte has room."""
        with open(self.filler, "wb", buffering=0) as file:
            room = os.statvfs(self.path)
            os.posix_fallocate(file.fileno(), 0, max(1, (room.f_bavail - 512) * room.f_frsize))
            file.seek(0, os.SEEK_END)
            for size in (1 << 16, 4096, 512, 1):
                try:
                    while True:
                        file.write(b"x" * size)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise

    def clear(self):
        self.filler.unlink(missing_ok=True)

    def stop(self):
        subprocess.run(["umount", "-l", str(self.path)], check=False, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class FailingSync:
    """fsync and fdatasync of the journal's files fail while a file is there: a shim before the C library."""

    def __init__(self, folder):
        self.library, self.trigger, self.seen = folder / "failing_fsync.so", folder / "fsync.fails", folder / "fsync.seen"
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(self.library), str(SHIM), "-ldl"], check=True,
                       stdin=subprocess.DEVNULL)
        self.environment = {"LD_PRELOAD": str(self.library), "CO_FSYNC_FAILS": str(self.trigger), "CO_FSYNC_SEEN": str(self.seen)}

    def begin(self):
        self.seen.unlink(missing_ok=True)
        self.trigger.touch()

    def end(self):
        self.trigger.unlink(missing_ok=True)

    def met(self):
        return self.seen.exists()


def network_disk(folder, magic):
    """The environment of a tool that takes `folder` for a network file system of this kind."""
    library = folder.parent / f"{folder.name}.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(NETWORK_SHIM), "-ldl"], check=True, stdin=subprocess.DEVNULL)
    return {"LD_PRELOAD": str(library), "CO_NETWORK_DISK": str(folder), "CO_NETWORK_TYPE": hex(magic)}

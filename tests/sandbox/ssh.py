"""An OpenSSH server of its own for a machine: what a config's `host.run` goes through between hosts."""
import getpass
import os
import shutil
import socket
import subprocess

from .wait import wait_for

SSHD = "/usr/sbin/sshd"


def missing():
    if not os.path.exists(SSHD) or not shutil.which("ssh") or not shutil.which("ssh-keygen"):
        return "ssh: no OpenSSH server (Debian's openssh-server)"
    return None


class Machine:
    """`with Machine(box, name) as machine`: machine.run is the prefix. The remote shell splits the words again, as every sshd has it."""

    def __init__(self, box, name):
        self.folder, self.port, self.child = box.folder / f"ssh {name}", box.free_port(), None  # a blank that somebody has to quote
        self.folder.mkdir(mode=0o700)
        for key in ("host", "client"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / key)], check=True, stdin=subprocess.DEVNULL)
        shutil.copy(self.folder / "client.pub", self.folder / "authorized")
        host_key = (self.folder / "host.pub").read_text(encoding="ascii").split()
        (self.folder / "known").write_text(f"[127.0.0.1]:{self.port} {host_key[0]} {host_key[1]}\n", encoding="ascii")
        (self.folder / "conf").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey \"{self.folder}/host\"\nAuthorizedKeysFile \"{self.folder}/authorized\"\n"
            "PidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin prohibit-password\nPasswordAuthentication no\n", encoding="utf-8")
        self.run = ["ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", f"UserKnownHostsFile=\"{self.folder}/known\"",
                    "-o", "GlobalKnownHostsFile=none", "-i", str(self.folder / "client"), "-p", str(self.port), f"{getpass.getuser()}@127.0.0.1"]

    def logins(self):
        return (self.folder / "log").read_text(encoding="utf-8").count("Accepted publickey")

    def answers(self):
        if self.child.poll() is not None:
            raise TimeoutError(f"sshd ended: {(self.folder / 'log').read_text()}")
        with socket.create_connection(("127.0.0.1", self.port), 2) as connection:
            return connection.recv(4) == b"SSH-"

    def __enter__(self):
        if os.getuid() == 0:
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)  # where its unit makes it
        self.child = subprocess.Popen([SSHD, "-D", "-f", str(self.folder / "conf"), "-E", str(self.folder / "log")], stdin=subprocess.DEVNULL)
        wait_for(self.answers, 20, "sshd answers")
        return self

    def __exit__(self, *error):
        self.child.terminate()
        self.child.wait(20)

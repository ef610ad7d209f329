"""Clusters as Debian makes them: pg_createcluster, pg_ctlcluster, the configuration outside of the data directory.

They are this sandbox's own: PG_CLUSTER_CONF_ROOT is its folder instead of /etc/postgresql, and data, log and socket lie there too."""
import os
import shutil
import subprocess

from .box import Server
from .postgresql import PASSWORD, PostgreSQL, binaries, own, run_as
from .wait import wait_for


class PostgreSQLDebian(PostgreSQL):
    @classmethod
    def missing(cls):
        if not shutil.which("pg_createcluster"):
            return "postgresql-debian: pg_createcluster isn't here (package postgresql-common)"
        return super().missing()

    def __init__(self, box, name):
        Server.__init__(self, box, name)
        self.programs = binaries()
        self.version, self.cluster = self.programs.split("/")[4], name.replace("-", "_")
        self.data = self.folder / "var" / self.version / self.cluster
        self.root = self.folder / "etc"
        self.etc = self.root / self.version / self.cluster
        password = self.folder / "password"
        password.write_text(PASSWORD + "\n", encoding="ascii")
        for path in (self.folder, self.root, self.folder / "socket", password):
            if not path.exists():
                path.mkdir()
            own(path)
        subprocess.run(["pg_createcluster", "-d", str(self.data), "-l", str(self.folder / "server.log"), "-p", str(self.port),
                        "-s", str(self.folder / "socket"), "--start-conf", "manual",
                        *(["-u", "postgres"] if os.getuid() == 0 else []), self.version, self.cluster, "--",
                        "--pwfile", str(password), "-k", "-N", "--locale", "C.UTF-8", "-E", "UTF8"],
                       check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL, cwd="/", env=self.environment)
        own(self.data.parent)  # as /var/lib/postgresql/15 belongs to postgres, so that a copy can be made beside
        password.unlink()
        with open(self.etc / "conf.d" / "test.conf", "w", encoding="ascii") as file:
            file.write("shared_buffers = 16MB\nmax_connections = 60\nmax_wal_senders = 10\nmax_wal_size = 256MB\nwal_keep_size = 128MB\n"
                       "log_line_prefix = '%m [%p] %a '\n")

    @property
    def environment(self):
        return {**os.environ, "PG_CLUSTER_CONF_ROOT": str(self.root)}

    def side_config(self):
        config = super().side_config()
        config["host"]["run"] = [*run_as(), "env", f"PG_CLUSTER_CONF_ROOT={self.root}"]
        return config

    def command(self, *arguments):
        """pg_ctlcluster knows start, stop and restart; it is told not to look for a systemd unit."""
        return ["pg_ctlcluster", "--skip-systemctl-redirect", self.version, self.cluster, arguments[-1]]

    def start_command(self):
        return self.command("start")

    def control(self, *arguments, check=True):
        return subprocess.run([*run_as(), *self.command(*arguments)], check=check, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, cwd="/", env=self.environment)

    def start(self, environment=None):
        self.control("start")
        wait_for(lambda: self.query("SELECT 1"), 20, f"{self.name} answers")

    def own_files(self):
        """What the administrator wrote for this server."""
        return {str(path.relative_to(self.etc)): path.read_text(encoding="utf-8") for path in sorted(self.etc.rglob("*"))
                if path.is_file() and not path.is_symlink()}  # the log is a link

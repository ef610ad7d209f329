"""Real PostgreSQL servers: initdb'ed once and copied, run as user postgres where the tests run as root."""
import atexit
import functools
import glob
import os
import pwd
import select
import shutil
import subprocess
import tempfile
import time

from . import process
from .box import Server, ServerMissing
from .wait import wait_for

try:
    import psycopg2
    import psycopg2.extensions
except ImportError as error:
    raise ServerMissing("postgresql: python3-psycopg2 isn't installed") from error

PASSWORD = "pg-secret-7Q"


def _wait(connection):
    """psycopg2's hook: no call outlives its connection's time limit, whatever the server does."""
    limit = time.monotonic() + getattr(connection, "limit_s", 5.0)
    while True:
        state = connection.poll()
        if state == psycopg2.extensions.POLL_OK:
            return
        left = limit - time.monotonic()
        reading = state == psycopg2.extensions.POLL_READ
        ready = select.select([connection.fileno()] if reading else [], [] if reading else [connection.fileno()], [],
                              max(left, 0))
        if not (ready[0] or ready[1]):
            raise psycopg2.OperationalError("no answer in time")


psycopg2.extensions.set_wait_callback(_wait)


@functools.lru_cache(maxsize=None)
def limited(seconds):
    """A connection class whose every call, connecting included, ends within so many seconds."""
    return type("Limited", (psycopg2.extensions.connection,), {"limit_s": seconds})


def binaries(major=None):
    """The folder of a server's programs: the newest of this system, or one of tools/make-postgresql-servers."""
    if major:
        folder = os.path.join(os.environ.get("CO_POSTGRESQL_SERVERS", "/nonexistent"), major, "bin")
        return os.path.realpath(folder) if os.path.exists(f"{folder}/postgres") else None
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/postgres"), key=lambda path: int(path.split("/")[4]))
    return os.path.dirname(found[-1]) if found else None


def run_as():
    return ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []


_templates = {}


def template(name, programs):
    """A cluster to copy; A's and B's have identifiers of their own."""
    if (name, programs) not in _templates:
        folder = tempfile.mkdtemp(prefix="changeover-initdb-")
        atexit.register(shutil.rmtree, folder, True)
        os.chmod(folder, 0o755)
        password = os.path.join(folder, "password")
        with open(password, "w", encoding="ascii") as file:
            file.write(PASSWORD + "\n")
        os.chmod(password, 0o644)
        data = os.path.join(folder, "data")
        os.mkdir(data, 0o700)
        own(data)
        subprocess.run([*run_as(), f"{programs}/initdb", "-D", data, "-U", "postgres", "-A", "scram-sha-256", "-k", "-N",
                        "--pwfile", password, "--locale", "C.UTF-8", "-E", "UTF8"], check=True, stdout=subprocess.DEVNULL,
                       stdin=subprocess.DEVNULL, cwd="/")
        _templates[name, programs] = data
    return _templates[name, programs]


def own(path):
    if os.getuid() == 0:
        who = pwd.getpwnam("postgres")
        os.chown(path, who.pw_uid, who.pw_gid)


class Client:
    def __init__(self, server, kind, timeout_s):
        self.server, self.kind, self.timeout_s, self.connection = server, kind, timeout_s, None
        if kind not in ("reconnecting", "slow"):
            self.connection = self.connect()

    def connect(self):
        options = "-c post_auth_delay=1" if self.kind == "slow" else ""
        user = "postgres" if self.kind == "superuser" else "app"
        return self.server.connect(user, timeout_s=self.timeout_s + (1 if self.kind == "slow" else 0), options=options)

    def write(self, key):
        connection = self.connection or self.connect()
        try:
            with connection.cursor() as cursor:
                if self.kind == "unlocking":
                    cursor.execute("SET default_transaction_read_only = off")
                    cursor.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE")
                if self.kind == "long":
                    cursor.execute("BEGIN")
                cursor.execute("INSERT INTO ledger VALUES (%s)", (key,))
                if self.kind == "long":
                    time.sleep(0.3)  # how long the transaction lasts
                    cursor.execute("COMMIT")
        finally:
            if connection is not self.connection:
                connection.close()

    def close(self):
        if self.connection:
            self.connection.close()


class PostgreSQL(Server):
    engine = "postgresql"
    major = None  # of this system
    kinds = ("ordinary", "superuser", "unlocking", "reconnecting", "slow", "long", "ordinary", "ordinary")

    @classmethod
    def missing(cls):
        if binaries(cls.major):
            return None
        return (f"postgresql {cls.major}: not in CO_POSTGRESQL_SERVERS (tools/make-postgresql-servers)" if cls.major
                else "postgresql: no server in /usr/lib/postgresql")

    @staticmethod
    def prepare_pair(pair, **options):
        box = pair.a.box
        secret = box.folder / "pg.password"
        secret.write_text(PASSWORD + "\n")
        secret.chmod(0o600)
        pair.extra.update(mode="physical", setup={"method": "basebackup"},
                          replication={"user": "changeover_replication", "password_file": str(secret)},
                          probe={"user": "app", "password_file": str(secret)}, **options)

    @staticmethod
    def fill(pair):
        connection = pair.a.connect("postgres", "postgres")
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'")
            cursor.execute("CREATE DATABASE app OWNER app")
        connection.close()
        connection = pair.a.connect("app")
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE ledger (key text PRIMARY KEY)")
            cursor.execute("INSERT INTO ledger SELECT 'before-' || n FROM generate_series(1, 200) n")
        connection.close()

    def __init__(self, box, name):
        super().__init__(box, name)
        self.data = self.folder / "data"
        self.programs = binaries(self.major)
        shutil.copytree(template(name[-1], self.programs), self.data, symlinks=True)
        self.folder.chmod(0o755)
        with open(self.data / "postgresql.conf", "a", encoding="ascii") as file:
            file.write(f"port = {self.port}\nlisten_addresses = '{self.bind}'\nunix_socket_directories = ''\n"
                       "shared_buffers = 16MB\nmax_connections = 60\nmax_prepared_transactions = 5\nwal_level = replica\nmax_wal_senders = 10\n"
                       "max_wal_size = 256MB\nhot_standby = on\nwal_log_hints = on\nautovacuum_naptime = 5s\n"
                       "wal_keep_size = 128MB\nlog_line_prefix = '%m [%p] %a '\n")
        if self.home:
            with open(self.data / "pg_hba.conf", "a", encoding="ascii") as file:
                file.write("host all all 10.201.0.0/16 scram-sha-256\nhost replication all 10.201.0.0/16 scram-sha-256\n")
        self.own_all()

    def own_all(self):
        own(self.folder)
        for top, folders, files in os.walk(self.data):
            for one in folders + files:
                own(os.path.join(top, one))
        own(self.data)

    def control(self, *arguments, check=True):
        return subprocess.run([*self.prefix, *run_as(), *self.command(*arguments)], check=check, stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")

    def command(self, *arguments):
        return [f"{self.programs}/pg_ctl", "-D", str(self.data), "-s", "-w", "-t", "60", *arguments]

    def start_command(self):
        return self.command("-l", str(self.folder / "server.log"), "start")

    def pid(self):
        """What was killed leaves its number in the file, and the number goes to another process some time."""
        try:
            with open(self.data / "postmaster.pid", encoding="ascii") as file:
                pid = int(file.readline())
            return pid if str(self.data).encode() in process.command_line(pid).split(b"\0") and process.alive(pid) else None
        except (OSError, ValueError):
            return None

    def kill(self):
        pids = process.stopped_family(self.pid()) if self.pid() else []  # one that is left keeps the next server from its shared memory
        super().kill()

        def gone():
            process.reap(pids)
            return not any(os.path.exists(f"/proc/{pid}") for pid in pids)

        wait_for(gone, 20, f"{self.name} is gone")

    def start(self, environment=None):
        subprocess.run([*self.prefix, *run_as(), *self.start_command()], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                       cwd="/", env={**os.environ, **(environment or {})})

    def stop(self):
        if self.pid():
            self.control("-m", "fast", "stop")

    def url(self):
        return f"postgresql://postgres@{self.address_for('tool')}:{self.port}/postgres"

    def side_config(self):
        config = {"url": self.url(), "password_file": str(self.box.folder / "pg.password"),
                  "host": {"run": [*self.prefix, *run_as()], "data_directory": str(self.data), "start": self.start_command(),
                           "stop": self.command("-m", "fast", "stop")}}
        if self.major:
            config["host"]["bin_directory"] = self.programs
        if self.home:
            config.update(peer={"address": f"{self.address_for(self.other_name)}:{self.port}"}, tls={"mode": "off"})
        return config

    def connect(self, user, database="app", timeout_s=20.0, options=""):
        # connect_timeout isn't used: the hook above keeps the limit
        with self.inside():
            connection = psycopg2.connect(host="127.0.0.1", port=self.port, user=user, password=PASSWORD, dbname=database,
                                          connection_factory=limited(timeout_s), application_name="writer", options=options)
        connection.autocommit = True
        return connection

    def client(self, kind, timeout_s=2.0):
        return Client(self, kind, timeout_s)

    def query(self, statement, database="postgres", user="postgres"):
        connection = self.connect(user, database)
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def read_all(self):
        return {row[0] for row in self.query("SELECT key FROM ledger", "app")}

    def open_database(self):
        """A fenced server lets nobody into any database but the tool's own."""
        try:
            self.connect("postgres", "postgres").close()
            return "postgres"
        except psycopg2.OperationalError as error:
            if "not currently accepting connections" not in str(error):
                raise
            return "changeover"

    def settings(self):
        found, database = {}, self.open_database()
        for name, value in self.query("SELECT name, setting FROM pg_settings WHERE source NOT IN ('default', 'client', 'override',"
                                      " 'session')", database):
            found[f"setting {name}"] = value
        for row in self.query("SELECT datname, datallowconn, datconnlimit FROM pg_database", database):
            found[f"database {row[0]}"] = row[1:]
        for row in self.query("SELECT rolname, rolcanlogin, rolsuper, rolconnlimit FROM pg_roles", database):
            found[f"role {row[0]}"] = row[1:]
        for row in self.query("SELECT coalesce(r.rolname, ''), coalesce(d.datname, ''), setconfig FROM pg_db_role_setting s"
                              " LEFT JOIN pg_roles r ON r.oid = setrole LEFT JOIN pg_database d ON d.oid = setdatabase", database):
            found[f"setting of {row[0]} in {row[1]}"] = row[2]
        for row in self.query("SELECT slot_name, slot_type FROM pg_replication_slots", database):
            found[f"slot {row[0]}"] = row[1]
        for name in ("postgresql.auto.conf", "pg_hba.conf"):
            lines = (self.data / name).read_text(encoding="utf-8").splitlines()
            found[f"file {name}"] = tuple(line for line in lines if line.strip() and not line.startswith("#"))
        return found

    def set_apply_delay(self, ms):
        self.query(f"ALTER SYSTEM SET recovery_min_apply_delay = {ms}")
        self.query("SELECT pg_reload_conf()")

    def cut_link(self, cut):
        """Stops the walreceiver for good, by a source that doesn't exist; and back."""
        if cut:
            self.kept = self.query("SHOW primary_conninfo")[0][0]
            self.query("ALTER SYSTEM SET primary_conninfo = 'host=127.0.0.1 port=1'")
        else:
            quoted = self.kept.replace("'", "''")
            self.query(f"ALTER SYSTEM SET primary_conninfo = '{quoted}'")
        self.query("SELECT pg_reload_conf()")
        wait_for(lambda: bool(self.query("SELECT 1 FROM pg_stat_wal_receiver")) != cut, 20, "walreceiver")

    def pause_apply(self, paused):
        # through the tool's own database: a closed B lets in nobody elsewhere
        self.query(f"SELECT pg_wal_replay_{'pause' if paused else 'resume'}()", "changeover")


class PostgreSQLStop(PostgreSQL):
    """The other way to fence: the old primary is shut down."""

    @staticmethod
    def prepare_pair(pair, **options):
        PostgreSQL.prepare_pair(pair, **{"fence": "stop", **options})


class PostgreSQL13(PostgreSQL):
    major = "13"


class PostgreSQL17(PostgreSQL):
    major = "17"


class PostgreSQL18(PostgreSQL):
    major = "18"

"""What a careful person would script by hand for one engine, over connections that are open beforehand, with a fence
as strong as the tool's but no guardian, no journal, no undo. One class an engine:

    __init__(pair, box)   sets replication a -> b up and opens the connections
    switch()              -> {part: milliseconds}, the parts of the pause
"""
import subprocess
import time


class Stopwatch:
    def __init__(self):
        self.parts, self.last = {}, time.monotonic_ns()

    def part(self, name):
        now = time.monotonic_ns()
        self.parts[name] = (now - self.last) / 1e6
        self.last = now


class PostgreSQL:
    """Fence: no database but the script's own accepts connections; sessions ended and seen gone. B is closed by its
    own pg_hba.conf, opened by putting the old one back."""

    def __init__(self, pair, box):
        from sandbox import postgresql as pg

        self.pair, self.pg = pair, pg
        admin = pair.a.connect("postgres", "postgres")
        admin.autocommit = True
        with admin.cursor() as cursor:
            cursor.execute("CREATE DATABASE bare")
            cursor.execute(f"CREATE ROLE bare_repl LOGIN REPLICATION PASSWORD '{pg.PASSWORD}'")
        admin.close()
        self.copy(box)
        self.a = self.connect(pair.a)
        self.b = self.connect(pair.b)
        self.hba = pair.b.data / "pg_hba.conf"
        self.original = self.hba.read_text()

    def connect(self, server):
        connection = server.connect("bare", "postgres", timeout_s=60)
        connection.autocommit = True
        return connection

    def copy(self, box):
        a, b = self.pair.a, self.pair.b
        b.stop()
        keep = {name: (b.data / name).read_bytes() for name in ("postgresql.conf", "pg_hba.conf")}
        subprocess.run(["rm", "-rf", str(b.data)], check=True)
        conninfo = f"host=127.0.0.1 port={a.port} user=bare_repl password={self.pg.PASSWORD}"
        subprocess.run([*self.pg.run_as(), f"{self.pg.binaries()}/pg_basebackup", "-d", conninfo, "-D", str(b.data), "-R", "-c", "fast"],
                       check=True, stdin=subprocess.DEVNULL, cwd="/")
        for name, text in keep.items():
            (b.data / name).write_bytes(text)
        b.own_all()
        b.start()

    def one(self, connection, statement):
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchone()[0] if cursor.description else None

    def databases(self, connection, accept):
        with connection.cursor() as cursor:
            cursor.execute("SELECT datname FROM pg_database WHERE datname NOT IN ('bare', 'template0')")
            names = [row[0] for row in cursor.fetchall()]
            cursor.execute(";".join(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS {accept}' for name in names))

    def switch(self):
        watch = Stopwatch()
        self.one(self.a, "CHECKPOINT")
        closed = "local all all reject\nhost bare postgres all scram-sha-256\nhost all all all reject\n"
        self.hba.write_text(closed)
        self.one(self.b, "SELECT pg_reload_conf()")
        foreign = ("FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()")
        self.one(self.b, f"SELECT count(pg_terminate_backend(pid)) {foreign}")
        watch.part("before the pause")
        watch.parts.clear()
        self.databases(self.a, "false")
        watch.part("fence")
        while self.one(self.a, f"SELECT count(pg_terminate_backend(pid)) {foreign}"):
            pass
        watch.part("drain")
        position = self.one(self.a, "SELECT pg_current_wal_insert_lsn()")
        while not self.one(self.b, f"SELECT pg_last_wal_replay_lsn() >= '{position}'"):
            pass
        watch.part("catch_up")
        self.one(self.b, "SELECT pg_promote(true, 60)")
        watch.part("promote")
        self.hba.write_text(self.original)
        self.one(self.b, "SELECT pg_reload_conf()")
        self.databases(self.b, "true")
        watch.part("open")
        return watch.parts


ENGINES = {"postgresql": PostgreSQL}


def make(engine, pair, box):
    return ENGINES[engine](pair, box)

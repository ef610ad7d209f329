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
        connection = server.connect("postgres", "bare", timeout_s=60)
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


class MariaDB:
    """Fence: every account but the script's own and replication's locked, read_only, sessions ended and seen gone. B is
    closed in the same way before the pause."""

    def __init__(self, pair, box):
        from sandbox import mariadb

        self.pair, self.tool, self.password = pair, mariadb.TOOL, mariadb.PASSWORD
        self.a, self.b = pair.a.connect(self.tool, timeout_s=60), pair.b.connect(self.tool, timeout_s=60)
        self.run(self.a, f"CREATE USER bare_repl@'%' IDENTIFIED BY '{self.password}'", "GRANT REPLICATION SLAVE ON *.* TO bare_repl@'%'")
        for connection in (self.a, self.b):
            self.run(connection, "SET sql_log_bin=0", "SET lock_wait_timeout=2")
        self.copy(box)
        self.accounts = ", ".join(row[0] for row in self.rows(
            self.a, "SELECT CONCAT(QUOTE(User), '@', QUOTE(Host)) FROM mysql.user WHERE User NOT IN "
                    f"('{self.tool}', 'bare_repl', 'mariadb.sys', 'PUBLIC') AND User NOT LIKE 'mysql.%' AND Host <> ''"))

    def copy(self, box):
        options = box.folder / f"bare-{self.pair.a.port}.cnf"
        options.write_text(f"[client]\nuser={self.tool}\npassword={self.password}\nhost=127.0.0.1\nprotocol=tcp\n")
        options.chmod(0o600)
        self.run(self.b, "RESET MASTER", "SET GLOBAL read_only=1")
        subprocess.run(f"mariadb-dump --defaults-file={options} -P {self.pair.a.port} --single-transaction --routines --master-data=1 --gtid "
                       f"--databases app | mariadb --defaults-file={options} -P {self.pair.b.port} --init-command='SET sql_log_bin=0'",
                       shell=True, check=True)
        for user in ("app@'%'", "bare_repl@'%'"):
            for row in self.rows(self.a, f"SHOW CREATE USER {user}") + self.rows(self.a, f"SHOW GRANTS FOR {user}"):
                self.run(self.b, row[0])
        self.run(self.b, f"CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={self.pair.a.port}, MASTER_USER='bare_repl', "
                         f"MASTER_PASSWORD='{self.password}', MASTER_USE_GTID=slave_pos", "START SLAVE")

    @staticmethod
    def rows(connection, statement):
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall()

    def run(self, connection, *statements):
        for statement in statements:
            self.rows(connection, statement)

    def end(self, connection):
        foreign = self.rows(connection, "SELECT ID FROM information_schema.PROCESSLIST WHERE ID <> CONNECTION_ID() AND COMMAND NOT LIKE "
                                        f"'Binlog Dump%' AND USER NOT IN ('system user', 'event_scheduler', 'bare_repl', '{self.tool}', "
                                        "'unauthenticated user')")
        for row in foreign:
            try:
                self.run(connection, f"KILL {row[0]}")
            except Exception:  # gone already
                pass
        return len(foreign)

    def switch(self):
        self.run(self.b, f"ALTER USER {self.accounts} ACCOUNT LOCK")
        while self.end(self.b):
            pass
        watch = Stopwatch()
        self.run(self.a, f"ALTER USER {self.accounts} ACCOUNT LOCK", "SET GLOBAL read_only=1")
        watch.part("fence")
        while self.end(self.a):
            pass
        watch.part("drain")
        position = self.rows(self.a, "SELECT @@GLOBAL.gtid_binlog_pos")[0][0]
        self.run(self.b, f"SELECT MASTER_GTID_WAIT('{position}', 30)")
        watch.part("catch_up")
        self.run(self.b, "STOP SLAVE", "RESET SLAVE ALL")
        watch.part("promote")
        self.run(self.b, f"ALTER USER {self.accounts} ACCOUNT UNLOCK", "SET GLOBAL read_only=0")
        watch.part("open")
        return watch.parts


class MySQL(MariaDB):
    """The same fence, with super_read_only, persisted as the tool has it."""

    def copy(self, box):
        a, b = self.pair.a, self.pair.b
        options = box.folder / f"bare-{a.port}.cnf"
        options.write_text(f"[client]\nuser={self.tool}\npassword={self.password}\nhost=127.0.0.1\nprotocol=tcp\n")
        options.chmod(0o600)
        self.run(self.b, "RESET BINARY LOGS AND GTIDS")
        subprocess.run(f"{a.program('mysqldump')} --defaults-file={options} -P {a.port} --single-transaction --routines --set-gtid-purged=ON "
                       f"--databases app | {b.program('mysql')} --defaults-file={options} -P {b.port} --init-command='SET sql_log_bin=0'",
                       shell=True, check=True)
        for user, grants in (("app", "SHOW GRANTS FOR app@'%'"), ("bare_repl", "SHOW GRANTS FOR bare_repl@'%'")):
            self.run(self.b, f"CREATE USER {user}@'%' IDENTIFIED BY '{self.password}'", *(row[0] for row in self.rows(self.a, grants)))
        self.run(self.b, f"CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT={a.port}, SOURCE_USER='bare_repl', "
                         f"SOURCE_PASSWORD='{self.password}', SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1", "START REPLICA")

    def switch(self):
        self.run(self.b, f"ALTER USER {self.accounts} ACCOUNT LOCK", "SET PERSIST super_read_only=1", "SET PERSIST read_only=1")
        while self.end(self.b):
            pass
        watch = Stopwatch()
        self.run(self.a, f"ALTER USER {self.accounts} ACCOUNT LOCK", "SET PERSIST super_read_only=1", "SET PERSIST read_only=1")
        watch.part("fence")
        while self.end(self.a):
            pass
        watch.part("drain")
        position = self.rows(self.a, "SELECT REPLACE(@@GLOBAL.gtid_executed, '\\n', '')")[0][0]
        self.run(self.b, f"SELECT WAIT_FOR_EXECUTED_GTID_SET('{position}', 30)")
        watch.part("catch_up")
        self.run(self.b, "STOP REPLICA", "RESET REPLICA ALL")
        watch.part("promote")
        self.run(self.b, "SET PERSIST super_read_only=0", f"ALTER USER {self.accounts} ACCOUNT UNLOCK", "SET PERSIST read_only=0")
        watch.part("open")
        return watch.parts


class Redis:
    """Fence: min-replicas-to-write in the config file, with a pause on top; B is closed by its own, on its disk too."""

    def __init__(self, pair, box):
        self.pair = pair
        self.a, self.b = pair.a.connect("default", timeout_s=30), pair.b.connect("default", timeout_s=30)
        self.b.execute_command("REPLICAOF", "127.0.0.1", str(pair.a.port))
        while self.b.info("replication")["master_link_status"] != "up":
            pass
        self.b.execute_command("CONFIG", "REWRITE")
        self.a.set("settled", "x")  # a new replica gets the stream only after its first acknowledgement, a second later
        while not self.b.exists("settled"):
            pass

    def switch(self):
        watch = Stopwatch()
        self.b.execute_command("CONFIG", "SET", "min-replicas-to-write", "999")
        self.b.execute_command("CONFIG", "REWRITE")
        watch.part("before the pause")
        watch.parts.clear()
        with self.a.pipeline(transaction=True) as transaction:
            transaction.execute_command("CONFIG", "SET", "min-replicas-to-write", "999")
            transaction.execute_command("CONFIG", "REWRITE")
            transaction.execute_command("CLIENT", "PAUSE", "60000", "WRITE")
            transaction.info("replication")
            offset = transaction.execute()[-1]["master_repl_offset"]
        watch.part("fence")
        while self.b.info("replication")["slave_repl_offset"] < offset:
            pass
        watch.part("catch_up")
        self.b.execute_command("REPLICAOF", "NO", "ONE")
        self.b.execute_command("CONFIG", "REWRITE")
        watch.part("promote")
        with self.b.pipeline(transaction=True) as transaction:
            transaction.execute_command("CONFIG", "SET", "min-replicas-to-write", "0")
            transaction.execute_command("CONFIG", "REWRITE")
            transaction.execute()
        watch.part("open")
        return watch.parts


class RedisFailover(Redis):
    """The server's own FAILOVER, which puts nothing on disk."""

    def switch(self):
        watch = Stopwatch()
        self.a.execute_command("FAILOVER", "TO", "127.0.0.1", str(self.pair.b.port), "TIMEOUT", "5000")
        while self.b.info("replication")["role"] != "master":
            pass
        watch.part("failover")
        return watch.parts


class MongoDB:
    """What an operator does: the target gets its vote and priority beforehand, then the primary steps down for it. Below 6.0 there
    is no fence but the step-down. `nudge`: the target is asked to stand at once, too."""

    nudge = False

    def __init__(self, pair, box):
        self.pair = pair
        pair.a.join(pair.b)
        self.a, self.b = pair.a.connect("root", timeout_s=60), pair.b.connect("root", timeout_s=60)
        self.a.command("admin", {"isMaster": 1, "hangUpOnStepDown": False})

    def switch(self):
        watch = Stopwatch()
        self.a.command("admin", {"replSetStepDown": 20, "secondaryCatchUpPeriodSecs": 10})
        watch.part("step down")
        if self.nudge:
            try:
                self.b.command("admin", {"replSetStepUp": 1})
            except RuntimeError:
                pass  # it is being elected
        while self.b.command("admin", {"replSetGetStatus": 1})["myState"] != 1:
            pass
        watch.part("election")
        while not self.b.command("admin", {"isMaster": 1})["ismaster"]:
            pass
        watch.part("drain")
        return watch.parts


class MongoDBNudged(MongoDB):
    nudge = True


ENGINES = {"mongodb": MongoDB, "postgresql": PostgreSQL, "mariadb": MariaDB, "mysql": MySQL, "redis": Redis, "valkey": Redis}

# what the server itself offers, measured beside the script: (how it is called in the table, class)
OWN = {"mongodb": ("and replSetStepUp", MongoDBNudged), "redis": ("FAILOVER", RedisFailover), "valkey": ("FAILOVER", RedisFailover)}


def of(engine):
    """[(who, make(pair, box))] to measure the tool against."""
    return [("bare script", ENGINES[engine]), *([OWN[engine]] if engine in OWN else [])]

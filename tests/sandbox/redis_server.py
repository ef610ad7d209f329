"""Real Redis (and Valkey) servers. Newer ones than the system's come from CO_NEWER_SERVERS, a folder that
tools/make-newer-servers makes, older ones from CO_OLDER_SERVERS/<release>/bin, where you put them.
CO_REDIS_SERVER names another redis-server for engine "redis"."""
import os
import pathlib
import re
import shutil
import subprocess
import time

from .box import Server, ServerMissing
from .wait import wait_for

try:
    import redis
except ImportError as error:
    raise ServerMissing("redis: python3-redis isn't installed") from error

PASSWORDS = {"default": "rd-secret-7Q", "app": "app-secret-7Q", "repl": "repl-secret-7Q"}


class Client:
    """Kinds: long is a MULTI/EXEC, superuser is the default user with every right, blocking is a blocking move,
    expiring leaves many keys behind that expire within milliseconds."""

    def __init__(self, server, kind, timeout_s):
        self.server, self.kind, self.timeout_s, self.connection = server, kind, timeout_s, None
        if kind != "reconnecting":
            self.connection = self.connect()
            self.connection.ping()

    def connect(self):
        return self.server.connect("default" if self.kind == "superuser" else "app", self.timeout_s)

    def write(self, key):
        connection = self.connection or self.connect()
        try:
            if self.kind == "script":
                connection.eval("return redis.call('SET', KEYS[1], 'x')", 1, f"ledger:{key}")
            elif self.kind == "long":
                with connection.pipeline(transaction=True) as transaction:
                    transaction.set(f"ledger:{key}", "x")
                    transaction.execute()
            elif self.kind == "pipelined":
                with connection.pipeline(transaction=False) as pipeline:
                    for i in range(8):
                        pipeline.set(f"filler:{i}", key)
                    pipeline.set(f"ledger:{key}", "x")
                    pipeline.execute()
            elif self.kind == "blocking":
                connection.rpush(f"queue:{key}", key)
                if connection.execute_command("BLMOVE", f"queue:{key}", "ledgerlist", "LEFT", "RIGHT", 1) != key:
                    raise RuntimeError("nothing was moved")
            elif self.kind == "expiring":
                with connection.pipeline(transaction=False) as pipeline:
                    for i in range(8):
                        pipeline.set(f"brief:{key}:{i}", "x", px=5 + i)
                    pipeline.set(f"ledger:{key}", "x", ex=3600)
                    pipeline.execute()
            else:
                connection.set(f"ledger:{key}", "x")
        finally:
            if connection is not self.connection:
                connection.close()

    def close(self):
        if self.connection:
            self.connection.close()


def in_order(line):
    """A line of ACL LIST that restarts don't change: a server that was started from a rewritten config file names a default that
    others don't, and single commands (which come last) are listed in another order after each start."""
    words = line.replace(" sanitize-payload", "").split()
    end = len(words)
    while end and words[end - 1][0] in "+-" and words[end - 1][1:2] != "@":
        end -= 1
    return " ".join(words[:end] + sorted(words[end:]))


class Redis(Server):
    engine = "redis"
    scheme = "redis"
    b_class = None
    one_way = None
    program = "redis-server"
    kinds = ("ordinary", "superuser", "reconnecting", "long", "script", "pipelined", "blocking", "expiring")

    newer = False  # the system's own may be too old
    persistence = 'appendonly yes\nsave ""\n'

    @classmethod
    def binary(cls):
        folder = os.environ.get("CO_NEWER_SERVERS")
        found = pathlib.Path(folder) / "bin" / cls.program if folder and cls.newer else None
        if found and found.exists():
            return str(found)
        return os.environ.get("CO_REDIS_SERVER") if cls is Redis and "CO_REDIS_SERVER" in os.environ else cls.system()

    @classmethod
    def system(cls):
        return shutil.which(cls.program)

    @classmethod
    def version(cls):
        """(7, 0): of the program, as it says itself."""
        found = re.search(r"v=(\d+)\.(\d+)", subprocess.run([cls.binary(), "--version"], capture_output=True, text=True, check=True).stdout)
        return int(found[1]), int(found[2])

    @classmethod
    def missing(cls):
        for one in (cls, cls.b_class or cls):
            if not one.binary():
                return f"{one.__name__}: no {one.program} (tools/make-newer-servers makes one; CO_NEWER_SERVERS says where)"
        return None

    @staticmethod
    def prepare_pair(pair, legs=False, **options):
        if legs:
            from .proxy import Proxy

            ports = {"tool_a": pair.a, "tool_b": pair.b, "a_b": pair.b, "b_a": pair.a}
            made = {name: Proxy(pair.a.box.free_port(), server.port) for name, server in ports.items()}
            pair.a.box.proxies.extend(made.values())
            pair.legs = made
            pair.a.reached, pair.a.peer = made["tool_a"].port, made["b_a"].port
            pair.b.reached, pair.b.peer = made["tool_b"].port, made["a_b"].port
        for user, password in PASSWORDS.items():
            secret = pair.a.box.folder / f"redis-{user}.password"
            secret.write_text(password + "\n")
            secret.chmod(0o600)
        if pair.a.acl:
            pair.extra.update(probe={"user": "app", "password_file": str(pair.a.box.folder / "redis-app.password")})
        pair.extra.update(options)

    @staticmethod
    def fill(pair):
        connection = pair.a.connect("default")
        for i in range(200):
            connection.set(f"ledger:before-{i}", "x")
        connection.close()

    def __init__(self, box, name):
        super().__init__(box, name)
        self.child = None
        self.reached, self.peer = self.port, None  # by the tool, by the other server
        version = self.version()
        self.acl = version >= (6, 0)
        if version < (6, 2):
            self.kinds = tuple(kind for kind in self.kinds if kind != "blocking")  # BLMOVE is 6.2's
        if version < (6, 0):
            self.kinds = tuple(kind for kind in self.kinds if kind != "script")  # nothing fences scripts there
        channels = " &*" if version >= (6, 2) else ""
        app = f"user app on >{PASSWORDS['app']} ~*{channels} +@all -@admin -@dangerous\n" if self.acl else ""
        (self.folder / "redis.conf").write_text(
            f"port {self.port}\nbind {self.bind}\ndir {self.folder}\n{self.persistence}repl-diskless-sync-delay 0\n"
            f"requirepass {PASSWORDS['default']}\nmasterauth {PASSWORDS['default']}\nlogfile {self.folder}/server.log\n"
            f"{app}repl-backlog-size 8mb\nrepl-timeout 10\n")

    def pid(self):
        return self.child.pid if self.child and self.child.poll() is None else None

    def start(self):
        self.child = subprocess.Popen([*self.prefix, self.binary(), str(self.folder / "redis.conf")], stdin=subprocess.DEVNULL,
                                      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(self.answers, 60, f"{self.name} answers")

    def answers(self):
        try:
            connection = self.connect("default")
            connection.ping()
            connection.close()
            return True
        except redis.RedisError as error:
            raise RuntimeError(str(error)) from error

    def kill(self):
        super().kill()
        if self.child:
            self.child.wait()

    def stop(self):
        if self.pid():
            self.child.terminate()
            try:
                self.child.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()

    def url(self):
        return f"{self.scheme}://{self.address_for('tool')}:{self.reached}"

    def side_config(self):
        config = {"url": self.url(), "password_file": str(self.box.folder / "redis-default.password")}
        if self.peer or self.home:
            config["peer"] = {"address": f"{self.address_for(self.other_name)}:{self.peer or self.port}"}
        if self.home:
            config["tls"] = {"mode": "off"}
        return config

    def connect(self, user="default", timeout_s=20.0):
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        if not self.acl:
            user = "default"
        with self.inside():
            return redis.Redis(host="127.0.0.1", port=self.port, username=user if self.acl else None, password=PASSWORDS[user],
                               socket_timeout=timeout_s, socket_connect_timeout=timeout_s, decode_responses=True,
                               retry=Retry(NoBackoff(), 0), retry_on_timeout=False, single_connection_client=True)

    def client(self, kind, timeout_s=2.0):
        return Client(self, kind, timeout_s)

    def read_all(self):
        connection = self.connect("default")
        keys = {key.split(":", 1)[1] for key in connection.scan_iter("ledger:*", count=5000)}
        keys.update(connection.lrange("ledgerlist", 0, -1))
        connection.close()
        return keys

    def settings(self):
        connection = self.connect("default")
        volatile = {"oom-score-adj-values"}
        found = {f"setting {key}": value for key, value in connection.config_get("*").items() if key not in volatile}
        for line in connection.acl_list() if self.acl else ():
            found[f"acl {line.split()[1]}"] = in_order(line)
        found["role"] = connection.role()[0]
        connection.close()
        return found

    def cut_link(self, cut):
        connection = self.connect("default")
        if cut:
            info = connection.info("replication")
            self.kept = (info["master_host"], info["master_port"])
            connection.execute_command("REPLICAOF", "127.0.0.1", "1")
        else:
            connection.execute_command("REPLICAOF", *self.kept)
        connection.close()


class Valkey(Redis):
    engine = "valkey"
    scheme = "valkey"
    program = "valkey-server"
    newer = True


class Redis8(Redis):
    """The newer Redis."""

    newer = True

    @classmethod
    def system(cls):
        return None


class Older(Redis):
    """A version before the system's: CO_OLDER_SERVERS/<release>/bin/<program>."""

    release = ""

    @classmethod
    def binary(cls):
        folder = os.environ.get("CO_OLDER_SERVERS")
        found = pathlib.Path(folder) / cls.release / "bin" / cls.program if folder else None
        return str(found) if found and found.exists() else None

    @classmethod
    def missing(cls):
        return None if cls.binary() else f"{cls.release}: not there (CO_OLDER_SERVERS names the folder of <release>/bin/<program>)"


class Redis50(Older):
    release = "redis-5.0"


class Redis60(Older):
    release = "redis-6.0"


class Redis62(Older):
    release = "redis-6.2"


class Redis74(Older):
    release = "redis-7.4"


class Valkey72(Older):
    engine = "valkey"
    scheme = "valkey"
    program = "valkey-server"
    release = "valkey-7.2"


class RedisToValkey(Redis):
    """A is the system's Redis, B the newer Valkey."""

    engine = "valkey"
    b_class = Valkey
    one_way = "redis"  # A can't load a full copy of B's; the points that a run passes are this engine's

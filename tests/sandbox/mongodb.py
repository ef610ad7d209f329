"""MongoDB: a real mongod found through MONGOD or on the PATH, or (engines "mongodb-double*") the double of a replica set
member in mongodb_double.py, which is no MongoDB."""
import json
import os
import pathlib
import re
import shutil
import ssl
import subprocess
import sys

from . import mongodb_double_wire as wire
from . import process
from .box import Server
from .wait import wait_for

PASSWORDS = {"tool": "mg-secret-7Q", "app": "app-secret-7Q", "root": "root-secret-7Q"}
READS_IN_S = 60.0  # what is looked at when a run is over: a whole ledger is much for a double on a busy machine
ROLES = {"tool": ["clusterManager", "changeover"], "app": ["readWrite"], "root": ["root"]}


class Client:
    """Every write waits for a majority. Kinds: superuser is another account that a write block holds (root bypasses it:
    see docs/mongodb.md); long is several documents in one command."""

    def __init__(self, server, kind, timeout_s):
        self.server, self.kind, self.timeout_s, self.connection = server, kind, timeout_s, None
        if kind != "reconnecting":
            self.connection = server.connect("app", timeout_s)

    def write(self, key):
        connection = self.connection or self.server.connect("app", self.timeout_s)
        try:
            documents = [{"_id": key, "x": 1}]
            if self.kind == "long":
                documents = [{"_id": f"{key}#{i}", "x": i} for i in range(5)] + documents
            connection.command("shop", {"insert": "ledger", "documents": documents, "ordered": True,
                                        "writeConcern": {"w": "majority", "wtimeout": int(self.timeout_s * 1000)}})
        finally:
            if connection is not self.connection:
                connection.close()

    def close(self):
        if self.connection:
            self.connection.close()


class Transaction:
    """One with a document in it, which stays open until it is committed."""

    def __init__(self, server, key):
        self.connection = server.connect("app")
        self.how = {"lsid": {"id": wire.Uuid(os.urandom(16))}, "txnNumber": wire.Int64(1), "autocommit": False}
        self.connection.command("shop", {"insert": "ledger", "documents": [{"_id": key}], "startTransaction": True, **self.how})

    def commit(self):
        self.connection.command("admin", {"commitTransaction": 1, **self.how, "writeConcern": {"w": "majority"}})


class Certificates:
    """An authority, and a certificate with its key in one file for the servers and one for their clients."""

    def __init__(self, folder):
        self.folder = folder
        self.openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test authority", "-days", "2")
        self.openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "other.key", "-out", "other.pem", "-subj", "/CN=another authority",
                     "-days", "2")
        for who in ("server", "client"):
            (folder / f"{who}.ext").write_text("subjectAltName=IP:127.0.0.1,DNS:db.test\nextendedKeyUsage=serverAuth,clientAuth\n")
            self.openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{who}.key", "-out", f"{who}.csr", "-subj", f"/O=tests/OU={who}/CN={who}.test")
            self.openssl("x509", "-req", "-in", f"{who}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", f"{who}.crt",
                         "-days", "2", "-extfile", f"{who}.ext")
            pair = folder / f"{who}.pem"
            pair.write_text((folder / f"{who}.crt").read_text() + (folder / f"{who}.key").read_text())
            pair.chmod(0o600)

    def openssl(self, *arguments):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=self.folder)

    def path(self, name):
        return str(self.folder / name)

    def context(self):
        made = ssl.create_default_context(cafile=self.path("ca.pem"))
        made.load_cert_chain(self.path("client.pem"))
        return made

    def config(self):
        return {"mode": "verify", "ca": self.path("ca.pem"), "cert": self.path("client.pem"), "key": self.path("client.pem")}


class Member(Server):
    scheme = "mongodb"
    engine = "mongodb"
    b_class = None
    auth = True
    cant_vote = no_fence = False  # before 6.0
    tls = None  # a Certificates

    def __init__(self, box, name):
        super().__init__(box, name)
        self.child = None

    @classmethod
    def prepare_pair(cls, pair, **options):
        for user, password in PASSWORDS.items():
            secret = pair.a.box.folder / f"mongodb-{user}.password"
            secret.write_text(password + "\n")
            secret.chmod(0o600)
        if cls.auth:
            pair.extra.update(probe={"user": "app", "password_file": str(pair.a.box.folder / "mongodb-app.password")})
        pair.extra.update(options)

    @staticmethod
    def fill(pair):
        pair.a.initiate()
        client = pair.a.client("ordinary")
        for i in range(20):
            client.write(f"before-{i}")
        client.close()

    def pid(self):
        return self.child.pid if self.child and self.child.poll() is None else None

    def arguments(self):
        raise NotImplementedError

    def start(self):
        with open(self.folder / "log.txt", "ab") as log:
            self.child = subprocess.Popen([*self.prefix, *self.arguments()], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_for(self.answers, 60, f"{self.name} answers")

    def answers(self):
        if self.child.poll() is not None:
            raise RuntimeError(f"{self.name} ended with {self.child.returncode}")
        self.wire(1.0).close()
        return True

    def kill(self):
        super().kill()
        if self.child:
            self.child.wait()

    def stop(self):
        if self.pid():
            self.child.terminate()
            self.child.wait()

    def end(self):
        super().end()
        if self.child:
            process.end(self.child.pid)

    def host(self):
        """How the members call this one."""
        return f"{self.address}:{self.port}"

    @property
    def address(self):
        """On machines of their own: the end of the cable between the members."""
        return self.address_for(self.other_name)

    def url(self):
        return f"mongodb://{'tool@' if self.auth else ''}{self.address_for('tool')}:{self.port}/"

    def side_config(self):
        side = {"url": self.url(), "tls": self.tls.config() if self.tls else {"mode": "off"}}
        if self.auth:
            side["password_file"] = str(self.box.folder / "mongodb-tool.password")
        if self.home:
            side["peer"] = {"address": self.host()}
        return side

    def wire(self, timeout_s=20.0, user=None, password=None):
        with self.inside():
            return wire.Connection("127.0.0.1", self.port, timeout_s, user, password, tls=self.tls and self.tls.context())

    def connect(self, user="tool", timeout_s=20.0):
        return self.wire(timeout_s, user if self.auth else None, PASSWORDS[user])

    def connect_plain(self, timeout_s=20.0):
        return self.wire(timeout_s)

    def client(self, kind, timeout_s=2.0):
        return Client(self, kind, timeout_s)

    def initiate(self):
        connection = self.wire()
        connection.command("admin", {"replSetInitiate": {"_id": "rs", "members": [
            {"_id": 0, "host": self.host(), "votes": 1, "priority": 1.0}]}})
        connection.close()
        wait_for(self.is_primary, 30, f"{self.name} is primary")

    def reconfigure(self, edit):
        """Of this primary's set: edit(members) gives the new ones."""
        connection = self.connect("root")
        config = connection.command("admin", {"replSetGetConfig": 1})["config"]
        config["version"] += 1
        config["members"] = edit(config["members"])
        connection.command("admin", {"replSetReconfig": config})
        connection.close()

    def change_member(self, other, **how):
        self.reconfigure(lambda there: [{**one, **how} if one["host"] == other.host() else one for one in there])

    def join(self, other, priority=1.0):
        """`other` becomes one more voting member of this primary's set, by hand; seen to follow."""
        for votes in (0, 1):
            new = {"_id": 7, "host": other.host(), "votes": votes, "priority": priority * votes}
            self.reconfigure(lambda there, new=new: [*(one for one in there if one["host"] != new["host"]), new])
            wait_for(lambda: other.hello().get("secondary"), 60, f"{other.name} follows")

    def hello(self):
        connection = self.connect_plain()
        connection.close()
        return connection.hello

    def hears(self, other):
        """1: this member hears the other one, 0: it doesn't."""
        connection = self.connect("root")
        members = connection.command("admin", {"replSetGetStatus": 1})["members"]
        connection.close()
        return next(one["health"] for one in members if one["name"] == other.host())

    def member(self, host):
        """(votes, priority) in this member's config."""
        return self.settings()[f"member {host}"]

    def asked(self, *commands):
        """How often this process was sent each of these commands."""
        connection = self.connect("root")
        counts = connection.command("admin", {"serverStatus": 1})["metrics"]["commands"]
        connection.close()
        return {name: counts.get(name, {}).get("total", 0) for name in commands}

    def is_primary(self):
        connection = self.wire()
        connection.close()
        return bool(connection.hello.get("ismaster"))

    def read_all(self):
        connection = self.connect("tool", READS_IN_S)
        found = connection.command("shop", {"find": "ledger", "batchSize": 1000000, "singleBatch": True})["cursor"]["firstBatch"]
        connection.close()
        return {doc["_id"] for doc in found if "#" not in doc["_id"]}

    def settings(self):
        connection = self.connect("tool", READS_IN_S)
        config = connection.command("admin", {"replSetGetConfig": 1})["config"]
        found = {f"member {one['host']}": (one["votes"], one["priority"]) for one in config["members"]}
        blocks = connection.command("config", {"find": "user_writes_critical_sections"})["cursor"]["firstBatch"]
        marker = connection.command("local", {"find": "changeover", "filter": {"_id": "marker"}})["cursor"]["firstBatch"]
        connection.close()
        return {**found, "blocks": blocks, "marker": marker, "heartbeats": config["settings"]["heartbeatIntervalMillis"]}

    def agrees(self, other):
        """The config, by heartbeats, and the write block, by the oplog: neither needs a member that doesn't vote."""
        mine, its = self.settings(), other.settings()
        return {**mine, "marker": None} == {**its, "marker": None}


class MongoDB(Member):
    """A real one, with access control: its accounts are made over the localhost exception, with the role that the driver's
    grants name (the tests' tool account reads the ledger, too). The members call each other by loopback addresses of their
    own, so that one leg between them can be cut by a route (root only)."""

    # Whoever is elected drains for two seconds (a constant of the server, docs/mongodb.md), and a step-down may wait for a
    # heartbeat, two seconds more: 3 s would undo healthy runs.
    FAULT_LIMIT_S = 6
    # The only voter of its set stands after electionTimeoutMillis (10 s and up to 15 % more) when it was restarted, and then drains.
    OPENS_IN_S = 40

    PRIVILEGES = [
        {"resource": {"cluster": True}, "actions": [
            "replSetGetStatus", "replSetGetConfig", "replSetConfigure", "replSetStateChange", "inprog", "killop", "serverStatus",
            "listDatabases", "getCmdLineOpts", "getParameter", "appendOplogNote", "fsync"]},
        {"resource": {"db": "", "collection": ""}, "actions": ["viewUser", "viewRole"]},
        {"resource": {"db": "local", "collection": ""}, "actions": ["dbStats"]},
        {"resource": {"db": "local", "collection": "changeover"}, "actions": ["find", "insert", "update", "remove"]},
        {"resource": {"db": "local", "collection": "oplog.rs"}, "actions": ["find", "collStats"]},
        {"resource": {"db": "local", "collection": "startup_log"}, "actions": ["find"]},
        {"resource": {"db": "config", "collection": "user_writes_critical_sections"}, "actions": ["find"]},
    ]

    @staticmethod
    def binary():
        return os.environ.get("MONGOD") or shutil.which("mongod")

    def __init__(self, box, name):
        super().__init__(box, name)
        self.cant_vote = self.no_fence = self.major() < 6

        self.other, self.is_cut = None, False

    @property
    def address(self):
        return super().address if self.home else f"127.77.{self.port >> 8}.{self.port & 255}"

    @classmethod
    def release(cls):
        said = subprocess.run([cls.binary(), "--version"], capture_output=True, text=True, check=True).stdout
        return tuple(map(int, re.search(r"db version v(\d+)\.(\d+)", said).groups()))

    @classmethod
    def major(cls):
        return cls.release()[0]

    def host(self):
        return f"{self.address}:{self.port}"

    def side_config(self):
        return {**super().side_config(), "peer": {"address": self.host()}}

    @classmethod
    def prepare_pair(cls, pair, **options):
        super().prepare_pair(pair, **options)
        pair.a.other, pair.b.other = pair.b, pair.a

    def cut_link(self, cut):
        """This member doesn't reach the other one any more; the other one and the tool reach both."""
        if os.geteuid() != 0:
            import pytest  # the benches do without

            pytest.skip("mongodb: only root can cut the link between two members")
        if cut != self.is_cut:
            subprocess.run(["ip", "route", "add" if cut else "del", "unreachable", f"{self.other.address}/32", "table", "local"], check=True)
        self.is_cut = cut

    def end(self):
        if self.is_cut:
            self.cut_link(False)
        super().end()

    def inject(self, command, code=0, lose=False, times=1):
        """The next calls of a command: refused with this code, or the connection is closed instead (failpoint failCommand)."""
        how = {"failCommands": [command], **({"errorCode": code} if code else {}), **({"closeConnection": True} if lose else {})}
        connection = self.connect("root")
        connection.command("admin", {"configureFailPoint": "failCommand", "mode": {"times": times}, "data": how})
        connection.close()

    def pause_apply(self, pause):
        """A failpoint of the server's own tests (sync_tail.cpp): nothing is applied, everything is fetched."""
        connection = self.connect("root")
        connection.command("admin", {"configureFailPoint": "rsSyncApplyStop", "mode": "alwaysOn" if pause else "off"})
        connection.close()

    @classmethod
    def missing(cls):
        return None if cls.binary() else "mongodb: no mongod (MONGOD names one); only the double was tested"

    def arguments(self):
        (self.folder / "data").mkdir(exist_ok=True)
        key = self.box.folder / "mongodb.key"
        if not key.exists():
            key.write_text("bm90IGEgc2VjcmV0\n")
            key.chmod(0o600)
        return [self.binary(), "--port", str(self.port), "--bind_ip", self.bind if self.home else f"127.0.0.1,{self.address}",
                "--dbpath", str(self.folder / "data"), "--keyFile", str(key), "--replSet", "rs", "--oplogSize", "64",
                "--wiredTigerCacheSizeGB", "0.25", "--nounixsocket", "--setParameter", "enableTestCommands=1", *self.tls_arguments()]

    def tls_arguments(self):
        """Clients must show a certificate. Before 4.2 the members don't look for addresses in certificates."""
        if not self.tls:
            return []
        mode, key, authority, any_name = (
            ("--tlsMode=requireTLS", "--tlsCertificateKeyFile", "--tlsCAFile", "--tlsAllowInvalidHostnames") if self.major() >= 5 else
            ("--sslMode=requireSSL", "--sslPEMKeyFile", "--sslCAFile", "--sslAllowInvalidHostnames"))
        return [mode, key, self.tls.path("server.pem"), authority, self.tls.path("ca.pem"), any_name]

    @staticmethod
    def newer_actions(major):
        """That older servers refuse to put into a role, or have no use for."""
        return [*(["getDefaultRWConcern"] if major >= 5 else []), *(["setUserWriteBlockMode", "killAnySession"] if major >= 6 else [])]

    def initiate(self):
        super().initiate()
        connection = self.wire()
        version = connection.command("admin", {"buildInfo": 1})["versionArray"][0]
        connection.command("admin", {"createUser": "root", "pwd": PASSWORDS["root"], "roles": ["root"]})
        connection.close()
        connection = self.connect("root")
        privileges = [dict(one) for one in self.PRIVILEGES]
        privileges[0] = {**privileges[0], "actions": [*privileges[0]["actions"], *self.newer_actions(version)]}
        connection.command("admin", {"createRole": "changeover", "privileges": privileges, "roles": []})
        connection.command("admin", {"createUser": "tool", "pwd": PASSWORDS["tool"], "roles": ["changeover", "readAnyDatabase"]})
        connection.command("admin", {"createUser": "app", "pwd": PASSWORDS["app"], "roles": ["readWriteAnyDatabase"]})
        connection.close()


class MongoDBPlain(MongoDB):
    """Without the server's test commands, as in production: nothing can be injected."""

    def arguments(self):
        made = super().arguments()
        at = made.index("enableTestCommands=1")
        return made[:at - 1] + made[at + 1:]


class MongoDBDouble(Member):
    """Of 6.0 with access control: can be promoted closed."""

    version = "6.0.0"
    # For so long a primary may hear nothing of the others. With a second of it a machine that was busy, or stood still, for as long
    # deposed it in the middle of a run.
    ELECTION_MS = 3000
    FAULT_LIMIT_S = 6  # a source that was restarted stands for election after that time and up to 30 % more

    @staticmethod
    def missing():
        return None

    def arguments(self):
        arguments = [sys.executable, str(pathlib.Path(__file__).with_name("mongodb_double.py")), "--port", str(self.port),
                     "--bind", self.bind, "--address", self.address, "--data", str(self.folder / "data"), "--version", self.version,
                     "--election-ms", str(self.ELECTION_MS)]
        if self.auth:
            users = self.folder / "users.json"
            users.write_text(json.dumps({name: {"password": password, "roles": ROLES[name]} for name, password in PASSWORDS.items()}))
            users.chmod(0o600)
            arguments += ["--users", str(users)]
        if self.tls:
            arguments += ["--tls-cert", self.tls.path("server.pem"), "--tls-ca", self.tls.path("ca.pem")]
        return arguments

    def inject(self, command, **how):
        connection = self.connect_plain()
        connection.command("admin", {"doubleInject": command, **how})
        connection.close()

    def cut_link(self, cut):
        connection = self.connect_plain()
        connection.command("admin", {"doubleCut": cut})
        connection.close()


    def pause_apply(self, pause):
        """Nothing is fetched; heartbeats go on."""
        self.cut_link(pause)


class MongoDBDouble60(MongoDBDouble):
    version = "6.0.14"


class MongoDBDouble50To60(MongoDBDouble):
    """A of 5.0, B of 6.0, as when a set is upgraded by the move: no write block as long as its feature compatibility version is 5.0."""

    version = "5.0.26"
    cant_vote = no_fence = True
    b_class = MongoDBDouble60


class MongoDBDouble40(MongoDBDouble):
    """Of 4.0 without access control: can't be promoted closed."""

    version = "4.0.28"
    auth = False
    cant_vote = no_fence = True

"""Real MariaDB (and MySQL) servers: one data folder is made and copied."""
import atexit
import os
import shutil
import subprocess
import tempfile
import time

from .box import Server, ServerMissing
from .wait import wait_for

try:
    import pymysql
except ImportError as error:
    raise ServerMissing("mariadb: python3-pymysql isn't installed") from error

PASSWORD = "my-secret-7Q"
OWN_COMMITS = "SET autocommit = 1"  # PyMySQL believes a MySQL that begins with autocommit=0 to have it on
TOOL = "changeover"  # the tool's own account, which no fence locks; root is a client like others
_templates = {}


def template_folder(name):
    folder = tempfile.mkdtemp(prefix=f"changeover-{name}-")
    atexit.register(shutil.rmtree, folder, True)
    return folder


def install(folder, server):
    """mariadb-install-db of this system."""
    subprocess.run(["mariadb-install-db", "--no-defaults", f"--datadir={folder}/data", "--skip-test-db",
                    "--auth-root-authentication-method=normal", *as_root()], check=True, stdin=subprocess.DEVNULL,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def bootstrap(folder, server):
    """What mariadb-install-db does, for a server in a folder of its own (tools/make-mariadb-server)."""
    os.makedirs(f"{folder}/data/mysql")
    text = "create database if not exists mysql;\nuse mysql;\nSET @auth_root_socket=NULL;\nSET @skip_auth_anonymous=1;\n"
    for name in ("system_tables", "performance_tables", "system_tables_data", "sys_schema"):
        found = [path for prefix in ("mariadb", "mysql") if os.path.exists(path := f"{server.root}/share/{prefix}_{name}.sql")]
        text += open(found[0], encoding="utf-8").read() if found else ""  # 10.5 has no sys schema
    subprocess.run([server.program("mariadbd"), "--no-defaults", "--bootstrap", *as_root(), *server.places(), f"--datadir={folder}/data",
                    "--max-allowed-packet=8M", "--net-buffer-length=16K"], input=text.encode(), check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)


def as_root():
    return ["--user=root"] if os.getuid() == 0 else []


class Client:
    def __init__(self, server, kind, timeout_s):
        self.server, self.kind, self.timeout_s, self.connection = server, kind, timeout_s, None
        if kind != "reconnecting":
            self.connection = self.connect()

    def connect(self):
        user = "root" if self.kind == "superuser" else "app"
        connection = self.server.connect(user, database="app", timeout_s=self.timeout_s)
        if self.kind == "manual":
            connection.autocommit(False)
        return connection

    def write(self, key):
        connection = self.connection or self.connect()
        try:
            with connection.cursor() as cursor:
                if self.kind == "long":
                    cursor.execute("BEGIN")
                cursor.execute("CALL enter(%s)" if self.kind == "procedure" else "INSERT INTO ledger VALUES (%s)", (key,))
                if self.kind == "flush":
                    cursor.execute("FLUSH TABLES")  # a transaction of its own, which read_only doesn't refuse
                if self.kind == "manual":
                    cursor.execute("COMMIT")
                if self.kind == "long":
                    time.sleep(0.3)  # how long the transaction lasts
                    cursor.execute("COMMIT")
        finally:
            if connection is not self.connection:
                connection.close()

    def close(self):
        if self.connection:
            self.connection.close()


class MariaDB(Server):
    engine = "mariadb"
    kinds = ("ordinary", "superuser", "reconnecting", "long", "manual", "procedure", "flush", "superuser")
    gtid_variable = "gtid_binlog_pos"
    # of one domain, as here: no sequence number beyond the primary's
    gtid_contains = "SELECT '{own}' = '' OR SUBSTRING_INDEX('{own}', '-', -1) + 0 <= SUBSTRING_INDEX('{all}', '-', -1) + 0"

    root = None  # a folder of tools/make-mariadb-server; None: this system's
    restart_resets = ("variable read_only",)  # a follower's accounts are locked, too

    @classmethod
    def missing(cls):
        if cls.root and not os.path.exists(cls.program("mariadbd")):
            return f"{cls.engine}: no {cls.program('mariadbd')}"
        if not cls.root and (not shutil.which("mariadbd") or not shutil.which("mariadb-install-db")):
            return "mariadb: no mariadbd"
        return None

    @classmethod
    def program(cls, name):
        return f"{cls.root}/bin/{name}" if cls.root else shutil.which(name)

    @classmethod
    def places(cls):
        share = f"{cls.root}/share"
        return [f"--basedir={cls.root}", f"--lc-messages-dir={share}", f"--character-sets-dir={share}/charsets"] if cls.root else []

    @classmethod
    def prepare_pair(cls, pair, **options):
        if pair.b.root:
            options.setdefault("setup", {"dump_program": [pair.b.program("mariadb-dump")], "load_program": [pair.b.program("mariadb")]})
        secret = pair.a.box.folder / "my.password"
        secret.write_text(PASSWORD + "\n")
        secret.chmod(0o600)
        pair.extra.update(replication={"user": "changeover_repl", "password_file": str(secret)},
                          probe={"user": "app", "password_file": str(secret)}, **options)

    @staticmethod
    def fill(pair):
        for server in (pair.a, pair.b):
            with server.inside():
                connection = pymysql.connect(host="127.0.0.1", port=server.port, user="root", autocommit=True)
            with connection.cursor() as cursor:
                cursor.execute("SET sql_log_bin = 0")
                cursor.execute(f"SET PASSWORD FOR root@localhost = PASSWORD('{PASSWORD}')")
                cursor.execute("DELETE FROM mysql.global_priv WHERE User = ''")
                cursor.execute("FLUSH PRIVILEGES")
                cursor.execute(f"CREATE OR REPLACE USER root@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'")
                cursor.execute("GRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION")
                host = "%" if server.home else "127.0.0.1"
                cursor.execute(f"CREATE USER {TOOL}@'{host}' IDENTIFIED BY '{PASSWORD}'")
                cursor.execute(f"GRANT ALL ON *.* TO {TOOL}@'{host}' WITH GRANT OPTION")
            connection.close()
        connection = pair.a.connect("root")
        with connection.cursor() as cursor:
            cursor.execute("CREATE DATABASE app")
            cursor.execute(f"CREATE USER app@'%' IDENTIFIED BY '{PASSWORD}'")
            cursor.execute("GRANT ALL ON app.* TO app@'%'")
            cursor.execute("GRANT RELOAD ON *.* TO app@'%'")
            cursor.execute("CREATE DEFINER=app@'%' PROCEDURE app.enter(k varchar(100)) INSERT INTO app.ledger VALUES (k)")
            cursor.execute("CREATE TABLE app.ledger (k varchar(100) PRIMARY KEY) ENGINE=InnoDB")
            cursor.executemany("INSERT INTO app.ledger VALUES (%s)", [(f"before-{n}",) for n in range(200)])
        connection.close()

    def __init__(self, box, name):
        super().__init__(box, name)
        self.child = None
        self.data = self.folder / "data"
        shutil.copytree(self.template(), self.data, symlinks=True)
        (self.folder / "my.cnf").write_text(self.configuration())

    @classmethod
    def template(cls):
        if cls.root not in _templates:
            folder = template_folder("mariadb")
            (bootstrap if cls.root else install)(folder, cls)
            _templates[cls.root] = f"{folder}/data"
        return _templates[cls.root]

    def configuration(self):
        return (f"[mariadbd]\ndatadir={self.data}\nport={self.port}\nbind-address={self.bind}\nsocket={self.folder}/s\n"
                f"pid-file={self.folder}/pid\ntmpdir={self.folder}\nlog-error={self.folder}/server.log\nserver-id={self.port}\nlog-bin=binlog\n"
                "log-slave-updates=1\nbinlog-format=ROW\ngtid-strict-mode=1\nsync-binlog=1\ninnodb-buffer-pool-size=32M\n"
                "innodb-log-file-size=16M\nslave-parallel-threads=4\nskip-name-resolve=0\nmax-connections=80\nslave-net-timeout=5\n"
                "report-host=127.0.0.1\n")

    def argv(self):
        return [*self.prefix, self.program("mariadbd"), f"--defaults-file={self.folder}/my.cnf", *as_root(), *self.places()]

    def pid(self):
        return self.child.pid if self.child and self.child.poll() is None else None

    def start(self):
        self.child = subprocess.Popen(self.argv(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(self.answers, 90, f"{self.name} answers", 0.1)

    def answers(self):
        if self.child.poll() is not None:
            raise TimeoutError(f"{self.name} ended with {self.child.returncode}: see {self.folder}/server.log")
        try:
            with self.inside():
                pymysql.connect(host="127.0.0.1", port=self.port, user="nobody", password="x", connect_timeout=2).close()
            return True
        except pymysql.err.OperationalError as error:
            if error.args[0] in (1045, 1130, 1698, 3118, 4151, 1040):
                return True  # it answers, and refuses
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
        return f"{self.engine}://{TOOL}@{self.address_for('tool')}:{self.port}"

    def side_config(self):
        config = {"url": self.url(), "password_file": str(self.box.folder / "my.password")}
        if self.home:
            config.update(peer={"address": f"{self.address_for(self.other_name)}:{self.port}"}, tls={"mode": "off"})
        return config

    def connect(self, user="root", database=None, timeout_s=20.0):
        with self.inside():
            return pymysql.connect(host="127.0.0.1", port=self.port, user=user, password=PASSWORD, database=database,
                                   autocommit=True, init_command=OWN_COMMITS, connect_timeout=timeout_s, read_timeout=timeout_s,
                                   write_timeout=timeout_s)

    def client(self, kind, timeout_s=2.0):
        return Client(self, kind, timeout_s)

    def query(self, statement):
        connection = self.connect(TOOL)
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall()
        finally:
            connection.close()

    def read_all(self):
        return {row[0] for row in self.query("SELECT k FROM app.ledger")}

    def settings(self):
        volatile = ("gtid", "timestamp", "in_transaction", "last_", "rand_seed", "pseudo", "identity", "insert_id",
                    "error_count", "warning_count")
        found = {f"variable {name}": value for name, value in self.query("SHOW GLOBAL VARIABLES")
                 if not name.startswith(volatile)}
        found.update({f"account {name}": value for name, value in self.accounts().items()})
        for row in self.query("SELECT EVENT_SCHEMA, EVENT_NAME, STATUS FROM information_schema.EVENTS"):
            found[f"event {row[0]}.{row[1]}"] = row[2]
        return found

    def accounts(self):
        """As the server tells of each; how it stores them changes with every ALTER USER."""
        names = [row[0] for row in self.query("SELECT CONCAT(QUOTE(User), '@', QUOTE(Host)) FROM mysql.user WHERE Host <> ''")]
        return {name: (self.query(f"SHOW CREATE USER {name}"), self.query(f"SHOW GRANTS FOR {name}")) for name in names}

    def is_locked(self, user):
        return all("ACCOUNT LOCK" in told[0][0][0] for name, told in self.accounts().items() if name.startswith(f"'{user}'@"))

    def set_apply_delay(self, ms):
        self.query("STOP SLAVE")
        self.query(f"CHANGE MASTER TO MASTER_DELAY = {max(1, ms // 1000) if ms else 0}")
        self.query("START SLAVE")

    def cut_link(self, cut):
        self.query(f"{'STOP' if cut else 'START'} SLAVE IO_THREAD")

    def pause_apply(self, paused):
        self.query(f"{'STOP' if paused else 'START'} SLAVE SQL_THREAD")


class MySQL(MariaDB):
    """A real MySQL, from the folder that tools/make-mysql-server makes (CO_MYSQL_SERVER), or from the PATH."""
    engine = "mysql"
    restart_resets = ("variable event_scheduler",)  # on by default; a follower's is off, and each of its events too
    gtid = "gtid-mode=ON\nenforce-gtid-consistency=ON\n"
    gtid_variable = "gtid_executed"
    gtid_contains = "SELECT GTID_SUBSET('{own}', '{all}')"

    @classmethod
    def program(cls, name):
        folder = os.environ.get("CO_MYSQL_SERVER")
        return f"{folder}/bin/{name}" if folder else shutil.which(name)

    @classmethod
    def missing(cls):
        program = MySQL.program("mysqld")
        if not program or not os.path.exists(program):
            return "mysql: no mysqld (tools/make-mysql-server makes one; CO_MYSQL_SERVER names its folder)"
        told = subprocess.run([program, "--no-defaults", "--version"], capture_output=True, text=True, check=False).stdout
        return "mysql: the mysqld here is MariaDB's" if "MariaDB" in told else None

    @classmethod
    def places(cls):
        folder = os.environ.get("CO_MYSQL_SERVER")
        usr = f"{folder}/root/usr" if folder else "/usr"
        return [f"--basedir={usr}", f"--lc-messages-dir={usr}/share/mysql", f"--character-sets-dir={usr}/share/mysql/charsets",
                f"--plugin-dir={usr}/lib/mysql/plugin"]

    @classmethod
    def template(cls):
        if "mysql" not in _templates:
            folder = template_folder("mysql")
            subprocess.run([cls.program("mysqld"), "--no-defaults", *as_root(), "--initialize-insecure", *cls.places(),
                            f"--datadir={folder}/data", "--innodb-redo-log-capacity=16M"], check=True, stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            for name in ("auto.cnf", "ib_logfile0"):  # a copy that keeps it would pass for the same server
                if os.path.exists(f"{folder}/data/{name}"):
                    os.unlink(f"{folder}/data/{name}")
            _templates["mysql"] = f"{folder}/data"
        return _templates["mysql"]

    @classmethod
    def prepare_pair(cls, pair, **options):
        options.setdefault("setup", {"dump_program": [cls.program("mysqldump")], "load_program": [cls.program("mysql")]})
        super().prepare_pair(pair, **options)

    @staticmethod
    def fill(pair):
        for server in (pair.a, pair.b):
            connection = pymysql.connect(unix_socket=f"{server.folder}/s", user="root", autocommit=True)
            with connection.cursor() as cursor:
                cursor.execute("SET sql_log_bin = 0")
                cursor.execute(f"CREATE USER root@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'")
                cursor.execute("GRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION")
                cursor.execute(f"CREATE USER {TOOL}@'%' IDENTIFIED BY '{PASSWORD}'")
                cursor.execute(f"GRANT ALL ON *.* TO {TOOL}@'%' WITH GRANT OPTION")
                cursor.execute(f"ALTER USER root@localhost IDENTIFIED BY '{PASSWORD}'")
            connection.close()
        connection = pair.a.connect("root")
        with connection.cursor() as cursor:
            cursor.execute("CREATE DATABASE app")
            cursor.execute(f"CREATE USER app@'%' IDENTIFIED BY '{PASSWORD}'")
            cursor.execute("GRANT ALL ON app.* TO app@'%'")
            cursor.execute("GRANT RELOAD ON *.* TO app@'%'")
            cursor.execute("CREATE DEFINER=app@'%' PROCEDURE app.enter(k varchar(100)) INSERT INTO app.ledger VALUES (k)")
            cursor.execute("CREATE TABLE app.ledger (k varchar(100) PRIMARY KEY) ENGINE=InnoDB")
            cursor.executemany("INSERT INTO app.ledger VALUES (%s)", [(f"before-{n}",) for n in range(200)])
        connection.close()

    def configuration(self):
        return (f"[mysqld]\ndatadir={self.data}\nport={self.port}\nbind-address={self.bind}\nsocket={self.folder}/s\nmysqlx=OFF\n"
                f"pid-file={self.folder}/pid\ntmpdir={self.folder}\nlog-error={self.folder}/server.log\nserver-id={self.port}\nlog-bin=binlog\n"
                f"{self.gtid}log-replica-updates=ON\nsync-binlog=1\ninnodb-buffer-pool-size=32M\n"
                "innodb-redo-log-capacity=16M\nsecure-file-priv=NULL\nskip-name-resolve=0\nmax-connections=80\nreplica-net-timeout=5\n"
                "report-host=127.0.0.1\n")

    def argv(self):
        return [*self.prefix, self.program("mysqld"), f"--defaults-file={self.folder}/my.cnf", *as_root(), *self.places()]

    def connect(self, user="root", database=None, timeout_s=20.0):
        import ssl  # the server's own certificate; without TLS the password would need another library
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with self.inside():
            return pymysql.connect(host="127.0.0.1", port=self.port, user=user, password=PASSWORD, database=database, ssl=context,
                                   autocommit=True, init_command=OWN_COMMITS, connect_timeout=timeout_s, read_timeout=timeout_s,
                                   write_timeout=timeout_s)

    def set_apply_delay(self, ms):
        self.query("STOP REPLICA SQL_THREAD")
        self.query(f"CHANGE REPLICATION SOURCE TO SOURCE_DELAY = {max(1, ms // 1000) if ms else 0}")
        self.query("START REPLICA SQL_THREAD")

    def cut_link(self, cut):
        self.query(f"{'STOP' if cut else 'START'} REPLICA IO_THREAD")

    def pause_apply(self, paused):
        self.query(f"{'STOP' if paused else 'START'} REPLICA SQL_THREAD")


class MySQLFile(MySQL):
    """Without GTIDs: by file and position."""
    gtid = "gtid-mode=OFF\nrelay-log-recovery=ON\n"


def folders():
    """{version: folder} of CO_MARIADB_SERVERS: folders with colons between, each named after its version."""
    return {os.path.basename(folder.rstrip("/")): folder for folder in os.environ.get("CO_MARIADB_SERVERS", "").split(":") if folder}


def versions():
    """{engine name: class}: each of those versions, each moved to the next, and this system's version to or from them."""
    found = {version: type(f"MariaDB_{version}", (MariaDB,), {"root": folder}) for version, folder in folders().items()}
    made = {f"mariadb-{version}": server for version, server in found.items()}
    order = sorted([*found, "10.11"], key=lambda version: [int(part) for part in version.split(".")])
    for old, new in zip(order, order[1:]):
        a, b = found.get(old, MariaDB), found.get(new, MariaDB)
        made[f"mariadb-{old}-to-{new}"] = type(f"MariaDB_{old}_to_{new}", (a,), {"b_class": b})
    return made

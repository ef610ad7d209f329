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
TOOL = "changeover"  # the tool's own account, which no fence locks; root is a client like others
_templates = {}


def template():
    if "data" not in _templates:
        folder = tempfile.mkdtemp(prefix="changeover-mariadb-")
        atexit.register(shutil.rmtree, folder, True)
        subprocess.run(["mariadb-install-db", "--no-defaults", f"--datadir={folder}/data", "--skip-test-db",
                        "--auth-root-authentication-method=normal", *as_root()], check=True, stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _templates["data"] = f"{folder}/data"
    return _templates["data"]


def as_root():
    return ["--user=root"] if os.getuid() == 0 else []


class Client:
    def __init__(self, server, kind, timeout_s):
        self.server, self.kind, self.timeout_s, self.connection = server, kind, timeout_s, None
        if kind != "reconnecting":
            self.connection = self.connect()

    def connect(self):
        user = "root" if self.kind == "superuser" else "app"
        return self.server.connect(user, database="app", timeout_s=self.timeout_s)

    def write(self, key):
        connection = self.connection or self.connect()
        try:
            with connection.cursor() as cursor:
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


class MariaDB(Server):
    engine = "mariadb"

    @staticmethod
    def missing():
        if not shutil.which("mariadbd") or not shutil.which("mariadb-install-db"):
            return "mariadb: no mariadbd"
        return None

    @staticmethod
    def prepare_pair(pair, **options):
        secret = pair.a.box.folder / "my.password"
        secret.write_text(PASSWORD + "\n")
        secret.chmod(0o600)
        pair.extra.update(replication={"user": "changeover_repl", "password_file": str(secret)},
                          probe={"user": "app", "password_file": str(secret)}, **options)

    @staticmethod
    def fill(pair):
        for server in (pair.a, pair.b):
            connection = pymysql.connect(host="127.0.0.1", port=server.port, user="root", autocommit=True)
            with connection.cursor() as cursor:
                cursor.execute("SET sql_log_bin = 0")
                cursor.execute(f"SET PASSWORD FOR root@localhost = PASSWORD('{PASSWORD}')")
                cursor.execute("DELETE FROM mysql.global_priv WHERE User = ''")
                cursor.execute("FLUSH PRIVILEGES")
                cursor.execute(f"CREATE OR REPLACE USER root@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'")
                cursor.execute("GRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION")
                cursor.execute(f"CREATE USER {TOOL}@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'")
                cursor.execute(f"GRANT ALL ON *.* TO {TOOL}@'127.0.0.1' WITH GRANT OPTION")
            connection.close()
        connection = pair.a.connect("root")
        with connection.cursor() as cursor:
            cursor.execute("CREATE DATABASE app")
            cursor.execute(f"CREATE USER app@'%' IDENTIFIED BY '{PASSWORD}'")
            cursor.execute("GRANT ALL ON app.* TO app@'%'")
            cursor.execute("CREATE TABLE app.ledger (k varchar(100) PRIMARY KEY) ENGINE=InnoDB")
            cursor.executemany("INSERT INTO app.ledger VALUES (%s)", [(f"before-{n}",) for n in range(200)])
        connection.close()

    def __init__(self, box, name):
        super().__init__(box, name)
        self.child = None
        self.data = self.folder / "data"
        shutil.copytree(template(), self.data, symlinks=True)
        (self.folder / "my.cnf").write_text(
            f"[mariadbd]\ndatadir={self.data}\nport={self.port}\nbind-address=127.0.0.1\nsocket={self.folder}/s\n"
            f"pid-file={self.folder}/pid\nlog-error={self.folder}/server.log\nserver-id={self.port}\nlog-bin=binlog\n"
            "log-slave-updates=1\nbinlog-format=ROW\ngtid-strict-mode=1\nsync-binlog=1\ninnodb-buffer-pool-size=32M\n"
            "innodb-log-file-size=16M\nskip-name-resolve=0\nmax-connections=80\nslave-net-timeout=5\n"
            "report-host=127.0.0.1\n")

    def pid(self):
        return self.child.pid if self.child and self.child.poll() is None else None

    def start(self):
        self.child = subprocess.Popen(["mariadbd", f"--defaults-file={self.folder}/my.cnf", *as_root()],
                                      stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(self.answers, 40, f"{self.name} answers", 0.1)

    def answers(self):
        if self.child.poll() is not None:
            raise TimeoutError(f"{self.name} ended with {self.child.returncode}: see {self.folder}/server.log")
        try:
            pymysql.connect(host="127.0.0.1", port=self.port, user="nobody", password="x", connect_timeout=2).close()
            return True
        except pymysql.err.OperationalError as error:
            if error.args[0] in (1045, 1698, 4151, 1040):
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
        return f"{self.engine}://{TOOL}@127.0.0.1:{self.port}"

    def side_config(self):
        return {"url": self.url(), "password_file": str(self.box.folder / "my.password")}

    def connect(self, user="root", database=None, timeout_s=5.0):
        return pymysql.connect(host="127.0.0.1", port=self.port, user=user, password=PASSWORD, database=database,
                               autocommit=True, connect_timeout=timeout_s, read_timeout=timeout_s, write_timeout=timeout_s)

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
        for row in self.query("SELECT CONCAT(User, '@', Host), Priv FROM mysql.global_priv"):
            found[f"account {row[0]}"] = row[1]
        for row in self.query("SELECT EVENT_SCHEMA, EVENT_NAME, STATUS FROM information_schema.EVENTS"):
            found[f"event {row[0]}.{row[1]}"] = row[2]
        return found

    def set_apply_delay(self, ms):
        self.query("STOP SLAVE SQL_THREAD")
        self.query(f"CHANGE MASTER TO MASTER_DELAY = {max(1, ms // 1000)}")
        self.query("START SLAVE SQL_THREAD")

    def cut_link(self, cut):
        self.query(f"{'STOP' if cut else 'START'} SLAVE IO_THREAD")

    def pause_apply(self, paused):
        self.query(f"{'STOP' if paused else 'START'} SLAVE SQL_THREAD")


class MySQL(MariaDB):
    engine = "mysql"

    @staticmethod
    def missing():
        try:
            told = subprocess.run(["mysqld", "--version"], capture_output=True, text=True, check=False).stdout
        except FileNotFoundError:
            return "mysql: no mysqld"
        return "mysql: the mysqld here is MariaDB's" if "MariaDB" in told else "mysql: not tried here"

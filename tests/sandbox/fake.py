"""The fake engine: changeover-fake-server, and a client of its line protocol."""
import socket
import subprocess
import urllib.parse

from . import process
from .box import Server
from .tool import build_folder
from .wait import wait_for

SAFE = "!\"#$&'()*+-./:<>?@[\\]^_`{|}~"


class FakeError(RuntimeError):
    def __init__(self, code, message):
        super().__init__(f"{code}: {message}")
        self.code = code


class Connection:
    def __init__(self, port, account="app", name="", timeout_s=2.0, password=None):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")
        self.number = 0
        try:
            self.ask("hello", account=account, name=name, password=password)
        except BaseException:
            self.close()
            raise

    def ask(self, command, **values):
        self.number += 1
        values["id"] = self.number
        line = command + "".join(f" {key}={urllib.parse.quote(str(value), safe=SAFE)}"
                              for key, value in values.items() if value is not None)
        self.socket.sendall(line.encode() + b"\n")
        while True:
            reply = self.file.readline()
            if not reply.endswith(b"\n"):
                raise ConnectionError("the server closed the connection")
            words = reply.decode().split()
            answer = {key: urllib.parse.unquote(value) for key, value in (word.split("=", 1) for word in words[1:])}
            if int(answer.get("id", 0)) == self.number:
                break
        if words[0] != "ok":
            raise FakeError(answer.get("code", ""), answer.get("message", ""))
        return answer

    def close(self):
        self.file.close()
        self.socket.close()


class Client:
    def __init__(self, server, kind, timeout_s):
        self.server, self.kind, self.timeout_s = server, kind, timeout_s
        self.connection = None
        if kind != "reconnecting":
            self.connection = self.connect()

    def connect(self):
        return self.server.connect("superuser" if self.kind == "superuser" else "app", "writer", self.timeout_s)

    def write(self, key):
        if self.kind == "reconnecting":
            connection = self.connect()
            try:
                connection.ask("write", key=key, value="x")
            finally:
                connection.close()
        elif self.kind == "long":
            self.connection.ask("begin")
            self.connection.ask("put", key=key, value="x")
            self.server.box_pause(0.15)
            self.connection.ask("commit")
        else:
            self.connection.ask("write", key=key, value="x")

    def close(self):
        if self.connection:
            self.connection.close()


class Fake(Server):
    engine = "fake"
    scheme = "fake"

    @staticmethod
    def missing():
        return None if (build_folder() / "changeover-fake-server").exists() else "fake: changeover-fake-server isn't built"

    @staticmethod
    def prepare_pair(pair, legs=False):
        pair.extra["probe"] = {"user": "app"}
        if legs:
            from .proxy import Proxy

            ports = {"tool_a": pair.a, "tool_b": pair.b, "a_b": pair.b, "b_a": pair.a}
            made = {name: Proxy(pair.a.box.free_port(), server.port) for name, server in ports.items()}
            pair.a.box.proxies.extend(made.values())
            pair.legs = made
            pair.a.reached, pair.a.peer = made["tool_a"].port, made["b_a"].port
            pair.b.reached, pair.b.peer = made["tool_b"].port, made["a_b"].port

    @staticmethod
    def fill(pair):
        client = pair.a.client("ordinary")
        for i in range(20):
            client.write(f"before-{i}")
        client.close()

    def __init__(self, box, name):
        super().__init__(box, name)
        self.child = None
        self.reached = self.peer = self.port  # by the tool, and by the other side

    def pid(self):
        return self.child.pid if self.child and self.child.poll() is None else None

    def start(self):
        log = open(self.folder / "log.txt", "ab")
        self.child = subprocess.Popen([*self.prefix, str(build_folder() / "changeover-fake-server"), "--data", str(self.folder / "data"),
                                       "--listen", f"{self.bind}:{self.port}"], stdin=subprocess.DEVNULL,
                                      stdout=log, stderr=log)
        log.close()
        wait_for(self.answers, 60, f"{self.name} answers")

    def answers(self):
        if self.child.poll() is not None:
            raise RuntimeError(f"{self.name} ended with {self.child.returncode}")
        self.connect("control", timeout_s=1.0).close()
        return True

    def connect(self, account="app", name="", timeout_s=2.0):
        with self.inside():
            return Connection(self.port, account, name, timeout_s)

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
            self.child.wait()

    def url(self):
        return f"{self.scheme}://{self.address_for('tool')}:{self.reached}"

    def side_config(self):
        return {"url": self.url(), "peer": {"address": f"{self.address_for(self.other_name)}:{self.peer}"}, "tls": {"mode": "off"}}

    def client(self, kind, timeout_s=2.0):
        return Client(self, kind, timeout_s)

    @staticmethod
    def box_pause(seconds):
        import time

        time.sleep(seconds)  # how long the transaction lasts: the case itself, not a wait for something

    def control(self, command, **values):
        """One command as `control`, or a look as `tool`."""
        connection = self.connect("control", timeout_s=5.0)
        try:
            return connection.ask(command, **values)
        finally:
            connection.close()

    def rule(self, verb, do, ms=0, count=1):
        self.control("rule", verb=verb, do=do, ms=ms, count=count)

    def look(self):
        return self.control("look")

    def read_all(self):
        keys, at = set(), 1
        while True:
            answer = self.control("entries", **{"from": at, "limit": 2000})
            pairs = [one for one in answer["entries"].split(";") if one]
            if not pairs:
                return keys
            keys.update(urllib.parse.unquote(one.split(",", 1)[0]) for one in pairs)
            at += len(pairs)

    def settings(self):
        names = ("role", "fence", "closure", "retired", "events_off", "events_ms", "sync", "apply_delay_ms",
                 "idle_timeout_ms", "source", "slot", "slots", "token")
        look = self.look()
        return {name: look[name] for name in names}

    # what conformance cases need, each engine in its own way
    def set_apply_delay(self, ms):
        self.control("set", apply_delay_ms=ms)

    def cut_link(self, cut):
        self.control("cut", on=int(cut))

    def pause_apply(self, paused):
        self.control("apply", paused=int(paused))


class FakeRounds(Fake):
    engine = "fake-rounds"
    scheme = "fake-rounds"


class FakeNovote(Fake):
    engine = "fake-novote"
    scheme = "fake-novote"

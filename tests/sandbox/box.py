"""A temporary folder with servers in it. Kept when a test failed; servers are always ended, by pid."""
import contextlib
import os
import pathlib
import random
import shutil
import socket
import tempfile

from . import process


# Below those that the kernel gives to whoever connects: while a server is down nobody's connection takes its port, not even one to it.
PORTS = range(15000, 32000)
CHOOSER = random.SystemRandom()


class ServerMissing(Exception):
    """The engine's server or driver isn't on this machine: a named skip."""


class Server:
    """What a test may do with a server of any engine. `client(kind)` kinds: see each engine; every engine has
    "ordinary", "superuser", "reconnecting" and "long". A client has write(key) that returns when acknowledged and
    raises otherwise, and close()."""

    engine = ""
    kinds = ("ordinary", "superuser", "reconnecting", "long")
    FAULT_LIMIT_S = 3  # max_write_pause and undo_budget of the fault suite: short, and yet more than a healthy server needs
    OPENS_IN_S = 30  # how long after it was started a server takes writes that nobody keeps from it, at most
    restart_resets = ()  # names of settings() that a restart alone sets to what the server's configuration says

    def __init__(self, box, name):
        self.box = box
        self.name = name
        self.folder = box.folder / name
        self.folder.mkdir(mode=0o755)
        self.port = box.free_port()
        self.home = box.network.homes[name[-1]] if box.network else None  # a machine of its own

    @property
    def bind(self):
        return "0.0.0.0" if self.home else "127.0.0.1"

    @property
    def prefix(self):
        """Words before a command that is to run on this server's machine."""
        return self.home.prefix if self.home else []

    def inside(self):
        return self.home.inside() if self.home else contextlib.nullcontext()

    def address_for(self, who):
        """This server's address as `who` ("tool", "a", "b") reaches it."""
        return self.home.addresses[who] if self.home else "127.0.0.1"

    @property
    def other_name(self):
        return "b" if self.name[-1] == "a" else "a"

    def pid(self):
        raise NotImplementedError

    def start(self):
        raise NotImplementedError

    def stop(self):
        """Ends the server cleanly, or by force when it doesn't want to."""
        raise NotImplementedError

    def kill(self):
        """kill -9 of the whole server, seen gone."""
        pid = self.pid()
        for one in process.stopped_family(pid) if pid else []:
            process.send(one, 9)
        if pid:
            process.end(pid)

    def crash_and_restart(self):
        self.kill()
        self.start()

    def freeze(self):
        for one in process.stopped_family(self.pid()):
            process.send(one, 19)

    def thaw(self):
        if self.pid():
            process.send_family(self.pid(), 18)

    def end(self):
        """For the clean-up: whatever state it is in."""
        try:
            self.thaw()
            self.kill()
        except (OSError, TimeoutError):
            pass

    def url(self):
        raise NotImplementedError

    def side_config(self):
        return {"url": self.url()}

    def client(self, kind, timeout_s=2.0):
        raise NotImplementedError

    def read_all(self):
        """Every key that writers wrote and that this server has."""
        raise NotImplementedError

    def settings(self):
        """What an undo must leave as it was."""
        raise NotImplementedError

    def agrees(self, other):
        """Whether both say the same of what they share, where one hears of it from the other some time later."""
        return True

    def is_open(self):
        """Whether an ordinary client's write is acknowledged now."""
        client = None
        try:
            client = self.client("ordinary", timeout_s=5.0)
            client.write(f"probe-{os.urandom(4).hex()}")
            return True
        except Exception:  # whatever a client library raises: it wasn't acknowledged
            return False
        finally:
            if client:
                client.close()


class Pair:
    """Two servers of one engine, and the config's pair."""

    def __init__(self, name, engine, a, b, extra=None):
        self.name, self.engine, self.a, self.b = name, engine, a, b
        self.extra = extra or {}
        self.legs = {}  # relays by name where the engine's sandbox makes them

    def side(self, name):
        return self.a if name == "a" else self.b

    def config(self):
        pair = {"name": self.name, "engine": self.engine, "a": self.a.side_config(), "b": self.b.side_config(),
                "gate": {"max_seconds": 1, "stable_for": "200ms"}, "drain": {"timeout": "300ms", "on_timeout": "end"}}
        pair.update(self.extra)
        return pair


class Sandbox:
    def __init__(self, name="box", keep=False, network=False):
        base = os.environ.get("CO_TMPDIR") or tempfile.gettempdir()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"changeover-{name}-", dir=base))
        self.folder.chmod(0o755)
        self.servers = []
        self.keep = keep
        self.ports = set()
        self.tools = []
        self.proxies = []
        self.mounts = []
        self.network = None
        if network:
            from .network import Network

            self.network = Network()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.close(failed=kind is not None)

    def free_port(self):
        while True:
            port = CHOOSER.choice(PORTS)
            with socket.socket() as probe:
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    continue
            if port not in self.ports:
                self.ports.add(port)
                return port

    def pair(self, engine, name="main", **options):
        from .engines import make_pair

        pair = make_pair(self, engine, name, **options)
        return pair

    def add(self, server):
        self.servers.append(server)
        return server

    def tool(self, pairs, **config):
        from .tool import Tool

        tool = Tool(self, pairs, **config)
        self.tools.append(tool)
        return tool

    def close(self, failed=False):
        for server in self.servers if failed else ():
            child = getattr(server, "child", None)
            if child and child.poll() is not None:
                print(f"{server.name} had ended: {child.returncode}")
        for tool in self.tools:
            tool.end()
        for proxy in self.proxies:
            proxy.stop()
        for server in self.servers:
            server.end()
        for pid in process.with_argument(str(self.folder) + "/"):
            process.end(pid)  # a guardian, a server that a setup step started
        for mount in self.mounts:
            mount.stop()
        if self.network:
            self.network.stop()
        if failed or self.keep:
            print(f"kept: {self.folder}")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

#!/usr/bin/python3
"""A DOUBLE of a member of a MongoDB replica set; not MongoDB. For where no mongod is to be had.

It speaks the real wire protocol and answers what the driver and the tests ask as the server's documentation and source
say (the reference is beside each answer). Elections, heartbeats, replication and majorities are real, among doubles;
names of commands between members that the manual doesn't document are the double's own. `doubleInject` makes the next
calls of a command fail, lose their reply or come late. Run: mongodb_double.py --port N --data FOLDER [--version 6.0.0]
[--users FILE] [--election-ms 1000]"""
import argparse
import base64
import contextlib
import hashlib
import hmac
import json
import os
import pathlib
import random
import socket
import ssl
import struct
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import mongodb_double_wire as wire  # noqa: E402
from mongodb_double_wire import Date, Int64, ObjectId, Timestamp, Uuid  # noqa: E402

STARTUP, PRIMARY, SECONDARY, STARTUP2, REMOVED = 0, 1, 2, 5, 10  # manual: "Replica Set Member States"
INTERNAL = ("admin", "config", "local")
BLOCK = ("config", "user_writes_critical_sections")
FCV, DEFAULTS = ("admin", "system.version"), ("config", "settings")
HEARTBEAT_S, FETCH_S = 0.1, 0.1
FREE = {"ismaster", "isMaster", "hello", "ping", "saslStart", "saslContinue", "buildInfo", "endSessions",
        "replSetInitiate",  # by the localhost exception
        "doubleInject", "doubleCut"}
MEMBERS_ONLY = {"replSetHeartbeat", "replSetRequestVotes", "doubleFetch"}
LOCKING = {"find", "insert", "update", "findAndModify", "appendOplogNote", "listDatabases", "collStats", "dbStats"}


class Refused(Exception):
    def __init__(self, code, name, message):
        super().__init__(message)
        self.reply = {"ok": 0.0, "errmsg": message, "code": code, "codeName": name}


def not_primary():  # error_codes.yml 10107
    return Refused(10107, "NotWritablePrimary", "not primary")


def implicit_majority(config):
    voters = [one for one in config["members"] if one.get("votes", 1) > 0]
    data = sum(1 for one in voters if not one.get("arbiterOnly"))
    return data == len(voters) or data > len(voters) // 2 + 1


def is_newer(config, than):
    """ConfigVersionAndTerm in repl_set_config.h (4.4): a forced config has no term, and then only versions are compared."""
    terms = config.get("term", -1), than.get("term", -1)
    if -1 not in terms and terms[0] != terms[1]:
        return terms[0] > terms[1]
    return config["version"] > than["version"]


def now_ms():
    return int(time.time() * 1000)


class Member:
    def __init__(self, arguments):
        self.name = f"{arguments.address}:{arguments.port}"
        self.folder = pathlib.Path(arguments.data)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.version = [int(part) for part in arguments.version.split(".")]
        self.users = json.loads(pathlib.Path(arguments.users).read_text()) if arguments.users else None
        self.election_s = arguments.election_ms / 1000
        self.process_id = ObjectId(os.urandom(12))
        self.changed = threading.Condition(threading.RLock())
        self.term, self.voted_for, self.config = 0, None, None
        self.oplog, self.data, self.local = [], {}, {}
        self.state, self.draining, self.stepping = STARTUP, False, False
        self.heard, self.progress = {}, {}
        self.last_primary, self.not_before, self.frozen_until = time.monotonic(), 0.0, 0.0
        self.injected, self.sessions, self.salted = {}, {}, {}
        self.source, self.peers = "", set()
        self.started, self.cut = time.time(), False
        self.first_of_term = (-1, 0, 0)
        self.counts = {}
        self.configs, self.next_ask = {}, {}  # of other members: (version, term) as their answers to heartbeats say; when they are asked next
        self.transactions, self.waiting_for_lock = {}, 0
        self.load()

    # ------------------------------------------------------------ what survives a kill

    def load(self):
        try:
            kept = json.loads((self.folder / "state.json").read_text())
            self.term, self.voted_for, self.config = kept["term"], kept["voted_for"], kept["config"]
            self.local = json.loads((self.folder / "local.json").read_text())
        except FileNotFoundError:
            pass
        try:
            for line in (self.folder / "oplog.jsonl").read_bytes().split(b"\n"):
                if line:
                    self.apply(json.loads(line))
        except (FileNotFoundError, ValueError):  # a torn last line
            pass
        self.rewrite_oplog()
        if self.config:
            self.state = self.resting_state()

    def resting_state(self):
        if not self.me():
            return REMOVED
        return SECONDARY if self.oplog else STARTUP2

    def save_state(self):
        self.put("state.json", {"term": self.term, "voted_for": self.voted_for, "config": self.config})

    def put(self, name, doc):
        temporary = self.folder / (name + ".new")
        temporary.write_text(json.dumps(doc))
        os.replace(temporary, self.folder / name)

    def rewrite_oplog(self):
        temporary = self.folder / "oplog.new"
        temporary.write_text("".join(json.dumps(entry) + "\n" for entry in self.oplog))
        os.replace(temporary, self.folder / "oplog.jsonl")
        self.log = open(self.folder / "oplog.jsonl", "ab", buffering=0)

    # ------------------------------------------------------------ data

    def apply(self, entry):
        self.oplog.append(entry)
        db, _, collection = entry["ns"].partition(".")
        where = self.data.setdefault((db, collection), {}) if entry["op"] != "n" else None
        if entry["op"] in "iu":
            where[entry["o"]["_id"]] = entry["o"]
        elif entry["op"] == "d":
            where.pop(entry["o"]["_id"], None)

    def append(self, operation, db, collection, doc):
        """On the primary, with the lock: one entry of the oplog."""
        last = self.last()
        seconds = max(int(time.time()), last[1])
        entry = {"t": self.term, "s": seconds, "i": last[2] + 1 if seconds == last[1] else 1, "op": operation,
                 "ns": f"{db}.{collection}" if collection else "", "o": doc}
        self.apply(entry)
        self.log.write(json.dumps(entry).encode() + b"\n")
        self.changed.notify_all()
        return position(entry)

    def rebuild(self):
        entries, self.oplog, self.data = self.oplog, [], {}
        for entry in entries:
            self.apply(entry)
        self.rewrite_oplog()

    def last(self):
        return position(self.oplog[-1]) if self.oplog else (-1, 0, 0)

    def fcv(self):
        """The set's feature compatibility version: a replicated document (manual: setFeatureCompatibilityVersion)."""
        kept = self.data.get(FCV, {}).get("featureCompatibilityVersion")
        return kept["version"] if kept else ".".join(map(str, self.version[:2]))

    def default_w(self):
        """Manual: "Write Concern", implicit default (5.0); isImplicitDefaultWriteConcernMajority in repl_set_config.cpp."""
        chosen = self.data.get(DEFAULTS, {}).get("ReadWriteConcernDefaults")
        if chosen:
            return chosen["defaultWriteConcern"]["w"]
        return "majority" if self.version[0] >= 5 and implicit_majority(self.config) else 1

    def blocked(self):
        return any(doc.get("blockUserWrites") for doc in self.data.get(BLOCK, {}).values())

    # ------------------------------------------------------------ the set

    def members(self):
        return self.config["members"] if self.config else []

    def me(self):
        return next((member for member in self.members() if member["host"] == self.name), None)

    def voters(self, config=None):
        return [member["host"] for member in (config or self.config or {"members": []})["members"] if member.get("votes", 1) > 0]

    def majority(self, count, config=None):
        return count > len(self.voters(config)) // 2

    def fresh(self, name):
        heard = self.heard.get(name)
        return heard if heard and time.monotonic() - heard["at"] < self.election_s else None

    def primary_name(self):
        if self.state == PRIMARY:
            return self.name
        return next((name for name in self.heard if self.fresh(name) and self.heard[name]["state"] == PRIMARY
                     and self.heard[name]["term"] >= self.term), None)

    def committed(self, wanted):
        have = sum(1 for name in self.voters() if (self.last() if name == self.name else self.progress.get(name, (-1, 0, 0))) >= wanted)
        return self.majority(have)

    def adopt(self, term):
        if term > self.term:
            self.term, self.voted_for = term, None
            self.save_state()
            if self.state == PRIMARY:
                self.resign()

    def resign(self):
        self.state, self.draining = SECONDARY, False
        self.transactions.clear()  # a step-down aborts those that aren't prepared
        self.last_primary = time.monotonic()
        self.changed.notify_all()

    def install(self, config):
        """The newer one wins; a forced one adds to the version."""
        if not config or (self.config and not is_newer(config, self.config)):
            return
        self.config = config
        self.save_state()
        self.restart_heartbeats()
        if not self.me():
            self.state = REMOVED
        elif self.state in (STARTUP, REMOVED):
            self.state = self.resting_state()
            self.last_primary = time.monotonic()
        elif self.state == PRIMARY and not self.me().get("votes", 1):
            self.resign()
        self.changed.notify_all()

    def heartbeat_s(self):
        return (self.config or {"settings": {}})["settings"].get("heartbeatIntervalMillis", 2000) / 1000

    def restart_heartbeats(self):
        """_startHeartbeats: everybody is asked when a config is installed, and doesn't have it yet; again after the interval."""
        self.next_ask = {one["host"]: time.monotonic() + self.heartbeat_s() for one in self.members()}

    def learn_config(self, name, config):
        """processHeartbeatResponse in topology_coordinator.cpp: which config a member has is known from its answer to the next
        heartbeat. Newer ones ask a member that says it has another config at once (processHeartbeatV1; in 8.0). Here members
        hear of each other more often than that, but for the configs."""
        at_once = self.version[0] >= 8 or self.version < [4, 4]
        if at_once or time.monotonic() >= self.next_ask.get(name, 0.0):
            self.configs[name] = (config.get("version", 0), config.get("term", -1))
            self.next_ask[name] = time.monotonic() + self.heartbeat_s()

    # ------------------------------------------------------------ elections

    def can_stand(self):
        me = self.me()
        return bool(me) and self.state == SECONDARY and me.get("votes", 1) > 0 and me.get("priority", 1) > 0

    def elect(self, dry_run):
        """True: this member is the primary now. Called without the lock."""
        with self.changed:
            if not self.can_stand() or time.monotonic() < max(self.not_before, self.frozen_until):
                return False  # topology_coordinator.cpp, StepDownPeriodActive
            term = self.term + 1
            if not dry_run:
                self.term, self.voted_for = term, self.name
                self.save_state()
            request = {"replSetRequestVotes": 1, "term": Int64(self.term if dry_run else term), "candidate": self.name, "dryRun": dry_run,
                       "last": list(self.last()), "configVersion": self.config["version"]}
            others = [name for name in self.voters() if name != self.name]
        granted = [True]

        def ask_one(name):
            try:
                if ask(name, request, 0.5).get("voteGranted"):
                    granted.append(True)
            except (OSError, ValueError):
                pass
        threads = [threading.Thread(target=ask_one, args=(name,), daemon=True) for name in others]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 0.6
        for thread in threads:
            while thread.is_alive() and time.monotonic() < deadline and not self.majority(len(granted)):
                thread.join(0.005)
        with self.changed:
            won = self.majority(len(granted))
            if dry_run or not won or self.term != term or not self.can_stand():
                return won and dry_run and self.can_stand()
            self.state, self.draining, self.progress = PRIMARY, True, {}
            self.first_of_term = self.append("n", "", "", {"msg": "new primary"})  # replication/README: a new primary writes a no-op in its term
            if self.version >= [4, 4] and self.config.get("term", -1) != -1:  # signalDrainComplete: the config gets the new term
                self.config = {**self.config, "term": self.term}
                self.save_state()
                self.restart_heartbeats()
            self.draining = False
            return True

    def vote(self, request):
        """processReplSetRequestVotes in topology_coordinator.cpp (4.0): no lower term, the same version of the config, no older
        data; a dry run is asked for with the candidate's present term and binds nobody."""
        with self.changed:
            term, last = int(request["term"]), tuple(request["last"])
            same = self.config is not None and request["configVersion"] == self.config["version"] and last >= self.last()
            if request.get("dryRun"):
                return {"voteGranted": term >= self.term and same, "ok": 1.0}
            self.adopt(term)
            good = term == self.term and self.voted_for in (None, request["candidate"]) and same
            if good:
                self.voted_for = request["candidate"]
                self.last_primary = time.monotonic()
                self.save_state()
            return {"term": Int64(self.term), "voteGranted": good, "ok": 1.0}

    def tick(self):
        while True:
            time.sleep(0.05)
            with self.changed:
                now = time.monotonic()
                for member in self.members():
                    if member["host"] != self.name and member["host"] not in self.peers:
                        self.peers.add(member["host"])
                        threading.Thread(target=self.heartbeats, args=(member["host"],), daemon=True).start()
                if self.state == PRIMARY:
                    seen = sum(1 for name in self.voters() if name == self.name or self.fresh(name))
                    if not self.majority(seen):
                        self.resign()
                if self.primary_name():
                    self.last_primary = now
                overdue = now - self.last_primary > self.election_s * (1 + random.random() * 0.3)
                stand = self.can_stand() and now >= max(self.not_before, self.frozen_until) and overdue
            if stand and self.elect(True):
                self.elect(False)

    # ------------------------------------------------------------ between members

    def heartbeats(self, name):
        while True:
            time.sleep(HEARTBEAT_S)
            with self.changed:
                if not any(member["host"] == name for member in self.members()) and self.me():
                    self.peers.discard(name)
                    self.heard.pop(name, None)
                    return
                request = {"replSetHeartbeat": 1, "from": self.name, "term": Int64(self.term), "state": self.state,
                           "last": list(self.last()), "config": json.dumps(self.config)}
            try:
                answer = ask(name, request, max(0.3, self.election_s / 2))
            except (OSError, ValueError):
                continue
            with self.changed:
                self.listen(name, answer)

    def listen(self, name, message):
        """What another member says of itself, in a heartbeat or its answer."""
        self.install(json.loads(message["config"]))
        if not self.config or not any(member["host"] == name for member in self.members()):
            return
        self.adopt(int(message["term"]))
        self.heard[name] = {"at": time.monotonic(), "ms": now_ms(), "state": message["state"], "term": int(message["term"]),
                            "last": tuple(message["last"])}
        self.learn_config(name, json.loads(message["config"]) or {})
        self.changed.notify_all()

    def sync_source(self):
        """The primary; where none is known, any member that is ahead (chainingAllowed)."""
        if self.state not in (SECONDARY, STARTUP2) or self.cut:
            return None
        ahead = [name for name in self.heard if self.fresh(name) and self.heard[name]["state"] == SECONDARY and self.heard[name]["last"] > self.last()]
        return self.primary_name() or (ahead[0] if ahead else None)

    def fetch(self):
        connection, connected = None, None
        while True:
            with self.changed:
                source = self.sync_source()
                self.source = source or ""
                request = {"doubleFetch": 1, "from": self.name, "after": list(self.last())}
            if not source:
                time.sleep(0.02)
                continue
            try:
                if connected != source:
                    connection, connected = open_link(source, 1.0), source
                answer = exchange(connection, request)
            except (OSError, ValueError):
                connection, connected = None, None
                time.sleep(0.05)
                continue
            with self.changed:
                self.take(answer)

    def take(self, answer):
        if self.state not in (SECONDARY, STARTUP2) or self.cut or not answer.get("ok"):
            return
        if answer.get("diverged") and self.oplog:  # a rollback: back to where the histories meet
            self.oplog.pop()
            self.rebuild()
            return
        entries = json.loads(answer.get("entries", "[]"))
        if entries and tuple(answer["after"]) != self.last():
            return
        for entry in entries:
            self.apply(entry)
        if entries:
            self.log.write(b"".join(json.dumps(entry).encode() + b"\n" for entry in entries))
        if self.state == STARTUP2 and self.last() >= tuple(answer["last"]) and self.oplog:
            self.state = SECONDARY
        self.changed.notify_all()

    def give(self, request):
        deadline = time.monotonic() + FETCH_S
        with self.changed:
            after = tuple(request["after"])
            self.progress[request["from"]] = after
            self.changed.notify_all()
            while self.state == PRIMARY and self.last() <= after and time.monotonic() < deadline:
                self.changed.wait(deadline - time.monotonic())
            if self.state not in (PRIMARY, SECONDARY):
                raise not_primary()
            at = find(self.oplog, after)
            if after != (-1, 0, 0) and at < 0:
                return {"diverged": True, "ok": 1.0}
            return {"entries": json.dumps(self.oplog[at + 1:at + 501]), "after": list(after), "last": list(self.last()), "ok": 1.0}


def position(entry):
    return (entry["t"], entry["s"], entry["i"])


def find(oplog, wanted):
    """The index of an entry, or -1. Entries are in order."""
    low, high = 0, len(oplog) - 1
    while low <= high:
        middle = (low + high) // 2
        here = position(oplog[middle])
        if here == wanted:
            return middle
        low, high = (middle + 1, high) if here < wanted else (low, middle - 1)
    return -1


TLS = {"server": None, "client": None}  # contexts, where --tls-cert is given


def make_tls(certificate, authority):
    for side, purpose in (("server", ssl.Purpose.CLIENT_AUTH), ("client", ssl.Purpose.SERVER_AUTH)):
        context = ssl.create_default_context(purpose, cafile=authority)
        context.load_cert_chain(certificate)
        context.check_hostname, context.verify_mode = False, ssl.CERT_REQUIRED
        TLS[side] = context


def open_link(name, timeout_s):
    host, port = name.rsplit(":", 1)
    link = socket.create_connection((host, int(port)), timeout_s)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return TLS["client"].wrap_socket(link) if TLS["client"] else link


def exchange(link, request):
    body = struct.pack("<I", 0) + b"\0" + wire.encode({**request, "$db": "admin", "$double": True})
    link.sendall(struct.pack("<iiii", len(body) + 16, 1, 0, wire.OP_MSG) + body)
    _, opcode, answer = wire.read_message(link)
    return wire.parse_command(opcode, answer)


def ask(name, request, timeout_s):
    link = open_link(name, timeout_s)
    try:
        return exchange(link, request)
    finally:
        link.close()


def merged(doc, changes):
    """The document with these changes; None takes a field away."""
    made = dict(doc)
    for name, value in changes.items():
        if value is None:
            made.pop(name, None)
        elif isinstance(value, dict) and isinstance(made.get(name), dict):
            made[name] = merged(made[name], value)
        else:
            made[name] = value
    return made


# ---------------------------------------------------------------- what clients ask

class Session:
    """One client's connection."""

    def __init__(self, member, sock, number):
        self.member, self.socket, self.number = member, sock, number
        self.user, self.app, self.scram, self.operation, self.killed = None, "", None, None, False
        self.kept = False

    def serve(self):
        try:
            if TLS["server"]:
                self.socket = TLS["server"].wrap_socket(self.socket, server_side=True)
            while True:
                request, opcode, body = wire.read_message(self.socket)
                command = wire.parse_command(opcode, body)
                name = next(iter(command))
                rule = self.inject(name)
                self.operation, self.killed = name, False
                reply = rule["error"] if rule and rule.get("error") else self.answer(name, command)
                if rule and rule.get("merge") and reply:
                    reply = merged(reply, rule["merge"])
                self.operation = None
                if rule and rule.get("lose") or reply is None:
                    return
                self.socket.sendall(wire.reply_message(opcode, request, reply))
        except (OSError, ValueError, struct.error):
            pass
        finally:
            self.member.sessions.pop(self.number, None)
            self.socket.close()

    def inject(self, name):
        with self.member.changed:  # once is once, whoever asks at the same time
            rule = self.member.injected.get(name)
            if not rule:
                return None
            rule["times"] -= 1
            if rule["times"] <= 0:
                self.member.injected.pop(name, None)
        if rule.get("delay_ms"):
            time.sleep(rule["delay_ms"] / 1000)
        return rule

    def answer(self, name, command):
        self.member.counts[name] = self.member.counts.get(name, 0) + 1
        try:
            handler = getattr(self, "do_" + name.lower(), None)
            if not handler:  # error_codes.yml 59
                raise Refused(59, "CommandNotFound", f"no such command: '{name}'")
            if name in MEMBERS_ONLY and "$double" not in command:
                raise Refused(13, "Unauthorized", f"command {name} requires authentication")
            if self.member.users is not None and not self.user and name not in FREE and name not in MEMBERS_ONLY:
                raise Refused(13, "Unauthorized", f"command {name} requires authentication")
            self.wait_for_lock(name, command)
            return handler(command)
        except Refused as refused:
            return refused.reply

    def wait_for_lock(self, name, command):
        """Who takes the global lock waits behind one who wants it alone; a transaction has it already (lock_manager.cpp)."""
        member = self.member
        with member.changed:
            while name in LOCKING and command.get("autocommit") is not False and member.waiting_for_lock:
                member.changed.wait(0.5)

    # ------------------------------------------------------------ hello and logging in

    def do_hello(self, command):
        """Manual: hello. A member without a config says isreplicaset (repl_set_commands, appendReplicationInfo)."""
        member = self.member
        self.app = command.get("client", {}).get("application", {}).get("name", self.app)
        self.kept = self.kept or command.get("hangUpOnStepDown") is False  # replication_info.cpp, kKeepOpen
        with member.changed:
            wire_version = 21 if member.version[0] >= 7 else 17 if member.version[0] == 6 else 13 if member.version[0] == 5 else 7
            reply = {"helloOk": True, "maxBsonObjectSize": 16 << 20, "maxMessageSizeBytes": 48000000, "maxWriteBatchSize": 100000,
                     "localTime": Date(now_ms()), "minWireVersion": 0, "maxWireVersion": wire_version, "readOnly": False,
                     "ismaster": member.state == PRIMARY and not member.draining, "secondary": member.state == SECONDARY}
            if member.version >= [4, 4]:
                reply["topologyVersion"] = {"processId": member.process_id, "counter": Int64(1)}
            if member.config and member.me():
                reply.update(setName=member.config["_id"], setVersion=member.config["version"], me=member.name,
                             hosts=[one["host"] for one in member.members()])
                primary = member.primary_name()
                if primary:
                    reply["primary"] = primary
            else:
                reply.update(isreplicaset=True, info="Does not have a valid replica set config")
            if member.oplog:
                term, seconds, increment = member.last()
                reply["lastWrite"] = {"opTime": {"ts": Timestamp(seconds, increment), "t": Int64(term)}, "lastWriteDate": Date(seconds * 1000)}
        if "saslSupportedMechs" in command:
            reply["saslSupportedMechs"] = ["SCRAM-SHA-256"]
        return {**reply, "ok": 1.0}

    do_ismaster = do_hello

    def do_ping(self, command):
        return {"ok": 1.0}

    do_endsessions = do_ping

    def do_saslstart(self, command):
        """RFC 5802. Accounts come with the initial sync: a fresh member of a set with access control has none."""
        bare = command["payload"].decode()[3:]
        fields = dict(part.split("=", 1) for part in bare.split(","))
        users, member = self.member.users or {}, self.member
        if fields["n"] not in users or member.state in (STARTUP, STARTUP2):
            raise Refused(18, "AuthenticationFailed", "Authentication failed.")
        salt = hashlib.sha256(fields["n"].encode()).digest()[:28]
        first = f"r={fields['r']}{base64.b64encode(os.urandom(12)).decode()},s={base64.b64encode(salt).decode()},i=4096"
        self.scram = (fields["n"], salt, bare, first)
        return {"conversationId": 1, "done": False, "payload": first.encode(), "ok": 1.0}

    def do_saslcontinue(self, command):
        if not command["payload"]:
            return {"conversationId": 1, "done": True, "payload": b"", "ok": 1.0}
        user, salt, bare, first = self.scram
        final = command["payload"].decode()
        without, _, proof = final.rpartition(",p=")
        if user not in self.member.salted:
            self.member.salted[user] = hashlib.pbkdf2_hmac("sha256", self.member.users[user]["password"].encode(), salt, 4096)
        salted = self.member.salted[user]
        message = f"{bare},{first},{without}".encode()
        if base64.b64decode(proof) != wire.client_proof(salted, message):
            raise Refused(18, "AuthenticationFailed", "Authentication failed.")
        self.user = user
        signature = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), message, "sha256")
        return {"conversationId": 1, "done": True, "payload": b"v=" + base64.b64encode(signature), "ok": 1.0}

    # ------------------------------------------------------------ looks

    def do_buildinfo(self, command):
        version = self.member.version
        return {"version": ".".join(map(str, version)), "versionArray": [*version, 0], "modules": ["double"], "ok": 1.0}

    def do_serverstatus(self, command):
        """Manual: serverStatus, metrics.commands.<name>.total."""
        return {"process": "mongodb_double", "ok": 1.0,
                "metrics": {"commands": {name: {"total": Int64(count)} for name, count in dict(self.member.counts).items()}}}

    def do_getcmdlineopts(self, command):
        security = {"security": {"authorization": "enabled", "keyFile": "double"}} if self.member.users is not None else {}
        return {"argv": ["mongodb_double"], "parsed": security, "ok": 1.0}

    def do_usersinfo(self, command):
        users = self.member.users or {}
        return {"users": [{"user": name, "db": "admin", "roles": [{"role": role, "db": "admin"} for role in user["roles"]]}
                          for name, user in users.items()], "ok": 1.0}

    def do_rolesinfo(self, command):
        """Manual: rolesInfo with showPrivileges; root and restore hold bypassWriteBlockingMode (manual: "Built-In Roles")."""
        wanted = command["rolesInfo"]
        actions = ["find", "bypassWriteBlockingMode"] if wanted["role"] in ("root", "restore", "custom-bypass") else ["find"]
        privileges = [{"resource": {"cluster": True}, "actions": actions}]
        return {"roles": [{**wanted, "privileges": privileges, "inheritedPrivileges": privileges, "isBuiltin": True}], "ok": 1.0}

    def do_connectionstatus(self, command):
        """Manual: connectionStatus with showPrivileges; here every action of the tool's role on everything."""
        privileges = [{"resource": {"anyResource": True}, "actions": [
            "replSetGetStatus", "replSetGetConfig", "replSetConfigure", "replSetStateChange", "inprog", "killop", "fsync",
            "setUserWriteBlockMode", "killAnySession", "find", "insert", "update", "remove"]}]
        return {"authInfo": {"authenticatedUsers": [{"user": self.user or "", "db": "admin"}], "authenticatedUserPrivileges": privileges}, "ok": 1.0}

    def do_getparameter(self, command):
        """Manual: getParameter; before 3.6 the value was a string, since then {version: ...}."""
        with self.member.changed:
            return {"featureCompatibilityVersion": {"version": self.member.fcv()}, "ok": 1.0}

    def do_setfeaturecompatibilityversion(self, command):
        doc = {"_id": "featureCompatibilityVersion", "version": command["setFeatureCompatibilityVersion"]}
        return self.changing({**command, "$db": "admin", "writeConcern": {"w": "majority"}},
                             lambda wanted: wanted.append(self.store(*FCV, "u", doc)) or {})

    def do_getdefaultrwconcern(self, command):
        """Manual: getDefaultRWConcern; the source since 5.0."""
        with self.member.changed:
            w = self.member.default_w()
            return {"defaultWriteConcern": {"w": w, "wtimeout": 0}, "ok": 1.0,
                    "defaultWriteConcernSource": "global" if self.member.data.get(DEFAULTS) else "implicit"}

    def do_setdefaultrwconcern(self, command):
        doc = {"_id": "ReadWriteConcernDefaults", "defaultWriteConcern": command["defaultWriteConcern"]}
        return self.changing({**command, "$db": "config", "writeConcern": {"w": "majority"}},
                             lambda wanted: wanted.append(self.store(*DEFAULTS, "u", doc)) or {})

    def do_collstats(self, command):
        """Manual: collStats, for local.oplog.rs."""
        return {"ns": f"{command['$db']}.{command['collStats']}", "size": len(self.member.oplog) * 100, "maxSize": Int64(1 << 30), "ok": 1.0}

    def do_dbstats(self, command):
        """Manual: dbStats, fsTotalSize and fsUsedSize (3.6.3)."""
        return {"db": command["$db"], "fsTotalSize": float(100 << 30), "fsUsedSize": float(50 << 30), "ok": 1.0}

    def do_listdatabases(self, command):
        member = self.member
        with member.changed:
            if member.state not in (PRIMARY, SECONDARY):  # error_codes.yml 13436
                raise Refused(13436, "NotPrimaryOrSecondary", "node is not in primary or recovering state")
            names = sorted({db for (db, _), docs in member.data.items() if docs and db} | {"admin", "local", "config"})
            return {"databases": [{"name": name, "sizeOnDisk": Int64(4096), "empty": False} for name in names],
                    "totalSize": Int64(4096 * len(names)), "ok": 1.0}

    def do_replsetgetstatus(self, command):
        """Manual: replSetGetStatus; 94 before a config was received."""
        member = self.member
        with member.changed:
            if not member.config:
                raise Refused(94, "NotYetInitialized", "no replset config has been received")
            if not member.me():  # error_codes.yml 93
                raise Refused(93, "InvalidReplicaSetConfig", "Our replica set config is invalid or we are not a member of it")
            term, seconds, increment = member.last()
            optime = {"ts": Timestamp(seconds, increment), "t": Int64(term)}
            members = [{"_id": one["_id"], "name": one["host"], "health": 1.0, "state": member.state, "self": True,
                        **self.config_of(member.config["version"], member.config.get("term", -1))}
                       if one["host"] == member.name else self.other(one) for one in member.members()]
            return {"set": member.config["_id"], "date": Date(now_ms()), "myState": member.state, "term": Int64(member.term),
                    "syncSourceHost": member.source, "heartbeatIntervalMillis": Int64(int(member.heartbeat_s() * 1000)),
                    "optimes": {"appliedOpTime": optime, "durableOpTime": optime},
                    "members": members, "ok": 1.0}

    def config_of(self, version, term):
        """Manual: replSetGetStatus, members[n].configTerm (4.4)."""
        return {"configVersion": version, **({"configTerm": term} if self.member.version >= [4, 4] else {})}

    def other(self, one):
        heard = self.member.fresh(one["host"])
        known = self.member.heard.get(one["host"])
        return {"_id": one["_id"], "name": one["host"], "health": 1.0 if heard else 0.0, "state": heard["state"] if heard else 8,
                "stateStr": {1: "PRIMARY", 2: "SECONDARY", 5: "STARTUP2"}.get(heard["state"] if heard else 8, "(not reachable/healthy)"),
                **self.config_of(*self.member.configs.get(one["host"], (-1, -1))),
                "lastHeartbeatRecv": Date(known["ms"] if known else 0)}

    def do_replsetgetconfig(self, command):
        member = self.member
        with member.changed:
            if not member.config:
                raise Refused(94, "NotYetInitialized", "no replset config has been received")
            config = json.loads(json.dumps(member.config))
            if config.get("term", -1) == -1:  # before 4.4, and forced
                config.pop("term", None)
            config["settings"]["replicaSetId"] = ObjectId(bytes.fromhex(config["settings"]["replicaSetId"]))
            config["settings"]["electionTimeoutMillis"] = int(member.election_s * 1000)
            config["settings"].setdefault("heartbeatIntervalMillis", 2000)
            for one in config["members"]:
                one["priority"] = float(one.get("priority", 1))  # the server answers a double
                one["votes"] = one.get("votes", 1)
            return {"config": config, "ok": 1.0}

    def do_currentop(self, command):
        """And idle transactions: reportStashedState in transaction_participant.cpp ($currentOp shows idle sessions by default)."""
        idle = [{"type": "idleSession", "desc": "inactive transaction", "client": "127.0.0.1:9", "active": False, "lsid": one["lsid"],
                 "transaction": {"timeOpenMicros": Int64(int((time.monotonic() - one["opened"]) * 1e6))}}
                for one in list(self.member.transactions.values())]
        return {"inprog": idle + [{"opid": one.number, "appName": one.app, "type": "op", "active": True, "command": {one.operation: 1}}
                                  for one in list(self.member.sessions.values()) if one.operation and one is not self], "ok": 1.0}

    def do_killsessions(self, command):
        """Manual: killSessions; kill_sessions_command.cpp takes the uid of somebody else from who has killAnySession."""
        with self.member.changed:
            for one in command["killSessions"]:
                self.member.transactions.pop((bytes(one["id"]), one.get("uid", self.uid())), None)
            self.member.changed.notify_all()
        return {"ok": 1.0}

    def uid(self):
        """getLogicalSessionUserDigestFor in logical_session_id_helpers.cpp."""
        return hashlib.sha256(f"{self.user}@admin".encode() if self.user else b"").digest()

    # ------------------------------------------------------------ transactions: inserts, and how they end

    def in_transaction(self, command, end=False):
        """With the lock: the open one of this session. Manual: "Transactions", error 251 where there is none (any more)."""
        key = (bytes(command["lsid"]["id"]), self.uid())
        if command.get("startTransaction"):
            self.member.transactions[key] = {"opened": time.monotonic(), "inserts": [],
                                             "lsid": {"id": Uuid(key[0]), "uid": key[1]}}
        if key not in self.member.transactions:
            raise Refused(251, "NoSuchTransaction", "Given transaction number does not match any in-progress transactions.")
        return self.member.transactions.pop(key) if end else self.member.transactions[key]

    def do_committransaction(self, command):
        def change(wanted):
            for db, name, doc in self.in_transaction(command, end=True)["inserts"]:
                wanted.append(self.store(db, name, "i", doc))
            self.member.changed.notify_all()
            return {}
        return self.changing({**command, "$db": "shop"}, change)

    def do_aborttransaction(self, command):
        with self.member.changed:
            self.in_transaction(command, end=True)
            self.member.changed.notify_all()
        return {"ok": 1.0}

    def do_killop(self, command):
        target = self.member.sessions.get(int(command["op"]))
        if target and target.operation:
            target.killed = True
            with self.member.changed:
                self.member.changed.notify_all()
        return {"info": "attempting to kill op", "ok": 1.0}

    def do_find(self, command):
        member, db, collection = self.member, command["$db"], command["find"]
        with member.changed:
            if member.state == SECONDARY and "$readPreference" not in command:  # error_codes.err NotMasterNoSlaveOk
                raise Refused(13435, "NotMasterNoSlaveOk", "not master and slaveOk=false")
            if db != "local" and member.state not in (PRIMARY, SECONDARY):
                raise Refused(13436, "NotPrimaryOrSecondary", "node is not in primary or recovering state")
            if (db, collection) == ("local", "oplog.rs"):
                entries, after = member.oplog[-5000:], command.get("filter", {}).get("ts", {}).get("$gt")
                if after is not None:  # the server seeks there, too
                    late = next((i for i, one in enumerate(reversed(entries)) if Timestamp(one["s"], one["i"]) <= after), len(entries))
                    entries = entries[len(entries) - late:]
                docs = [{"ts": Timestamp(entry["s"], entry["i"]), "t": Int64(entry["t"]), "op": entry["op"], "ns": entry["ns"],
                         **({"o": entry["o"]} if entry["op"] == "c" else {})} for entry in entries]
            elif (db, collection) == ("local", "startup_log"):
                docs = [{"_id": f"double-{int(member.started * 1000)}"}]
            else:
                docs = list((member.local.get(collection, {}) if db == "local" else member.data.get((db, collection), {})).values())
        found = [doc for doc in docs if wire.matches(doc, command.get("filter", {}))]
        if command.get("sort", {}).get("$natural") == -1:
            found.reverse()
        return {"cursor": {"id": Int64(0), "ns": f"{db}.{collection}", "firstBatch": found[:command.get("limit") or None]}, "ok": 1.0}

    # ------------------------------------------------------------ writes

    def write(self, db, change):
        """change(collections) with the lock; then what the write concern asks for."""
        member = self.member
        with member.changed:
            if db == "local":  # writable on every member, not replicated (canAcceptWritesForDatabase)
                reply = change()
                member.put("local.json", member.local)
                return {**reply, "ok": 1.0}
            if member.state != PRIMARY or member.draining or member.stepping:
                raise not_primary()
            if db not in INTERNAL and member.blocked() and "root" not in self.roles():  # error_codes.yml UserWritesBlocked
                raise Refused(371, "UserWritesBlocked", "User writes blocked")
            return change()

    def roles(self):
        """Without access control a write block holds nobody (docs/mongodb.md)."""
        return ["root"] if self.member.users is None else self.member.users[self.user]["roles"]

    def acknowledge(self, command, wanted, term):
        """Default since 5.0: majority (manual: "Write Concern", implicit default); before, one member."""
        concern = command.get("writeConcern", {})
        w = concern.get("w", self.member.default_w())
        if w in (0, 1) or not wanted:
            return {}
        member, deadline = self.member, time.monotonic() + (concern.get("wtimeout") or 86400000) / 1000
        with member.changed:
            while True:
                if member.state != PRIMARY or member.term != term:  # error_codes.yml 189
                    return {"writeConcernError": {"code": 189, "codeName": "PrimarySteppedDown", "errmsg": "primary stepped down while waiting"}}
                if member.committed(wanted):
                    return {}
                if time.monotonic() >= deadline or self.killed:
                    return {"writeConcernError": {"code": 64, "codeName": "WriteConcernFailed", "errmsg": "waiting for replication timed out"}}
                member.changed.wait(min(0.5, deadline - time.monotonic()))

    def collection(self, db, name):
        return self.member.local.setdefault(name, {}) if db == "local" else self.member.data.setdefault((db, name), {})

    def store(self, db, name, operation, doc):
        if db == "local":
            if operation == "d":
                self.collection(db, name).pop(doc["_id"], None)
            else:
                self.collection(db, name)[doc["_id"]] = doc
            return None
        return self.member.append(operation, db, name, doc)

    def changing(self, command, change):
        wanted = []
        term = []

        def locked():
            term.append(self.member.term)
            return change(wanted)
        reply = self.write(command["$db"], locked)
        return {**reply, **self.acknowledge(command, max((one for one in wanted if one), default=None), term[0]), "ok": 1.0}

    def do_insert(self, command):
        db, name = command["$db"], command["insert"]

        def change(wanted):
            if command.get("autocommit") is False:
                self.in_transaction(command)["inserts"] += [(db, name, doc) for doc in command["documents"]]
                return {"n": len(command["documents"])}
            for index, doc in enumerate(command["documents"]):
                doc.setdefault("_id", os.urandom(12).hex())
                if isinstance(doc["_id"], bytes):
                    doc["_id"] = doc["_id"].hex()
                if doc["_id"] in self.collection(db, name):  # error_codes.yml 11000
                    return {"n": index, "writeErrors": [{"index": index, "code": 11000, "errmsg": "E11000 duplicate key error"}]}
                wanted.append(self.store(db, name, "i", doc))
            return {"n": len(command["documents"])}
        return self.changing(command, change)

    def do_update(self, command):
        db, name = command["$db"], command["update"]

        def change(wanted):
            count = 0
            for update in command["updates"]:
                found = [doc for doc in self.collection(db, name).values() if wire.matches(doc, update["q"])]
                if not found and update.get("upsert"):
                    found = [dict(update["q"])]
                for doc in found[:None if update.get("multi") else 1]:
                    wanted.append(self.store(db, name, "u", self.changed(doc, update["u"])))
                    count += 1
            return {"n": count, "nModified": count}
        return self.changing(command, change)

    @staticmethod
    def changed(doc, update):
        if "$set" in update:
            return {**doc, **update["$set"]}
        return {"_id": doc["_id"], **update}

    def do_findandmodify(self, command):
        db, name = command["$db"], command["findAndModify"]

        def change(wanted):
            found = next((doc for doc in self.collection(db, name).values() if wire.matches(doc, command.get("query", {}))), None)
            if not found:
                return {"lastErrorObject": {"n": 0, "updatedExisting": False}, "value": None}
            if command.get("remove"):
                wanted.append(self.store(db, name, "d", {"_id": found["_id"]}))
            else:
                wanted.append(self.store(db, name, "u", self.changed(found, command["update"])))
            return {"lastErrorObject": {"n": 1, "updatedExisting": not command.get("remove", False)}, "value": found}
        return self.changing(command, change)

    def do_appendoplognote(self, command):
        """oplog_note.cpp: a no-op with the caller's data; on the primary."""
        with self.member.changed:
            if self.member.state != PRIMARY:
                raise not_primary()
            self.member.append("n", "", "", command["data"])
        return {"ok": 1.0}

    def do_setuserwriteblockmode(self, command):
        """Manual: setUserWriteBlockMode (6.0). A document in config.user_writes_critical_sections, majority-committed
        (user_writes_recoverable_critical_section_service.cpp); on the primary only."""
        member = self.member
        if member.version[0] < 6:
            raise Refused(59, "CommandNotFound", "no such command: 'setUserWriteBlockMode'")
        if int(member.fcv().split(".")[0]) < 6:  # featureFlagUserWriteBlocking (6.0), tests with requires_fcv_60
            raise Refused(20, "IllegalOperation", "setUserWriteBlockMode command not enabled")

        def change(wanted):
            if command["global"]:
                self.lock_alone(command.get("maxTimeMS", 0))
            if member.state != PRIMARY:
                raise not_primary()
            if member.blocked() != command["global"]:
                doc = {"_id": "", "blockNewUserShardedDDL": command["global"], "blockUserWrites": command["global"]}
                wanted.append(member.append("i" if command["global"] else "d", *BLOCK, doc))
            else:
                wanted.append(member.last())
            return {}
        limit = command.get("maxTimeMS", 0)
        reply = self.changing({**command, "$db": "config", "writeConcern": {"w": "majority", "wtimeout": limit}}, change)
        if "writeConcernError" in reply:
            trouble = reply["writeConcernError"]
            code = 50 if trouble["code"] == 64 else trouble["code"]
            raise Refused(code, "MaxTimeMSExpired" if code == 50 else trouble["codeName"], trouble["errmsg"])
        return reply

    def lock_alone(self, limit_ms):
        """acquireRecoverableCriticalSection in user_writes_recoverable_critical_section_service.cpp: the global lock in MODE_X, which
        open transactions hold in MODE_IX, until maxTimeMS; whoever wants it meanwhile waits behind. Called with the member's lock."""
        member, deadline = self.member, time.monotonic() + (limit_ms or 86400000) / 1000
        member.waiting_for_lock += 1
        try:
            while member.transactions and not self.killed:
                if time.monotonic() >= deadline:
                    raise Refused(50, "MaxTimeMSExpired", "operation exceeded time limit")
                member.changed.wait(0.02)
        finally:
            member.waiting_for_lock -= 1
            member.changed.notify_all()

    # ------------------------------------------------------------ the replica set

    def do_replsetinitiate(self, command):
        member = self.member
        with member.changed:
            if member.config:
                raise Refused(23, "AlreadyInitialized", "already initialized")
            config = command["replSetInitiate"]
            member.install({"_id": config["_id"], "version": 1, "members": config["members"],
                            "settings": {"replicaSetId": os.urandom(12).hex()}})
            member.state, member.term = SECONDARY, 0
            if member.version >= [4, 4]:
                member.config["term"] = 0
            member.save_state()
        member.elect(False)
        with member.changed:
            self.store(*FCV, "i", {"_id": "featureCompatibilityVersion", "version": member.fcv()})
        return {"ok": 1.0}

    def do_replsetreconfig(self, command):
        """Manual: replSetReconfig; replication README "Reconfiguration" (4.4: one voting member at a time, when the present config
        and the first entry of this term are committed in it, and then itself; force skips these and adds to the version)."""
        member, config, force = self.member, command["replSetReconfig"], command.get("force", False)
        deadline = time.monotonic() + (command.get("maxTimeMS") or 10000) / 1000
        with member.changed:
            while member.version >= [4, 4] and not force and member.state == PRIMARY and not self.may_follow(member.config):
                if time.monotonic() >= deadline:  # error_codes.yml 308
                    raise Refused(308, "CurrentConfigNotCommittedYet", "New config is rejected: the current config isn't committed")
                member.changed.wait(0.02)
            if not force and (member.state != PRIMARY or member.draining):
                raise not_primary()
            config.pop("term", None)
            if member.version >= [4, 4]:
                config["term"] = -1 if force else member.term
            config["settings"]["replicaSetId"] = config["settings"]["replicaSetId"].hex()
            config["version"] = int(config["version"])
            for one in config["members"]:
                one["_id"], one["priority"] = int(one["_id"]), float(one.get("priority", 1))
            if force:
                config["version"] = max(config["version"], member.config["version"] + 1) + random.randint(10000, 100000)
            elif config["version"] <= member.config["version"]:
                raise Refused(103, "NewReplicaSetConfigurationIncompatible", "version of the new config must be greater")
            self.refuse_unsafe(config, force)
            member.install(config)
            while not force and not self.config_committed(config):
                if time.monotonic() >= deadline or member.state != PRIMARY:
                    raise Refused(50, "MaxTimeMSExpired", "waiting for the config to be committed")
                member.changed.wait(0.02)
        return {"ok": 1.0}

    def refuse_unsafe(self, config, force):
        member = self.member
        mine = next((one for one in config["members"] if one["host"] == member.name), None)
        if not force and (not mine or mine.get("priority", 1) <= 0):  # error_codes.yml 93, 94: this node isn't electable
            raise Refused(93, "InvalidReplicaSetConfig", "This node is not electable under the new configuration")
        changed = set(member.voters()) ^ set(member.voters(config))
        if not force and len(changed) > 1 and member.version >= [4, 4]:
            raise Refused(103, "NewReplicaSetConfigurationIncompatible",
                          "Non force replica set reconfig can only add or remove at most 1 voting member.")
        if member.version[0] >= 5 and not member.data.get(DEFAULTS) and implicit_majority(config) != implicit_majority(member.config):
            raise Refused(103, "NewReplicaSetConfigurationIncompatible", "Reconfig attempted to install a config that would change the "
                          "implicit default write concern. Use the setDefaultRWConcern command to set a cluster-wide write concern "
                          "and try the reconfig again.")  # _doReplSetReconfig (5.0), forced or not
        if not member.voters(config):
            raise Refused(93, "InvalidReplicaSetConfig", "Replica set configuration must contain at least one voting member")

    def config_committed(self, config):
        member = self.member
        have = sum(1 for name in member.voters(config) if name == member.name
                   or (member.fresh(name) and member.configs.get(name, (-1, -1))[0] >= config["version"]
                       and config.get("term", -1) in (-1, member.configs[name][1])))
        return member.majority(have, config)

    def may_follow(self, config):
        """awaitConfigCommitment in replication_coordinator_impl.cpp; what was forced isn't waited for."""
        forced = config.get("term", -1) == -1
        return self.config_committed(config) and (forced or self.member.committed(self.member.first_of_term))

    def do_replsetstepdown(self, command):
        """Manual: replSetStepDown; step_down in replication_coordinator_impl.cpp: 262 where no electable secondary has
        everything in time; before 4.2 the connection is closed instead of an answer."""
        member = self.member
        patience = command.get("secondaryCatchUpPeriodSecs", 10)
        if command["replSetStepDown"] <= patience:
            raise Refused(2, "BadValue", "stepdown period must be longer than secondaryCatchUpPeriodSecs")
        with member.changed:
            if member.state != PRIMARY:
                raise not_primary()
            member.stepping, deadline, heir = True, time.monotonic() + patience, None
            try:
                while not heir:
                    heir = next((one["host"] for one in member.members() if one["host"] != member.name
                                 and one.get("votes", 1) > 0 and one.get("priority", 1) > 0 and member.fresh(one["host"])
                                 and member.progress.get(one["host"], (-1, 0, 0)) >= member.last()), None)
                    heir = heir if heir and member.committed(member.last()) else None
                    if not heir:
                        if time.monotonic() >= deadline:
                            raise Refused(262, "ExceededTimeLimit", "No electable secondaries caught up")
                        member.changed.wait(0.02)
                    if member.state != PRIMARY:
                        raise Refused(189, "PrimarySteppedDown", "stepped down while waiting")
                member.not_before = time.monotonic() + command["replSetStepDown"]
                member.resign()
            finally:
                member.stepping = False
        threading.Thread(target=self.hand_over, args=(heir,), daemon=True).start()
        if member.version < [4, 2]:  # closeConnections: all but those that asked to be kept
            for session in list(member.sessions.values()):
                if not session.kept and session is not self:
                    with contextlib.suppress(OSError):  # it has just ended by itself
                        session.socket.shutdown(socket.SHUT_RDWR)
            return {"ok": 1.0} if self.kept else None
        return {"ok": 1.0}

    @staticmethod
    def hand_over(heir):
        """Election handoff: an eligible secondary stands at once."""
        try:
            ask(heir, {"doubleStand": 1}, 1.0)
        except (OSError, ValueError):
            pass

    def do_doublestand(self, command):
        return {"won": self.member.elect(False), "ok": 1.0}

    def do_replsetstepup(self, command):
        """stepUpIfEligible in replication_coordinator_impl.cpp: a dry run first, unless skipDryRun; 125 when it isn't elected."""
        member = self.member
        if member.state == PRIMARY:
            return {"ok": 1.0}
        if not ((command.get("skipDryRun") or member.elect(True)) and member.elect(False)):
            raise Refused(125, "CommandFailed", "Election failed.")
        return {"ok": 1.0}

    def do_replsetfreeze(self, command):
        """prepareFreezeResponse in topology_coordinator.cpp: 0 ends a freeze and the period of a step-down."""
        member = self.member
        with member.changed:
            if member.state == PRIMARY:
                raise Refused(95, "NotSecondary", "cannot freeze node when primary or running for election. state: Primary")
            if command["replSetFreeze"] == 0:
                member.not_before = member.frozen_until = 0.0
            else:
                member.frozen_until = time.monotonic() + command["replSetFreeze"]
        return {"ok": 1.0}

    def do_fsync(self, command):
        return {"ok": 1.0, "numFiles": 1}  # everything that this one acknowledges is on disk

    def do_replsetheartbeat(self, command):
        member = self.member
        with member.changed:
            member.listen(command["from"], command)
            return {"ok": 1.0, "term": Int64(member.term), "state": member.state, "last": list(member.last()),
                    "config": json.dumps(member.config)}

    def do_replsetrequestvotes(self, command):
        return self.member.vote(command)

    def do_doublefetch(self, command):
        return self.member.give(command)

    def do_doublewrite(self, command):
        """An entry of the oplog that the server makes by itself, or that came past the write block."""
        with self.member.changed:
            self.member.append(command["op"], *command["doubleWrite"].split(".", 1), command["o"])
        return {"ok": 1.0}

    def do_doublecut(self, command):
        """Stops fetching, or goes on; heartbeats stay."""
        self.member.cut = command["doubleCut"]
        return {"ok": 1.0}

    def do_replsetmaintenance(self, command):
        """Manual: replSetMaintenance; a secondary goes into RECOVERING, and back."""
        with self.member.changed:
            self.member.state = 3 if command["replSetMaintenance"] else SECONDARY
        return {"ok": 1.0}

    def do_doublestate(self, command):
        """The member shows this state until it is told to rest."""
        with self.member.changed:
            self.member.state = command["doubleState"] or self.member.resting_state()
        return {"ok": 1.0}

    def do_doubleinject(self, command):
        if command.get("times", 1) <= 0:
            self.member.injected.pop(command["doubleInject"], None)
            return {"ok": 1.0}
        rule = {"times": command.get("times", 1), "lose": command.get("lose", False), "delay_ms": command.get("delay_ms", 0),
                "merge": command.get("merge")}
        if command.get("code"):
            rule["error"] = {"ok": 0.0, "code": command["code"], "codeName": "Injected", "errmsg": "injected"}
        self.member.injected[command["doubleInject"]] = rule
        return {"ok": 1.0}


MEMBERS_ONLY.add("doubleStand")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--version", default="6.0.0")
    parser.add_argument("--users")
    parser.add_argument("--election-ms", type=int, default=1000)
    parser.add_argument("--bind", default="127.0.0.1")
    parser.add_argument("--address", default="127.0.0.1", help="what the members call this one by")
    parser.add_argument("--tls-cert", help="certificate and key; every client must show one, too")
    parser.add_argument("--tls-ca")
    arguments = parser.parse_args()
    if arguments.tls_cert:
        make_tls(arguments.tls_cert, arguments.tls_ca)
    member = Member(arguments)
    listener = socket.create_server((arguments.bind, arguments.port), backlog=128)
    for target in (member.tick, member.fetch):
        threading.Thread(target=target, daemon=True).start()
    number = 0
    while True:
        sock, _ = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        number += 1
        session = Session(member, sock, number)
        member.sessions[number] = session
        threading.Thread(target=session.serve, daemon=True).start()


if __name__ == "__main__":
    main()

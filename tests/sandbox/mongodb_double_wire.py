"""BSON, OP_MSG and SCRAM-SHA-256: what the double of a replica set and the tests' clients speak (to a real mongod, too).

References: bsonspec.org 1.1; "OP_MSG", "OP_QUERY", "OP_REPLY" of the wire protocol in the MongoDB manual; RFC 5802, 7677."""
import base64
import functools
import hashlib
import hmac
import os
import re
import socket
import struct

OP_REPLY, OP_QUERY, OP_MSG = 1, 2004, 2013


class Int64(int):
    """Always encoded as 64 bits."""


class Timestamp(tuple):
    def __new__(cls, seconds, increment):
        return super().__new__(cls, (seconds, increment))


class ObjectId(bytes):
    """Twelve bytes."""


class Uuid(bytes):
    """Sixteen bytes of binary data, subtype 4."""


class Date(int):
    """Milliseconds."""


class Regex(str):
    """A pattern without options."""


# ---------------------------------------------------------------- BSON

def encode(doc):
    body = b"".join(element(str(name).encode(), value) for name, value in doc.items())
    return struct.pack("<i", len(body) + 5) + body + b"\0"


def element(name, value):
    def tagged(tag, data):
        return bytes([tag]) + name + b"\0" + data

    if isinstance(value, bool):
        return tagged(8, b"\1" if value else b"\0")
    if isinstance(value, Date):
        return tagged(9, struct.pack("<q", value))
    if isinstance(value, int):
        small = -(1 << 31) <= value < (1 << 31) and not isinstance(value, Int64)
        return tagged(16, struct.pack("<i", value)) if small else tagged(18, struct.pack("<q", value))
    if isinstance(value, float):
        return tagged(1, struct.pack("<d", value))
    if value is None:
        return tagged(10, b"")
    if isinstance(value, Regex):
        return tagged(11, value.encode() + b"\0\0")
    if isinstance(value, str):
        data = value.encode() + b"\0"
        return tagged(2, struct.pack("<i", len(data)) + data)
    if isinstance(value, Timestamp):
        return tagged(17, struct.pack("<II", value[1], value[0]))
    if isinstance(value, ObjectId):
        return tagged(7, bytes(value))
    if isinstance(value, (bytes, bytearray)):
        return tagged(5, struct.pack("<i", len(value)) + (b"\4" if isinstance(value, Uuid) else b"\0") + bytes(value))
    if isinstance(value, dict):
        return tagged(3, encode(value))
    if isinstance(value, (list, tuple)):
        return tagged(4, encode({str(i): one for i, one in enumerate(value)}))
    raise TypeError(f"can't be BSON: {value!r}")


def decode(data, at=0):
    size = struct.unpack_from("<i", data, at)[0]
    end, at, doc = at + size - 1, at + 4, {}
    while at < end:
        tag = data[at]
        stop = data.index(b"\0", at + 1)
        name, at = data[at + 1:stop].decode(), stop + 1
        doc[name], at = decode_value(tag, data, at)
    return doc


def decode_value(tag, data, at):
    if tag == 1:
        return struct.unpack_from("<d", data, at)[0], at + 8
    if tag == 2:
        size = struct.unpack_from("<i", data, at)[0]
        return data[at + 4:at + 3 + size].decode(), at + 4 + size
    if tag in (3, 4):
        size = struct.unpack_from("<i", data, at)[0]
        inner = decode(data, at)
        return (inner if tag == 3 else list(inner.values())), at + size
    if tag == 5:
        size = struct.unpack_from("<i", data, at)[0]
        kind = Uuid if data[at + 4] == 4 else bytes
        return kind(data[at + 5:at + 5 + size]), at + 5 + size
    if tag == 7:
        return ObjectId(data[at:at + 12]), at + 12
    if tag == 8:
        return data[at] == 1, at + 1
    if tag == 9:
        return Date(struct.unpack_from("<q", data, at)[0]), at + 8
    if tag == 10:
        return None, at
    if tag == 11:
        first = data.index(b"\0", at)
        second = data.index(b"\0", first + 1)
        return Regex(data[at:first].decode()), second + 1
    if tag == 16:
        return struct.unpack_from("<i", data, at)[0], at + 4
    if tag == 17:
        increment, seconds = struct.unpack_from("<II", data, at)
        return Timestamp(seconds, increment), at + 8
    if tag == 18:
        return Int64(struct.unpack_from("<q", data, at)[0]), at + 8
    raise ValueError(f"BSON type {tag} isn't known here")


# ---------------------------------------------------------------- messages

def read_exactly(sock, count):
    parts = bytearray()
    while len(parts) < count:
        part = sock.recv(count - len(parts))
        if not part:
            raise ConnectionError("the other side closed the connection")
        parts += part
    return bytes(parts)


def read_message(sock):
    """(request id, opcode, body)"""
    size, request, _, opcode = struct.unpack("<iiii", read_exactly(sock, 16))
    if not 16 <= size <= 48 << 20:
        raise ConnectionError("not a MongoDB message")
    return request, opcode, read_exactly(sock, size - 16)


def parse_command(opcode, body):
    """The command with its $db; document sequences put in."""
    if opcode == OP_QUERY:
        end = body.index(b"\0", 4)
        command = decode(body, end + 9)
        command = command.get("$query", command)
        command.setdefault("$db", body[4:end].decode().split(".", 1)[0])
        return command
    at, command, sequences = 4, {}, {}
    while at < len(body):
        kind = body[at]
        size = struct.unpack_from("<i", body, at + 1)[0]
        if kind == 0:
            command = decode(body, at + 1)
        else:
            stop = body.index(b"\0", at + 5)
            name, inner, end = body[at + 5:stop].decode(), stop + 1, at + 1 + size
            sequences[name] = []
            while inner < end:
                sequences[name].append(decode(body, inner))
                inner += struct.unpack_from("<i", body, inner)[0]
        at += 1 + size
    command.update(sequences)
    return command


def reply_message(opcode, request, doc):
    if opcode == OP_QUERY:
        body = struct.pack("<iqii", 8, 0, 0, 1) + encode(doc)
        return struct.pack("<iiii", len(body) + 16, 1, request, OP_REPLY) + body
    body = struct.pack("<I", 0) + b"\0" + encode(doc)
    return struct.pack("<iiii", len(body) + 16, 1, request, OP_MSG) + body


# ---------------------------------------------------------------- a client

class CommandError(RuntimeError):
    def __init__(self, code, message):
        super().__init__(f"{code}: {message}")
        self.code = code


class Connection:
    """One connection to one member; no discovery, no retries."""

    def __init__(self, host, port, timeout_s=5.0, user=None, password=None, name="tests", tls=None):
        self.socket = socket.create_connection((host, port), timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_hostname=host)
        self.number = 0
        try:
            self.hello = self.command("admin", {"isMaster": 1, "client": {"application": {"name": name}, "driver": {
                "name": "tests", "version": "0"}, "os": {"type": "Linux"}}})
            if user:
                self.login(user, password)
        except BaseException:
            self.close()
            raise

    def command(self, db, command):
        self.number += 1
        body = struct.pack("<I", 0) + b"\0" + encode({**command, "$db": db, "$readPreference": {"mode": "primaryPreferred"}})
        self.socket.sendall(struct.pack("<iiii", len(body) + 16, self.number, 0, OP_MSG) + body)
        _, opcode, answer = read_message(self.socket)
        reply = parse_command(opcode, answer)
        if not reply.get("ok"):
            raise CommandError(reply.get("code", 0), reply.get("errmsg", ""))
        for trouble in (*reply.get("writeErrors", []), *([reply["writeConcernError"]] if "writeConcernError" in reply else [])):
            raise CommandError(trouble.get("code", 0), trouble.get("errmsg", ""))
        return reply

    def login(self, user, password):
        nonce = base64.b64encode(os.urandom(18)).decode()
        bare = f"n={user},r={nonce}"
        start = self.command("admin", {"saslStart": 1, "mechanism": "SCRAM-SHA-256", "payload": ("n,," + bare).encode(),
                                       "options": {"skipEmptyExchange": True}})
        first = start["payload"].decode()
        fields = dict(part.split("=", 1) for part in first.split(","))
        salted = salted_password(password, fields["s"], int(fields["i"]))
        without = f"c=biws,r={fields['r']}"
        proof = client_proof(salted, f"{bare},{first},{without}".encode())
        done = self.command("admin", {"saslContinue": 1, "conversationId": start["conversationId"],
                                      "payload": f"{without},p={base64.b64encode(proof).decode()}".encode()})
        while not done["done"]:
            done = self.command("admin", {"saslContinue": 1, "conversationId": start["conversationId"], "payload": b""})

    def close(self):
        self.socket.close()


@functools.lru_cache
def salted_password(password, salt, iterations):
    """As a driver does, once: it takes most of the time of a login, and writers log in again and again."""
    return hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(salt), iterations)


def client_proof(salted, message):
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    signature = hmac.digest(hashlib.sha256(client_key).digest(), message, "sha256")
    return bytes(a ^ b for a, b in zip(client_key, signature))


def matches(doc, query):
    """The few operators that are asked for: equality, $gt, $ne, $not, $regex, $exists, $elemMatch, $nor."""
    for name, wanted in query.items():
        if name == "$nor":
            if any(matches(doc, one) for one in wanted):
                return False
            continue
        value = doc
        for part in name.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if not isinstance(wanted, dict) or not any(key.startswith("$") for key in wanted):
            if value != wanted:
                return False
            continue
        for operator, operand in wanted.items():
            if operator == "$gt" and not (value is not None and value > operand):
                return False
            if operator == "$ne" and value == operand:
                return False
            if operator == "$not" and isinstance(operand, str) and isinstance(value, str) and re.search(operand, value):
                return False
            if operator == "$not" and isinstance(operand, dict) and matches({"x": value}, {"x": operand}):
                return False
            if operator == "$exists" and operand != (value is not None):
                return False
            if operator == "$elemMatch" and not (isinstance(value, list) and any(matches(one, operand) for one in value)):
                return False
            if operator == "$regex" and not (isinstance(value, str) and re.search(operand, value)):
                return False
    return True

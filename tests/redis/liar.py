"""A relay to a real server that understands RESP and may change what the server answers: lie(words, reply) -> reply.

For facts that no test can make true: a clock that is wrong, a module, a disk that is full, half of the machine's memory.
`words` is the command as the tool sent it (inside MULTI too, where the reply is +QUEUED); a reply is bytes (a bulk or
status text), an int, None, a list, or an Error."""
import socket
import threading


class Error(Exception):
    pass


def read_reply(file):
    line = file.readline()
    if not line:
        raise ConnectionError
    kind, rest = line[:1], line[1:-2]
    if kind == b"+":
        return rest
    if kind == b"-":
        return Error(rest.decode())
    if kind == b":":
        return int(rest)
    if int(rest) < 0:
        return None
    if kind == b"$":
        return file.read(int(rest) + 2)[:-2]
    return [read_reply(file) for _ in range(int(rest))]


def encode(reply):
    if isinstance(reply, Error):
        return f"-{reply}\r\n".encode()
    if isinstance(reply, int):
        return f":{reply}\r\n".encode()
    if reply is None:
        return b"$-1\r\n"
    if isinstance(reply, list):
        return b"*%d\r\n" % len(reply) + b"".join(encode(item) for item in reply)
    return b"$%d\r\n%s\r\n" % (len(reply), reply)


class Liar(threading.Thread):
    def __init__(self, port, target, lie):
        super().__init__(daemon=True)
        self.target, self.lie = target, lie
        self.listener = socket.create_server(("127.0.0.1", port))
        self.start()

    def run(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        with client, socket.create_connection(("127.0.0.1", self.target)) as server:
            asked, answered = client.makefile("rb"), server.makefile("rb")
            try:
                while True:
                    words = read_reply(asked)
                    server.sendall(encode(words))
                    client.sendall(encode(self.lie([word.decode() for word in words], read_reply(answered))))
            except (ConnectionError, OSError, TypeError):
                return

    def stop(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def line_of_info(name, value):
    """A lie: this line of INFO."""
    def lie(words, reply):
        if words[0] != "INFO" or not isinstance(reply, bytes):
            return reply
        lines = reply.decode().split("\r\n")
        return "\r\n".join(f"{name}:{value}" if line.startswith(f"{name}:") else line for line in lines).encode()
    return lie


def setting(name, value):
    """A lie: this one of CONFIG GET."""
    def lie(words, reply):
        if words[:2] != ["CONFIG", "GET"] or not isinstance(reply, list):
            return reply
        pairs = dict(zip(reply[::2], reply[1::2]))
        if name.encode() in pairs:
            pairs[name.encode()] = value.encode()
        return [word for pair in pairs.items() for word in pair]
    return lie


def answer(command, reply):
    """A lie: this instead of what is answered to a command that begins so."""
    wanted = command.split()
    return lambda words, real: reply(real) if words[:len(wanted)] == wanted and callable(reply) else (
        reply if words[:len(wanted)] == wanted else real)

"""A TCP relay that can be cut: one leg of the network (tool to A, tool to B, B to A, A to B) between two ports.

cut() neither closes nor forwards, as a firewall that drops: both ends wait. restore() lets new connections through;
those that were cut are closed."""
import select
import socket
import threading


class Proxy(threading.Thread):
    def __init__(self, port, target, change=None):
        """change(bytes): what arrives there instead of what was sent, in both directions."""
        super().__init__(name=f"proxy-{port}", daemon=True)
        self.port, self.target, self.change = port, target, change
        self.listener = socket.create_server(("127.0.0.1", port))
        self.wake_read, self.wake_write = socket.socketpair()
        self.pairs, self.is_cut, self.closing = {}, False, False
        self.start()

    def run(self):
        while not self.closing:
            for ready in self.readable():
                if ready is self.wake_read:
                    order = self.wake_read.recv(1)
                    if order == b"r":
                        self.drop_all()
                elif ready is self.listener:
                    client, _ = self.listener.accept()
                    self.join(client)
                elif ready in self.pairs:
                    self.forward(ready)
        self.drop_all()
        self.listener.close()

    def readable(self):
        """poll, not select: a test that fills a server has more than 1024 descriptors."""
        sources = [self.wake_read] if self.is_cut else [self.wake_read, self.listener, *self.pairs]
        by_number = {one.fileno(): one for one in sources}
        poll = select.poll()
        for number in by_number:
            poll.register(number, select.POLLIN)
        return [by_number[number] for number, _ in poll.poll()]

    def join(self, client):
        try:
            server = socket.create_connection(("127.0.0.1", self.target), 2)
        except OSError:
            client.close()
            return
        for one in (client, server):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.pairs[client], self.pairs[server] = server, client

    def forward(self, source):
        target = self.pairs[source]
        try:
            data = source.recv(65536)
            if data:
                target.sendall(self.change(data) if self.change else data)
                return
        except OSError:
            pass
        for one in (source, target):
            self.pairs.pop(one, None)
            one.close()

    def drop_all(self):
        for one in list(self.pairs):
            one.close()
        self.pairs.clear()

    def order(self, letter):
        self.wake_write.send(letter)

    def cut(self):
        self.is_cut = True
        self.order(b"c")

    def restore(self):
        self.is_cut = False
        self.order(b"r")

    def stop(self):
        self.closing = True
        self.is_cut = False
        self.order(b"q")
        self.join_thread()

    def join_thread(self):
        threading.Thread.join(self, 5)

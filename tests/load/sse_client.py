"""A small HTTP client on asyncio for load: one request a connection, as fast or as slow as is wanted.

Standard library only: what real clients make of the server is tests/clients' business.
"""
import asyncio
import dataclasses
import json
import socket


@dataclasses.dataclass
class Reply:
    """What came back: per choice the text and the reason of its end, None while it has none."""
    status: int = 0
    headers: dict = dataclasses.field(default_factory=dict)
    texts: dict = dataclasses.field(default_factory=dict)
    reasons: dict = dataclasses.field(default_factory=dict)
    error: dict = None
    done: bool = False  # the body came to its proper end

    def take(self, body):
        """A whole response, a chunk of a stream, or an error."""
        if "error" in body:
            self.error = body["error"]
            return
        for choice in body["choices"]:
            index = choice["index"]
            self.texts[index] = self.texts.get(index, "") + choice["text"]
            self.reasons[index] = choice["finish_reason"] or self.reasons.get(index)

    def outcome(self):
        """Texts and reasons in the order of the choices."""
        return [(self.texts[index], self.reasons[index]) for index in sorted(self.texts)]


class Exchange:
    """One request under way."""

    def __init__(self, reader, writer):
        self.reader, self.writer, self.reply = reader, writer, Reply()

    @classmethod
    async def start(cls, address, body, receive_buffer=None):
        """Connects and sends; a small `receive_buffer` (bytes) makes the server feel a slow reader soon."""
        host, port = address.rsplit(":", 1)
        sock = socket.socket()
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (host, int(port)))
        reader, writer = await asyncio.open_connection(sock=sock, limit=receive_buffer or 2**16)
        data = json.dumps(body).encode()
        writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: load\r\nContent-Type: application/json\r\n"
                     b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(data) + data)
        await writer.drain()
        return cls(reader, writer)

    async def head(self):
        """Reads status and headers."""
        self.reply.status = int((await self.reader.readline()).split()[1])
        while line := (await self.reader.readline()).strip():
            name, value = line.decode().split(":", 1)
            self.reply.headers[name.lower()] = value.strip()

    async def events(self):
        """Reads what follows the head, piece by piece; yields after each."""
        if "content-length" in self.reply.headers:
            self.reply.take(json.loads(await self.reader.readexactly(int(self.reply.headers["content-length"]))))
            self.reply.done = True
            return
        text = b""
        while size := int(await self.reader.readline(), 16):
            text += (await self.reader.readexactly(size + 2))[:-2]
            *events, text = text.split(b"\n\n")
            for event in events:
                data = event.removeprefix(b"data: ")
                if data == b"[DONE]":
                    self.reply.done = True
                else:
                    self.reply.take(json.loads(data))
            yield

    async def finish(self):
        """Reads all that is left, and the head before it."""
        await self.head()
        async for _ in self.events():
            pass
        self.close()
        return self.reply

    def close(self):
        """At once, whatever is unread: the server sees a client that has gone."""
        self.writer.transport.abort()


async def complete(address, body):
    """One request to its end."""
    return await (await Exchange.start(address, body)).finish()

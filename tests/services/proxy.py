"""A TCP proxy on loopback that cuts connections, and is slow."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Literal
from urllib.parse import urlsplit

Way = Literal["sent", "answered"]


class Proxy:
    """Hands on bytes between a client and a server.

    Attributes:
        url: Its address.
        sent: Bytes that went to the server.
        answered: Bytes that came back.
        cuts: Connections that were cut.
    """

    def __init__(self, server: str) -> None:
        split = urlsplit(server)
        self._server = (split.hostname, split.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._lock = threading.Lock()
        self.reset()
        threading.Thread(target=self._accept, daemon=True).start()

    def reset(
        self,
        *,
        way: Way = "sent",
        cut_after: int | None = None,
        for_good: bool = False,
        bytes_per_second: float | None = None,
        mute: bool = False,
    ) -> None:
        """Counts from nothing.

        Args:
            way: Which bytes count.
            cut_after: After how many of them every connection is cut; None: never.
            for_good: Whether all later connections are cut too, or none.
            bytes_per_second: How fast bytes go, at most.
            mute: Whether no answer comes back.
        """
        with self._lock:
            self.sent = self.answered = self.cuts = 0
            self._way, self._cut_after, self._for_good = way, cut_after, for_good
            self._rate, self._mute = bytes_per_second, mute

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._server)
            except OSError:
                client.close()
                continue
            pair = (client, server)
            for way, one, other in (("sent", client, server), ("answered", server, client)):
                threading.Thread(
                    target=self._hand_on, args=(way, one, other, pair), daemon=True
                ).start()

    def _hand_on(
        self, way: Way, one: socket.socket, other: socket.socket, pair: tuple[socket.socket, ...]
    ) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(16384):
                allowed = self._counted(way, len(data))
                if way == "answered" and self._mute:
                    continue
                other.sendall(data[:allowed])
                if allowed < len(data):
                    break
                if self._rate is not None:
                    time.sleep(len(data) / self._rate)
        for end in pair:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _counted(self, way: Way, count: int) -> int:
        """How many of some bytes may go on."""
        with self._lock:
            before = getattr(self, way)
            setattr(self, way, before + count)
            if way != self._way or self._cut_after is None or before + count <= self._cut_after:
                return count
            self.cuts += 1
            allowed = max(0, self._cut_after - before)
            if not self._for_good:
                self._cut_after = None
            return allowed


@contextlib.contextmanager
def proxy(server: str) -> Iterator[Proxy]:
    made = Proxy(server)
    try:
        yield made
    finally:
        made.close()

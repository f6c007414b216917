"""Asks for the status of jobs over many connections at once, and prints how long it took.

    python client.py PORT SECONDS CONNECTIONS PATH...

In every round each connection sends one request, all at the same time. It prints JSON: milliseconds
of every request, sorted, and the statuses that were answered, with their counts.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter


async def main(port: int, seconds: float, connections: int, paths: list[str]) -> None:
    took: list[float] = []
    statuses: Counter[str] = Counter()
    streams = [await asyncio.open_connection("127.0.0.1", port) for _ in range(connections)]

    async def ask(number: int) -> None:
        reader, writer = streams[number]
        path = paths[number % len(paths)]
        started = time.perf_counter()
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        await reader.readexactly(int(length))
        took.append((time.perf_counter() - started) * 1000)
        statuses[head.split(b" ", 2)[1].decode()] += 1

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        await asyncio.gather(*(ask(number) for number in range(connections)))
        await asyncio.sleep(0.1)
    print(json.dumps({"ms": sorted(took), "statuses": statuses}))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]))

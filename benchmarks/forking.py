"""Workers of pytest-xdist without their imports: each is a fork of a process that has made them.

    python benchmarks/forking.py SOCKET                       # serves
    pytest --dist load --tx "2*popen//python=python benchmarks/forking.py"   # with FORKING=SOCKET

Not to be run by itself: `kills.py` starts many workers, whose imports would take most of its time.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import sys
import traceback
from contextlib import suppress
from pathlib import Path

#: nothing whose assertions pytest would rewrite
_IMPORTS = (
    *("numpy", "pydantic", "onnx", "onnxruntime.quantization", "onnxscript", "torch"),
    *("torch.export", "torch._dynamo", "torch.onnx._internal.exporter._core"),
)
_STANDARD = (0, 1, 2)


def serve(path: str) -> None:
    """Forks for whoever asks, until it is ended."""
    for name in _IMPORTS:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for a worker
    with socket.socket(socket.AF_UNIX) as asked:
        asked.bind(path)
        asked.listen()
        while True:
            connection, _ = asked.accept()
            if os.fork() == 0:
                asked.close()
                try:
                    _work(connection)
                except BaseException:
                    traceback.print_exc()
                finally:
                    os._exit(0)
            connection.close()


def _work(connection: socket.socket) -> None:
    """What a fork does: the code that pytest-xdist has for an interpreter of its own."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    received, descriptors, *_ = socket.recv_fds(connection, 1 << 20, len(_STANDARD))
    code, folder, environ = json.loads(received)
    for descriptor, standard in zip(descriptors, _STANDARD, strict=True):
        os.dup2(descriptor, standard)
        os.close(descriptor)
    sys.stdin, sys.stdout = os.fdopen(0), os.fdopen(1, "w")
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    sys.argv, sys.path[0] = ["-c"], ""
    exec(code, {"__name__": "__main__"})


def ask(code: str) -> None:
    """Has the server fork, and ends when that worker does."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(os.environ["FORKING"])
        request = json.dumps([code, str(Path.cwd()), dict(os.environ)]).encode()
        socket.send_fds(connection, [request], _STANDARD)
        for standard in _STANDARD:  # the worker's end is to be seen on them
            os.close(standard)
        with suppress(ConnectionError):
            connection.recv(1)


if __name__ == "__main__":
    if "-c" in sys.argv:
        ask(sys.argv[sys.argv.index("-c") + 1])
    else:
        serve(sys.argv[1])

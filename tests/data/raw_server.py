"""A server that sends exactly the bytes it is given, one script a connection."""

from __future__ import annotations

import contextlib
import socket
import threading


class RawServer:
    """`answers`: one entry a connection, the last one for all that follow; bytes, or a list of parts.

    A number among the parts is a pause in seconds, `...` repeats the part before for ever. The requests
    are kept as they came.
    """

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.requests: list[bytes] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/a.tar"
        self._open = True
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self) -> RawServer:
        return self

    def __exit__(self, *reason: object) -> None:
        self._open = False
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # closing alone leaves a thread in accept for ever
        self._socket.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                threading.Thread(target=self._answer, args=(connection, answer), daemon=True).start()

    def _answer(self, connection: socket.socket, answer: object) -> None:
        with contextlib.suppress(OSError), connection:
            connection.settimeout(5)
            request = b""
            while b"\r\n\r\n" not in request:
                received = connection.recv(65536)
                if not received:
                    return
                request += received
            self.requests.append(request)
            parts = [answer] if isinstance(answer, bytes) else list(answer)
            for index, part in enumerate(parts):
                if part is ...:
                    while self._open:
                        connection.sendall(parts[index - 1])
                elif isinstance(part, bytes):
                    connection.sendall(part)
                else:
                    threading.Event().wait(part)  # tests replace time.sleep

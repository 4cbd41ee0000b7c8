"""An answer of a server, read by a thread: whatever the server does, the reader is not held up.

A server can hold a client anywhere: in its name's look-up, by headers that come byte by byte or never
end, by a redirection with an endless body, by an endless trailer. A timeout of the socket covers none of
them. Here the thread may be held, and whoever reads the blocks waits as long as it wants to.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import queue
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from typing import IO, Any

BLOCK = 1 << 20
_AHEAD = 4  # blocks that wait for the reader
_WINDOW, _LEAST = 30.0, 30_000  # seconds, bytes: what comes slower counts as broken


class Answer:
    """Status and headers of an answer, and its body as blocks of at most `BLOCK` bytes.

    Raises:
        urllib.error.URLError, http.client.HTTPException, OSError: as urllib raises them; TimeoutError
            where the server is too slow.
    """

    def __init__(self, url: str, headers: Mapping[str, str], timeout: float) -> None:
        self._timeout = timeout
        self._items: queue.Queue[Any] = queue.Queue(_AHEAD)
        self._stopped = threading.Event()
        request = urllib.request.Request(url, headers=dict(headers))
        threading.Thread(target=self._work, args=(request,), daemon=True).start()
        try:
            # names of several addresses, a proxy, a redirection: each may take its own timeout
            self.status, self.headers = self._next(2 * timeout)
        except BaseException:
            self._stopped.set()
            raise

    @property
    def chunked(self) -> bool:
        """Whether the body itself says where it ends; urllib raises where it is cut."""
        return "chunked" in self.headers.get("Transfer-Encoding", "").lower()

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, *reason: object) -> None:
        self._stopped.set()

    def blocks(self) -> Iterator[bytes]:
        """The body; TimeoutError if nothing comes for `timeout`, or hardly anything for long."""
        since, came = time.monotonic(), 0
        while block := self._next(self._timeout):
            yield block
            came += len(block)
            if time.monotonic() - since > _WINDOW:
                if came < _LEAST:
                    raise TimeoutError(f"{came} bytes in {_WINDOW:.0f} seconds")
                since, came = time.monotonic(), 0

    def _next(self, seconds: float) -> Any:
        try:
            item = self._items.get(timeout=seconds)
        except queue.Empty:
            raise TimeoutError(f"nothing came for {seconds:.0f} seconds") from None
        if isinstance(item, BaseException):
            raise item
        return item

    def _work(self, request: urllib.request.Request) -> None:
        try:
            opener = urllib.request.build_opener(_Redirections)
            with contextlib.closing(opener.open(request, timeout=self._timeout)) as answer:
                self._put((getattr(answer, "status", None) or 200, answer.headers))
                read = getattr(answer, "read1", answer.read)  # read waits until a whole block is there
                while not self._stopped.is_set():
                    block = read(BLOCK)
                    self._put(block)
                    if not block:
                        return
        # whatever it is, the reader is told: a server that lies makes urllib raise nearly anything
        except Exception as error:
            if isinstance(error, urllib.error.HTTPError):
                with contextlib.suppress(Exception):
                    error.close()  # its page may be endless
            known = isinstance(error, (urllib.error.URLError, ConnectionError, TimeoutError))
            self._put(error if known else http.client.HTTPException(_text(error)))

    def _put(self, item: Any) -> None:
        while not self._stopped.is_set():
            with contextlib.suppress(queue.Full):
                self._items.put(item, timeout=1.0)
                return


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


class _Redirections(urllib.request.HTTPRedirectHandler):
    """Follows to http and https alone, from https to https alone, and reads nothing of the pages between."""

    max_redirections = 5

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        kinds = ("https",) if req.type == "https" else ("http", "https")
        if urllib.parse.urlsplit(newurl).scheme not in kinds:
            raise urllib.error.HTTPError(
                req.full_url, code, f"redirection to {newurl[:200]!r} refused", headers, None
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)

    def http_error_302(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
    ) -> Any:
        fp.close()
        return super().http_error_302(req, io.BytesIO(), code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302

"""HTTP clients for the `openai` package that bound what a server may send: a whole reply's time, and its size."""

import asyncio
import sys
import time
from typing import Any

from rolewise.core import limits
from rolewise.core.limits import TooLarge


def limited_async_client(openai: Any) -> Any:
    """An asynchronous client of the package's kind whose `timeout` is that of a whole try.

    Otherwise it is a limit on silence: a server that sends a byte now and then could hold a request for ever. A reply
    larger than `limits.MAX_REPLY_BYTES` raises `TooLarge`, which the package wraps as it does a broken connection.
    """
    http = _http_package(openai.DefaultAsyncHttpxClient)

    class LimitedAsyncClient(openai.DefaultAsyncHttpxClient):  # type: ignore[misc]  # a class only at run time
        async def send(self, request: Any, **how: Any) -> Any:
            limit = request.extensions["timeout"]["read"]
            try:
                return await asyncio.wait_for(self._whole_reply(request, **how), limit)
            except TimeoutError as error:
                raise http.ReadTimeout(f"no whole reply within {limit:g} s", request=request) from error

        async def _whole_reply(self, request: Any, *, stream: bool = False, **how: Any) -> Any:
            reply = await super().send(request, stream=True, **how)
            parts: list[bytes] = []
            total = 0
            try:
                async for part in reply.aiter_bytes():
                    total += len(part)
                    _check_size(total)
                    parts.append(part)
            finally:
                await reply.aclose()
            return _as_read(http, reply, b"".join(parts), request)

    return LimitedAsyncClient()


def limited_client(openai: Any) -> Any:
    """As `limited_async_client`, a client that is not asynchronous. The time is looked at as pieces come."""
    http = _http_package(openai.DefaultHttpxClient)

    class LimitedClient(openai.DefaultHttpxClient):  # type: ignore[misc]  # a class only at run time
        def send(self, request: Any, *, stream: bool = False, **how: Any) -> Any:
            limit = request.extensions["timeout"]["read"]
            deadline = time.monotonic() + limit
            reply = super().send(request, stream=True, **how)
            parts: list[bytes] = []
            total = 0
            try:
                for part in reply.iter_bytes():
                    total += len(part)
                    _check_size(total)
                    parts.append(part)
                    if time.monotonic() > deadline:
                        raise http.ReadTimeout(f"no whole reply within {limit:g} s", request=request)
            finally:
                reply.close()
            return _as_read(http, reply, b"".join(parts), request)

    return LimitedClient()


def too_large(error: BaseException) -> TooLarge | None:
    """The `TooLarge` behind an error of the package, if that is what it wraps."""
    inner = error.__cause__ or error.__context__
    return inner if isinstance(inner, TooLarge) else None


def _check_size(total: int) -> None:
    if total > limits.MAX_REPLY_BYTES:
        raise TooLarge(f"sends a reply of more than {limits.size(limits.MAX_REPLY_BYTES)}")


def _as_read(http: Any, reply: Any, content: bytes, request: Any) -> Any:
    """The reply as one that was read whole; its content is unpacked already."""
    packing = ("content-encoding", "content-length", "transfer-encoding")
    headers = [(name, value) for name, value in reply.headers.multi_items() if name.lower() not in packing]
    return http.Response(
        reply.status_code, headers=headers, content=content, request=request, extensions=reply.extensions
    )


def _http_package(client: Any) -> Any:
    """httpx, or httpx2 in newer versions of the `openai` package."""
    return sys.modules[client.__mro__[1].__module__.partition(".")[0]]

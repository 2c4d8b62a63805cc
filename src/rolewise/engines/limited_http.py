"""An HTTP client for the `openai` package that bounds what a server may send: a whole reply's time, and its size."""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

from rolewise.core import limits
from rolewise.core.limits import TooLarge, one_line

_REDIRECT_BYTES = 1 << 16
"""What comes with a redirection, packed; nobody reads it."""


def limited_async_client(openai: Any) -> Any:
    """An asynchronous client of the package's kind whose `timeout` is that of a whole try.

    Otherwise it is a limit on silence: a server that sends a byte now and then could hold a request for ever. A reply
    larger than `limits.MAX_REPLY_BYTES` raises `TooLarge`, which some versions of the package wrap; see `too_large`.
    """
    http = _http_package(openai.DefaultAsyncHttpxClient)

    class RedirectBody(http.AsyncByteStream):  # type: ignore[misc, name-defined]  # a class only at run time
        def __init__(self, stream: Any) -> None:
            self._stream = stream

        async def __aiter__(self) -> AsyncIterator[bytes]:
            total = 0
            async for part in self._stream:
                total += len(part)
                _check_size(total, _REDIRECT_BYTES)
                yield part

        async def aclose(self) -> None:
            await self._stream.aclose()

    async def bound_redirect(reply: Any) -> None:
        if reply.has_redirect_location:  # the client reads it whole before it goes on
            reply.stream = RedirectBody(reply.stream)

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
                    _check_size(total, limits.MAX_REPLY_BYTES)
                    parts.append(part)
            finally:
                await reply.aclose()
            return _as_read(http, reply, b"".join(parts), request)

    return LimitedAsyncClient(event_hooks={"response": [bound_redirect]})


def too_large(error: BaseException) -> TooLarge | None:
    """The `TooLarge` that an error is, or that it wraps."""
    return next((one for one in (error, error.__cause__, error.__context__) if isinstance(one, TooLarge)), None)


def cause_of(error: BaseException) -> str:
    """What is behind an error of the package, fit to be part of a message."""
    cause = error.__cause__ or error
    return one_line(cause) or type(cause).__name__


def _check_size(total: int, limit: int) -> None:
    if total > limit:
        raise TooLarge(f"sends a reply of more than {limits.size(limit)}")


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

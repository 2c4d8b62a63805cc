"""An HTTP client for the `openai` package that limits the time and the size of a whole reply."""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

from rolewise.core import limits
from rolewise.core.limits import TooLarge, one_line

_REDIRECT_BYTES = 1 << 16
"""Maximum compressed size of the body of a redirection, which is discarded."""


def limited_async_client(openai: Any) -> Any:
    """Return an asynchronous client of the package's kind whose `timeout` covers a whole try.

    By default `timeout` limits silence only: a server that sends a byte now and then could hold a request forever. A
    reply larger than `limits.MAX_REPLY_BYTES` raises `TooLarge`, which some versions of the package wrap; see
    `too_large`.
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
        if reply.has_redirect_location:  # the client reads the whole body before it continues
            reply.stream = RedirectBody(reply.stream)

    class LimitedAsyncClient(openai.DefaultAsyncHttpxClient):  # type: ignore[misc]  # a class only at run time
        async def send(self, request: Any, **how: Any) -> Any:
            limit = request.extensions["timeout"]["read"]
            try:
                return await asyncio.wait_for(self._whole_reply(request, **how), limit)
            except TimeoutError as error:
                raise http.ReadTimeout(f"no complete reply within {limit:g} s", request=request) from error

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
    """Return the error itself or the error that it wraps, if that is `TooLarge`; else None."""
    return next((one for one in (error, error.__cause__, error.__context__) if isinstance(one, TooLarge)), None)


def cause_of(error: BaseException) -> str:
    """Return the cause of an error of the package, in a form that fits into a message."""
    cause = error.__cause__ or error
    return one_line(cause) or type(cause).__name__


def _check_size(total: int, limit: int) -> None:
    if total > limit:
        raise TooLarge(f"sends a reply of more than {limits.size(limit)}")


def _as_read(http: Any, reply: Any, content: bytes, request: Any) -> Any:
    """Return the reply as a fully read response; its content is already decompressed."""
    packing = ("content-encoding", "content-length", "transfer-encoding")
    headers = [(name, value) for name, value in reply.headers.multi_items() if name.lower() not in packing]
    return http.Response(
        reply.status_code, headers=headers, content=content, request=request, extensions=reply.extensions
    )


def _http_package(client: Any) -> Any:
    """Return httpx, or httpx2 in newer versions of the `openai` package."""
    return sys.modules[client.__mro__[1].__module__.partition(".")[0]]

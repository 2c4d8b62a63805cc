"""Models that take and return text, such as a judge or an API simulator, on a server or an engine in this process."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from rolewise.core.errors import InputError
from rolewise.core.limits import TooLarge, one_line
from rolewise.data.chat_template import ChatTemplate
from rolewise.engines.base import Engine, EngineError, Sampling
from rolewise.engines.limited_http import cause_of, limited_async_client, too_large
from rolewise.engines.loop_thread import LoopThread

_RETRIES = 5
"""Retries after a lost connection, a refusal for too many requests (429) or a server error; the client waits longer
each time, up to 8 seconds."""

_TIMEOUT = 300.0
"""Time limit for one answer, in seconds."""

_NO_KEY = "none"
"""Placeholder key for servers that require none, because the client insists on one."""

Messages = Sequence[Mapping[str, Any]]


class Chat(Protocol):
    """A model that answers conversations with text."""

    def check(self) -> None:
        """Check that the model can be asked.

        Raises:
            InputError: if the user must change something: an address, a name, a key.
            EngineError: if the model can't be asked now.
        """

    def ask(self, messages: Messages, *, temperature: float = 0.0, n: int = 1, max_tokens: int = 1024) -> list[str]:
        """Return answers to one conversation, drawn independently.

        Args:
            messages: messages with `role` and `content`.
            temperature: sampling temperature; 0 always takes the likeliest token.
            n: number of answers.
            max_tokens: maximum number of tokens per answer.

        Returns:
            n texts, any of which may be empty.

        Raises:
            InputError, EngineError: as `check`.
        """

    def describe(self) -> dict[str, Any]:
        """Return the description of the model for a run's records, as JSON values."""

    def close(self) -> None:
        """Release its resources."""


class ChatClient:
    """A model on a server that speaks OpenAI's protocol (`/v1/chat/completions`).

    Args:
        url: address up to and including `/v1`.
        model: name of the model on the server.
        api_key: the key itself; None for a server that requires none.
        who: purpose of the model, used in messages, e.g. `judge`.
        retries: number of retries of a request that failed for a temporary reason.

    Raises:
        InputError: if the package `openai` is missing, or the address is not a URL.
    """

    def __init__(
        self, url: str, model: str, api_key: str | None = None, *, who: str = "chat model", retries: int = _RETRIES
    ) -> None:
        try:
            import openai
        except ImportError as error:
            raise InputError(f"the {who} needs the package openai: pip install 'rolewise[openai]'") from error
        if not url.startswith(("http://", "https://")):
            raise InputError(f"the {who}'s url is {url!r}; give the full URL, e.g. http://localhost:8000/v1")
        self._openai = openai
        self._url, self._model, self._who = url, model, who
        # Without a key the client would take OPENAI_API_KEY from the environment, and send it to a server it is not
        # for.
        self._client = openai.AsyncOpenAI(
            base_url=url,
            api_key=api_key or _NO_KEY,
            timeout=_TIMEOUT,
            max_retries=retries,
            http_client=limited_async_client(openai),
        )
        self._loop = LoopThread(who)

    def check(self) -> None:
        """Ask for one token; see `Chat`."""
        self.ask([{"role": "user", "content": "Say yes."}], max_tokens=1)

    def ask(self, messages: Messages, *, temperature: float = 0.0, n: int = 1, max_tokens: int = 1024) -> list[str]:
        """See `Chat`. Send one request per answer, all at once: not every server supports the field `n`."""
        return self._loop.run(self._ask_at_once(messages, temperature, n, max_tokens))

    def describe(self) -> dict[str, Any]:
        """See `Chat`. The address is omitted: the same model elsewhere is the same judge."""
        return {"kind": "server", "model": self._model}

    def close(self) -> None:
        """Close the connections."""
        self._loop.close(self._client.close())

    async def _ask_at_once(self, messages: Messages, temperature: float, n: int, max_tokens: int) -> list[str]:
        return await asyncio.gather(*(self._ask_once(messages, temperature, max_tokens) for _ in range(n)))

    async def _ask_once(self, messages: Messages, temperature: float, max_tokens: int) -> str:
        request: dict[str, Any] = {"model": self._model, "messages": [dict(message) for message in messages]}
        try:
            reply = await self._client.chat.completions.create(
                **request, temperature=temperature, max_tokens=max_tokens
            )
        except (self._openai.AuthenticationError, self._openai.PermissionDeniedError) as error:
            raise InputError(
                f"the {self._who} at {self._url} rejects the key ({error.status_code}): export it as an environment "
                f"variable and give that variable's name as the {self._who}'s key"
            ) from error
        except self._openai.NotFoundError as error:
            raise InputError(
                f"the {self._who} at {self._url} has no model {self._model!r} or no chat completions (404); "
                "check url (up to and including /v1) and model"
            ) from error
        except self._openai.APIStatusError as error:
            raise EngineError(
                f"the {self._who} at {self._url} answered {error.status_code}: {one_line(error)}"
            ) from error
        except self._openai.APITimeoutError as error:
            raise EngineError(
                f"the {self._who} at {self._url} sent no complete answer within {_TIMEOUT:g} s"
            ) from error
        except (self._openai.OpenAIError, TooLarge) as error:
            if (larger := too_large(error)) is not None:
                raise EngineError(f"the {self._who} at {self._url} {larger}") from error
            raise EngineError(f"the {self._who} at {self._url} can't be reached ({cause_of(error)})") from error
        except (ValueError, RecursionError) as error:
            raise EngineError(f"the {self._who} at {self._url} sent invalid JSON: {one_line(error)}") from error
        choices = getattr(reply, "choices", None)
        message = getattr(choices[0], "message", None) if isinstance(choices, list) and choices else None
        if message is None:
            raise EngineError(
                f"the {self._who} at {self._url} sent a reply without choices; is it a chat completions server?"
            )
        return str(message.content or "")


class EngineChat:
    """A model behind an engine, asked through its chat template.

    Args:
        engine: dedicated engine: nothing else may have pending requests on it while the model is asked.
        name: name used in records.
        seed: sampling seed of the first question; each further question uses the next seed.

    Raises:
        InputError: if the tokenizer's template can't be used.
    """

    def __init__(self, engine: Engine, name: str, seed: int = 0) -> None:
        self._engine = engine
        self._name = name
        self._seed = seed
        self._tokenizer = engine.tokenizer
        self._template = ChatTemplate(engine.tokenizer)
        self._told: dict[str, None] = {}
        ends = [self._ids(end) for end in self._template.turn_ends]
        self._stop_token_ids = tuple(dict.fromkeys(ids[-1] for ids in ends if ids))

    @property
    def notes(self) -> list[str]:
        """Parts of the requests so far that the template can't express, a line each."""
        return list(self._told)

    def check(self) -> None:
        """Do nothing: an open engine can always be asked."""

    def ask(self, messages: Messages, *, temperature: float = 0.0, n: int = 1, max_tokens: int = 1024) -> list[str]:
        """See `Chat`."""
        text, notes = self._template.prompt([dict(message) for message in messages])
        self._told.update(dict.fromkeys(notes))
        sampling = Sampling(
            max_new_tokens=max_tokens,
            temperature=temperature,
            n=n,
            seed=self._seed,
            stop_token_ids=self._stop_token_ids,
        )
        self._seed += 1
        [samples] = self._engine.generate([self._ids(text)], sampling)
        return [str(self._tokenizer.decode(sample.ids, skip_special_tokens=True)).strip() for sample in samples]

    def describe(self) -> dict[str, Any]:
        """See `Chat`."""
        return {"kind": "engine", "model": self._name, "engine": self._engine.describe()}

    def close(self) -> None:
        """Close the engine."""
        self._engine.close()

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])


def chat_from_settings(settings: Mapping[str, str], prefix: str, who: str, url: str | None = None) -> ChatClient | None:
    """Return the model on a server that the options `{prefix}url`, `{prefix}model` and `{prefix}key` name.

    `key` is the name of an environment variable, so that keys stay out of a run's records.

    Args:
        settings: options by name.
        prefix: prefix of each option's name.
        who: purpose of the model.
        url: address to use if the options give none.

    Returns:
        None if none of the options is given.

    Raises:
        InputError: for a missing option, or a variable that is not set.
    """
    given = {name: settings.get(prefix + name) for name in ("url", "model", "key")}
    if not any(given.values()):
        return None
    url = given["url"] or url
    model = given["model"]
    if not url or not model:
        missing = prefix + ("url" if not url else "model")
        raise InputError(
            f"the {who} has no {missing}; give {prefix}url=http://localhost:8000/v1 and {prefix}model=NAME"
        )
    return ChatClient(url, model, _key_in_environment(given["key"], prefix, who), who=who)


def _key_in_environment(variable: str | None, prefix: str, who: str) -> str | None:
    if variable is None:
        return None
    if not variable.isidentifier():
        # The value may be the key itself, which must not be shown.
        raise InputError(f"the {who}'s {prefix}key must be the name of an environment variable that holds the key")
    if not os.environ.get(variable):
        raise InputError(
            f"the {who}'s {prefix}key names the environment variable {variable}, which is not set; export it first"
        )
    return os.environ[variable]

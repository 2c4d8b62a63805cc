"""Read samples from completion replies: each kind of server returns the ids of generated tokens in its own way."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from rolewise.core.limits import one_line
from rolewise.engines.base import EngineError, Sample, Sampling
from rolewise.engines.stopping import StopTexts

IdSource = Literal["token_ids", "token_id strings", "logprobs content", "text"]
"""Location of the ids in a choice: a list `token_ids`; the names `token_id:N` in `logprobs.tokens`; the `id`s in
`logprobs.content` (llama.cpp); none, in which case the text is tokenized again."""
PREFIX = "token_id:"
_FINISH_REASONS: dict[str, Literal["stop", "length"]] = {
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "stop_sequence": "stop",
    "end_turn": "stop",
    "length": "length",
    "max_tokens": "length",
}
"""Finish reasons of samples that ended normally, in OpenAI's vocabulary and some others."""
_LARGEST_ID = 2**31 - 1
"""Largest valid token id; tokenizers raise errors of their own on larger numbers and on negative ones."""


class ReplyError(EngineError):
    """A reply without a required field; the message names the server and the field."""


class BrokenOff(Exception):
    """A sample that the server ended for its own reason; the message names both."""


def choices_of(url: str, reply: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """Return the choices of a reply, in order.

    Raises:
        ReplyError: if there are not `count` choices, or one has no text.
    """
    choices = reply.get("choices")
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        raise ReplyError(f"{url}/completions: the reply has no field 'choices'; it holds {_names(reply)}")
    if len(choices) != count:
        raise ReplyError(
            f"{url}/completions: the reply has {len(choices)} entries in 'choices', but {count} were requested"
        )
    choices = [choice | {"text": ""} if _is_filtered(choice) else choice for choice in choices]
    for number, choice in enumerate(choices):
        if not isinstance(choice.get("text"), str):
            raise ReplyError(f"{url}/completions: the reply has no field 'choices[{number}].text'")
    indices = [choice.get("index") for choice in choices]
    if all(isinstance(index, int) for index in indices):
        choices = sorted(choices, key=lambda choice: int(choice["index"]))
    # JSON can hold half a surrogate pair, which no tokenizer accepts.
    return [choice | {"text": choice["text"].encode(errors="replace").decode()} for choice in choices]


def generated_ids(choice: dict[str, Any], source: IdSource) -> list[int] | None:
    """Return the ids that the server gives in this form; None if it gives none, or they are invalid."""
    ids: list[int] | None = None
    try:
        if source == "token_ids":
            ids = [int(token) for token in choice["token_ids"]]
        elif source == "token_id strings":
            names = choice["logprobs"]["tokens"]
            ids = [int(name.removeprefix(PREFIX)) for name in names] if _all_prefixed(names) else None
        elif source == "logprobs content":
            ids = [int(entry["id"]) for entry in choice["logprobs"]["content"]]
    except (KeyError, TypeError, ValueError):
        return None
    return None if ids is None or any(not 0 <= token <= _LARGEST_ID for token in ids) else ids


def finish_reason(choice: dict[str, Any]) -> Literal["stop", "length"] | None:
    """Return the finish reason of a choice; None if it is missing or the server's own (`content_filter`, `abort`)."""
    said = choice.get("finish_reason")
    return _FINISH_REASONS.get(said) if isinstance(said, str) else None


def generated_logprobs(choice: dict[str, Any]) -> list[float] | None:
    """Return the log-probabilities of the generated tokens, or None if there are none."""
    logprobs = choice.get("logprobs")
    if not isinstance(logprobs, dict):
        return None
    try:
        if logprobs.get("content") is not None:
            return [float(entry["logprob"]) for entry in logprobs["content"]]
        return [float(value) for value in logprobs["token_logprobs"]]
    except (KeyError, TypeError, ValueError):
        return None


@dataclass
class SampleReader:
    """Reader that turns choices into samples.

    Args:
        tokenizer: tokenizer of the model.
        source: location of the ids.
        note: callback that receives notes for the user; the same note may be sent many times.
    """

    tokenizer: Any
    source: IdSource
    note: Callable[[str], None] = field(repr=False)

    def read(self, url: str, choice: dict[str, Any], sampling: Sampling) -> Sample:
        """Return a sample, cut at the first end token, stop text or `max_new_tokens` if the server continued past it.

        Raises:
            ReplyError: if a field is missing.
            BrokenOff: if the server ended the sample for its own reason.
        """
        reason = finish_reason(choice)
        try:
            ids, logprobs = self._tokens(url, choice, sampling, ended=reason == "stop")
        except ReplyError as error:
            raise error if reason is not None else self._broken_off(url, choice) from None
        end = self._end(ids, sampling)
        if reason is None and end is None:
            raise self._broken_off(url, choice)
        ended = reason == "stop" or end is not None
        longest = sampling.max_new_tokens
        # We append an end token to a text that the server ended; the server need not have counted it.
        if len(ids[:end]) > longest + (ended and self.source == "text"):
            self.note("the server gave answers longer than max_tokens: they are truncated there")
            end, ended = longest, False
        ids, logprobs = ids[:end], logprobs and logprobs[:end]
        return Sample(ids, logprobs if sampling.logprobs else None, "stop" if ended else "length")

    def ends(self, sampling: Sampling) -> list[int]:
        """Return the tokens that end a sample, in addition to those that the server knows."""
        own = self.tokenizer.eos_token_id
        return list(dict.fromkeys([*([] if own is None else [own]), *sampling.stop_token_ids]))

    def _broken_off(self, url: str, choice: dict[str, Any]) -> BrokenOff:
        said = one_line(repr(choice.get("finish_reason")))
        self.note(f"the server ended answers with the finish_reason {said}: they count as no answer")
        return BrokenOff(f"{url} ended the answer with the finish_reason {said}")

    def _tokens(
        self, url: str, choice: dict[str, Any], sampling: Sampling, *, ended: bool
    ) -> tuple[list[int], list[float] | None]:
        logprobs = generated_logprobs(choice)
        if sampling.logprobs and logprobs is None:
            raise ReplyError(f"{url}/completions: the reply has no log-probabilities in 'choices[].logprobs'")
        if self.source == "text":
            self.note(
                "the server returns no ids of generated tokens: its text is tokenized again, perhaps into other tokens"
            )
            if sampling.logprobs:
                raise ReplyError(f"{url} returns no ids of generated tokens, but log-probabilities need them")
            end = [self.tokenizer.eos_token_id] if ended and not sampling.stop else []
            return [*self._encode(choice["text"]), *end], None
        ids = generated_ids(choice, self.source)
        if ids is None:
            raise ReplyError(
                f"{url}/completions: the reply lacks the ids of generated tokens, which earlier replies had"
            )
        if logprobs is not None and len(logprobs) != len(ids):
            raise ReplyError(f"{url}/completions: the reply has {len(ids)} ids and {len(logprobs)} log-probabilities")
        if self.source == "logprobs content":
            return self._completed(choice, ids, logprobs or [])
        return ids, logprobs

    def _completed(
        self, choice: dict[str, Any], ids: list[int], logprobs: list[float]
    ) -> tuple[list[int], list[float]]:
        """Add the tokens that llama.cpp leaves out: all but the last of a character, and those of a stop text."""
        all_ids: list[int] = []
        all_logprobs: list[float] = []
        listed = ""
        for token, logprob, entry in zip(ids, logprobs, choice["logprobs"]["content"], strict=True):
            text = str(entry.get("token", ""))
            listed += text
            before: list[int] = []
            if "\N{REPLACEMENT CHARACTER}" in self.tokenizer.decode([token]):
                self.note(
                    "the server lists only the last token of a character made of several: the others are tokenized "
                    "again, and their log-probabilities are unknown (NaN)"
                )
                encoded = self._encode(text)
                before = encoded[:-1] if encoded and encoded[-1] == token else []
            all_ids += [*before, token]
            all_logprobs += [*[float("nan")] * len(before), logprob]
        if choice["text"].startswith(listed) and (rest := self._encode(choice["text"][len(listed) :])):
            self.note("the server omits a stop text and the tokens that hold it: the text before it is tokenized again")
            all_ids += rest
            all_logprobs += [float("nan")] * len(rest)
        return all_ids, all_logprobs

    def _end(self, ids: Sequence[int], sampling: Sampling) -> int | None:
        """Return the number of tokens up to and including the first that ends the sample; None if none does."""
        ends = self.ends(sampling)
        by_token = next((i + 1 for i, token in enumerate(ids) if token in ends), None)
        by_text = StopTexts(self.tokenizer, sampling.stop).first_end(ids)
        return min((end for end in (by_token, by_text) if end is not None), default=None)

    def _encode(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])


def prompt_logprobs(url: str, choice: dict[str, Any], prompt_ids: Sequence[int]) -> list[float]:
    """Return the log-probabilities of a prompt's tokens after the first, from `prompt_logprobs` or an echoed prompt.

    Raises:
        ReplyError: if they are missing.
    """
    listed = choice.get("prompt_logprobs")
    try:
        if isinstance(listed, list) and len(listed) == len(prompt_ids):
            return [
                float(entry[str(token)]["logprob"]) for entry, token in zip(listed[1:], prompt_ids[1:], strict=True)
            ]
        echoed = choice["logprobs"]["token_logprobs"]
        if len(echoed) >= len(prompt_ids):
            return [float(value) for value in echoed[1 : len(prompt_ids)]]
    except (KeyError, TypeError, ValueError):
        pass
    raise ReplyError(f"{url}/completions: the reply has no log-probabilities of the prompt in 'choices[0]'")


def named_logprobs(url: str, choice: dict[str, Any], tokens: Sequence[int]) -> list[float]:
    """Return the log-probabilities of given next tokens, from `top_logprobs` with the names `token_id:N`.

    Raises:
        ReplyError: if one is missing.
    """
    try:
        first = choice["logprobs"]["top_logprobs"][0]
        return [float(first[f"{PREFIX}{token}"]) for token in tokens]
    except (KeyError, TypeError, ValueError, IndexError):
        raise ReplyError(f"{url}/completions: 'choices[0].logprobs.top_logprobs' lacks requested tokens") from None


def _is_filtered(choice: dict[str, Any]) -> bool:
    """Return True if the server removed the whole text for its own reason."""
    return choice.get("text") is None and isinstance(choice.get("finish_reason"), str) and finish_reason(choice) is None


def _all_prefixed(names: Sequence[str]) -> bool:
    return all(name.startswith(PREFIX) for name in names)


def _names(reply: dict[str, Any]) -> str:
    return one_line(", ".join(sorted(map(str, reply)))) or "nothing"

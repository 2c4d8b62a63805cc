"""Messages converted to a shape that a chat template supports: unsupported parts are written into other messages."""

from typing import Any

from rolewise.data.tool_text import ToolFormat

Messages = list[dict[str, Any]]
Tools = list[dict[str, Any]] | None


def plain(message: dict[str, Any]) -> dict[str, Any]:
    """Return the message in a form for every template: OpenAI's `developer` as system, no content as empty text."""
    role = "system" if message["role"] == "developer" else message["role"]
    return {**message, "role": role, "content": message.get("content") or ""}


def append_to_system(messages: Messages, text: str) -> Messages:
    if messages[0]["role"] != "system":
        return [{"role": "system", "content": text}, *messages]
    first = {**messages[0], "content": f"{messages[0]['content']}\n\n{text}"}
    return [first, *messages[1:]]


def with_system_in_user(messages: Messages) -> Messages:
    """Put each system message's text before the next user message, or make it one if none follows immediately."""
    changed: Messages = []
    waiting: list[str] = []
    for message in messages:
        if message["role"] == "system":
            waiting.append(message["content"])
            continue
        if waiting and message["role"] == "user":
            message = {**message, "content": "\n\n".join([*waiting, message["content"]])}
        elif waiting:
            changed.append({"role": "user", "content": "\n\n".join(waiting)})
        waiting = []
        changed.append(message)
    if waiting:
        changed.append({"role": "user", "content": "\n\n".join(waiting)})
    return changed


def with_one_system(messages: Messages) -> Messages:
    """Join the system messages at the start into one; put later ones before the next user message."""
    count = next((i for i, message in enumerate(messages) if message["role"] != "system"), len(messages))
    later = with_system_in_user(messages[count:])
    if not count:
        return later
    return [{**messages[0], "content": "\n\n".join(message["content"] for message in messages[:count])}, *later]


def with_written_calls(messages: Messages, form: ToolFormat) -> Messages:
    """Write calls as text after their turn's content."""
    changed: Messages = []
    for message in messages:
        if message.get("tool_calls"):
            written = form.calls([call["function"] for call in message["tool_calls"]])
            content = message["content"]
            kept = {key: value for key, value in message.items() if key != "tool_calls"}
            message = {**kept, "content": f"{content}\n{written}" if content else written}
        changed.append(message)
    return changed


def with_results_as_user(messages: Messages, form: ToolFormat) -> Messages:
    """Write results as user messages; those of parallel calls share one: such templates often require alternation."""
    changed: Messages = []
    after_result = False
    for message in messages:
        is_result = message["role"] == "tool"
        if is_result:
            message = {"role": "user", "content": form.result(message["content"])}
        if is_result and after_result:
            changed[-1] = {"role": "user", "content": f"{changed[-1]['content']}\n{message['content']}"}
        else:
            changed.append(message)
        after_result = is_result
    return changed

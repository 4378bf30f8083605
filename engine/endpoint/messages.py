"""What is to be answered or continued: the messages of a conversation, or prompts as texts or token ids."""

from __future__ import annotations

from typing import Any

from engine.endpoint.refusals import Refusal, blamed
from engine.errors import check_text, shown
from engine.request import MAX_PROMPT_CHARACTERS, MAX_TURNS, Turn, TurnRole

MAX_PARTS = 1_000
"""Of one message's content."""

Prompt = tuple[dict[str, Any], tuple[int, ...] | None]
"""Fields of a `Request`, and the prompt's token ids where it was given as such."""

_ROLES: dict[Any, TurnRole] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_BY_IDS = "(token ids)"  # a request has a prompt in words, which nobody reads here


def read_messages(said: Any) -> dict[str, Any]:
    """A conversation that ends with the user's message, as fields of a `Request`; raises Refusal."""
    if not isinstance(said, list) or not 1 <= len(said) <= MAX_TURNS:
        raise Refusal(400, f"messages must be a list of 1 to {MAX_TURNS:,} messages.", "messages")
    with blamed("messages"):
        turns = [_turn(message, f"messages[{n}]") for n, message in enumerate(said)]
    last = turns.pop()
    if last.role != "user":
        raise Refusal(400, "messages must end with one whose role is user: that is what is answered.", "messages")
    system = turns.pop(0).text if turns and turns[0].role == "system" and turns[0].text else None
    return {"prompt": last.text, "system": system, "turns": tuple(turns)}


def _turn(message: Any, where: str) -> Turn:
    if not isinstance(message, dict):
        raise Refusal(400, f"{where} = {shown(message, True)} must be an object with role and content.", where)
    role = message.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise Refusal(400, f"{where}: role = {shown(role, True)} must be one of {', '.join(_ROLES)}.", f"{where}.role")
    for name in ("tool_calls", "function_call", "audio"):
        if message.get(name):
            raise Refusal(400, f"{where}: {name} is not served here: text only.", f"{where}.{name}")
    content = message.get("content")
    if content is None and role == "assistant":
        content = ""
    return Turn(_ROLES[role], _text(content, f"{where}.content"))


def _text(content: Any, where: str) -> str:
    """A message's text, which may come in parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or len(content) > MAX_PARTS:
        raise Refusal(400, f"{where} must be a text, or a list of at most {MAX_PARTS:,} parts.", where)
    texts: list[str] = []
    for n, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind != "text" or not isinstance(part.get("text"), str):
            raise Refusal(
                400, f"{where}[{n}]: a part of type {shown(kind, True)} is not served here: text only.", where
            )
        texts.append(part["text"])
    return "".join(texts)


def read_prompts(said: Any) -> list[Prompt]:
    """Prompts to be continued: a text, a list of token ids, or a list of either; raises Refusal."""
    single = isinstance(said, str) or (isinstance(said, list) and said and not isinstance(said[0], str | list))
    prompts = [said] if single else said
    if not isinstance(prompts, list) or not prompts:
        raise Refusal(400, "prompt must be a text, a list of token ids, or a list of either.", "prompt")
    return [_prompt(each) for each in prompts]


def _prompt(said: Any) -> Prompt:
    if isinstance(said, str):
        with blamed("prompt"):
            check_text("prompt", said, MAX_PROMPT_CHARACTERS)
        return {"prompt": said, "raw": True}, None
    if not isinstance(said, list) or not all(isinstance(id, int) and not isinstance(id, bool) for id in said):
        raise Refusal(400, f"prompt = {shown(said, True)} must be a text or a list of token ids.", "prompt")
    return {"prompt": _BY_IDS, "raw": True}, tuple(said)

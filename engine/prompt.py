"""From a request to token ids: the chat template by default, the bare text if raw. Knows no models.

A prompt is data: what a person types never becomes a control token, whatever it spells.
"""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from engine.errors import InvalidRequest
from engine.request import Request

_MARK = "\ue000{}\ue001"  # private-use characters: stand in for a message while the template is rendered


def render(tokenizer: PreTrainedTokenizerBase, request: Request) -> list[int]:
    """Token ids of a request's prompt.

    Args:
        tokenizer: The pair's tokenizer, with a chat template unless `request.raw`.
        request: What was asked.

    Raises:
        InvalidRequest: The tokenizer has no chat template.
    """
    if request.raw:
        return _plain(tokenizer, request.prompt)
    if not tokenizer.chat_template:
        raise InvalidRequest("This pair's tokenizer has no chat template: ask for raw completion instead.")
    roles = [("system", request.system)] if request.system else []
    roles.append(("user", request.prompt))
    messages = [{"role": role, "content": _MARK.format(n)} for n, (role, _) in enumerate(roles)]
    rest = str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    ids: list[int] = []
    for n, (_, content) in enumerate(roles):
        before, rest = rest.split(_MARK.format(n), 1)
        ids += _template(tokenizer, before) + _plain(tokenizer, content)
    return ids + _template(tokenizer, rest)


def check_length(prompt_tokens: int, context: int) -> None:
    """Refuses a prompt that leaves no room for a token.

    Raises:
        InvalidRequest: With both numbers.
    """
    if prompt_tokens >= context:
        raise InvalidRequest(
            f"The prompt has {prompt_tokens:,} tokens, but the context holds {context:,} and the answer needs room: "
            f"shorten it by at least {prompt_tokens - context + 1:,} tokens, or raise CITER_CONTEXT."
        )


def _template(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False)


def _plain(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)

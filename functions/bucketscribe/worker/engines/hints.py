"""A request's prompt and hotwords, cut to what leaves room for an answer among Whisper's 448 tokens."""

from typing import Any

from .base import Request

_HINT_TOKENS = 223


def hints(request: Request, tokenizer: Any) -> tuple[str | None, str | None]:
    """The prompt and the hotwords.

    Of a prompt the end is kept, as openai/whisper does; of hotwords the beginning.
    `tokenizer` is the model's own, of Hugging Face's `tokenizers`.
    """
    prompt, hotwords = request.initial_prompt, request.hotwords
    most = _HINT_TOKENS // 2 if prompt and hotwords else _HINT_TOKENS

    def tokens(text: str) -> list[tuple[int, int]]:
        """Where each token of a text begins and ends."""
        return list(tokenizer.encode(text, add_special_tokens=False).offsets)

    if prompt and len(parts := tokens(prompt)) > most:
        prompt = prompt[parts[-most][0] :]
    if hotwords and len(parts := tokens(hotwords)) > most:
        hotwords = hotwords[: parts[most - 1][1]]
    return prompt, hotwords

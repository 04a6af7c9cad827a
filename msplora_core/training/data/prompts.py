"""Conversations as tokens, in the model's chat format or the Alpaca prompt, with labels for the answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from msplora_core.errors import ParameterError
from msplora_core.training.data.batches import IGNORED, TokenisedItems

if TYPE_CHECKING:
    from msplora_core.training.data.instructions import Instructions, Message

_ALPACA = (
    "Below is an instruction that describes a task{context}. "
    "Write a response that appropriately completes the request.\n\n### Instruction:\n{instruction}\n\n"
)


class EncodedInstructions(TokenisedItems):
    """Tokenised conversations with labels for the answers, or for all tokens.

    Args:
        instructions: the conversations.
        tokenizer: of the model; its chat template is used, or the Alpaca prompt if it has none.
        max_length: tokens of a conversation; longer ones are cut at the end. Conversations without an answer in their
            first `max_length` tokens are left out.
        loss_on_prompt: whether prompts have labels, too.

    Attributes:
        left_out: number of conversations left out.
        cut: number of the others that were cut.

    Raises:
        ParameterError: if all are left out, or the tokenizer's chat template cannot be used.
    """

    def __init__(self, instructions: Instructions, tokenizer: Any, max_length: int, loss_on_prompt: bool) -> None:
        start = _start(tokenizer)
        items = []
        self.left_out = self.cut = 0
        for chat in instructions.chats:
            tokens, learned = list(start), [False] * len(start)
            for text, is_answer in pieces(chat, tokenizer):
                more = tokenizer(text, add_special_tokens=False)["input_ids"]
                tokens += more
                learned += [is_answer] * len(more)
            if not any(learned[1:max_length]):  # the first token is not predicted
                self.left_out += 1
                continue
            self.cut += len(tokens) > max_length
            ids = torch.tensor(tokens[:max_length])
            known = torch.ones(len(ids), dtype=torch.bool) if loss_on_prompt else torch.tensor(learned[:max_length])
            known[0] = False
            items.append({"input_ids": ids, "labels": torch.where(known, ids, IGNORED)})
        if not items:
            raise ParameterError(
                "max_length",
                expected="more tokens than the shortest prompt has",
                found=max_length,
                hint=f"all {self.left_out:,} prompts are as long or longer",
            )
        super().__init__(items)

    def labels(self) -> list[float]:
        """Return all tokens with a loss, concatenated."""
        labels = torch.cat([item["labels"] for item in self.items])
        tokens: list[float] = labels[labels != IGNORED].tolist()
        return tokens


def pieces(chat: Sequence[Message], tokenizer: Any) -> list[tuple[str, bool]]:
    """Return a conversation as pieces of text, and whether each is an answer of the assistant.

    Raises:
        ParameterError: if the tokenizer has no chat template and the conversation is more than one question with its
            answer; or if the template changes earlier messages when others follow.
    """
    if not getattr(tokenizer, "chat_template", None):
        return _alpaca(chat, tokenizer)
    messages = [{"role": one.role, "content": "\n\n".join(filter(None, one[1:]))} for one in chat]
    found, done = [], ""
    for place, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        asked = tokenizer.apply_chat_template(messages[:place], tokenize=False, add_generation_prompt=True)
        answered = tokenizer.apply_chat_template(messages[: place + 1], tokenize=False)
        if not (asked.startswith(done) and answered.startswith(asked)):
            raise ParameterError(
                "model",
                expected="a chat template that does not change earlier messages",
                found="one that changes them",
                hint="rows with one question and one answer may work",
            )
        found += [(asked[len(done) :], False), (answered[len(asked) :], True)]
        done = answered
    return found


def _alpaca(chat: Sequence[Message], tokenizer: Any) -> list[tuple[str, bool]]:
    if [message.role for message in chat] != ["user", "assistant"]:
        raise ParameterError(
            "model",
            expected="a tokenizer with a chat template, since the file holds chats of several messages",
            found="one without",
        )
    question, answer = chat
    context = ", paired with an input that provides further context" if question.context else ""
    prompt = _ALPACA.format(context=context, instruction=question.content)
    if question.context:
        prompt += f"### Input:\n{question.context}\n\n"
    return [(f"{prompt}### Response:\n", False), (answer.content + (tokenizer.eos_token or ""), True)]


def _start(tokenizer: Any) -> list[int]:
    """The token that the tokenizer puts before plain text; empty if a chat template writes it."""
    if getattr(tokenizer, "chat_template", None) or tokenizer.bos_token_id is None:
        return []
    return [tokenizer.bos_token_id] if tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id else []

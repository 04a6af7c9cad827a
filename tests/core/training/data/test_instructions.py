"""Files of instructions, what of them is learned, and what is said of odd rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msplora_core.errors import DataFileError, ParameterError
from msplora_core.training.data.batches import LengthBatches, Padding
from msplora_core.training.data.instructions import Instructions, Message, read_instructions, split_instructions
from msplora_core.training.data.prompts import EncodedInstructions
from msplora_core.training.models import packaged_model

QUESTION = [Message("user", "add 2 and 3"), Message("assistant", "five")]
TEMPLATE = (
    "{% for message in messages %}[{{ message.role }}] {{ message.content }} ;{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)


def written(path: Path, rows: Any) -> Path:
    path.write_text(json.dumps(rows))
    return path


def row(**fields: Any) -> dict[str, Any]:
    return {"instruction": "add", "input": "", "output": "five"} | fields


@pytest.fixture
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(packaged_model())
    tokenizer.bos_token, tokenizer.eos_token = "[CLS]", "[SEP]"
    return tokenizer


def test_both_layouts_and_both_kinds_of_file(tmp_path: Path) -> None:
    chat = {"messages": [{"role": "user", "content": "add"}, {"role": "assistant", "content": "five"}]}
    lines = tmp_path / "data.jsonl"
    lines.write_text(f"{json.dumps(row(input='2 and 3'))}\n\n{json.dumps(chat)}\n")
    assert read_instructions(lines).chats == [
        (Message("user", "add", "2 and 3"), Message("assistant", "five")),
        (Message("user", "add"), Message("assistant", "five")),
    ]
    assert len(read_instructions(written(tmp_path / "data.json", [row(), row(output=" \n")]))) == 1
    assert read_instructions(tmp_path / "data.json").empty == 1


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([row(), {"instruction": "add"}], "row 2: output: expected a text, found none"),
        ([row(instruction=3)], "row 1: instruction: expected a text, found 3"),
        ([row(input=["x"])], r"row 1: input: expected a text, found \['x'\]"),
        ([row(input=0)], "row 1: input: expected a text, found 0"),
        ([row(), {"from": "gpt", "value": "4"}], "row 2: expected instruction and output, or messages, found the fie"),
        ([[]], "row 1: expected an object, found a list"),
        ({"examples": []}, "expected a list of rows, found an object; for one row a line, name the file .jsonl"),
        ([], "expected at least one row with an answer, found no row"),
        ([row(output="")] * 3, "expected at least one row with an answer, found 3 rows with an empty answer"),
        ([{"messages": []}], "row 1: messages: expected a list of messages"),
        ([{"messages": [{"role": "tool", "content": ""}]}], "row 1: messages: 1: role: expected system, user, assis"),
        ([{"messages": [{"role": "user", "content": "a"}]}], "expected messages that end with an answer of the assist"),
        ([{"messages": [{"role": "user"}]}], "row 1: messages: 1: content: expected a text, found none"),
    ],
)
def test_odd_rows_are_named(rows: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match=said):
        read_instructions(written(tmp_path / "data.json", rows))


def test_damaged_files_are_named(tmp_path: Path) -> None:
    lines = tmp_path / "data.jsonl"
    lines.write_text(f"{json.dumps(row())}\n{{")
    with pytest.raises(DataFileError, match=r"data.jsonl: line 2: expected JSON, found Expecting property name"):
        read_instructions(lines)
    lines.write_bytes(b'{"instruction": "\xff"}')
    with pytest.raises(DataFileError, match="expected UTF-8 text, found byte 17 is not"):
        read_instructions(lines)
    with pytest.raises(DataFileError, match=r"missing.json: expected a file of instructions, found No such file"):
        read_instructions(tmp_path / "missing.json")


def test_a_fixed_tenth_is_held_out(tmp_path: Path) -> None:
    path = written(tmp_path / "data.json", [row(instruction=str(number)) for number in range(40)])
    train, dev = split_instructions(path)
    assert (len(train), len(dev)) == (36, 4)
    assert not set(train.chats) & set(dev.chats)
    assert split_instructions(path) == (train, dev)
    with pytest.raises(DataFileError, match="at least two rows"):
        split_instructions(written(tmp_path / "one.json", [row()]))


def shown(chats: list[list[Message]], tokenizer: Any, length: int = 99, whole: bool = False) -> list[tuple[str, str]]:
    """Each conversation as text, and what of it is learned."""
    encoded = EncodedInstructions(Instructions([tuple(chat) for chat in chats]), tokenizer, length, whole)
    return [
        (tokenizer.decode(item["input_ids"]), tokenizer.decode(item["labels"][item["labels"] >= 0]))
        for item in encoded.items
    ]


def test_the_answers_are_learned_in_the_chat_format(tokenizer: Any) -> None:
    tokenizer.chat_template = TEMPLATE
    more = [*QUESTION, Message("user", "why"), Message("assistant", "because")]
    assert shown([more], tokenizer) == [
        ("[ user ] add 2 and 3 ; [ assistant ] five ; [ user ] why ; [ assistant ] because ;", "five ; because ;")
    ]
    assert shown([QUESTION], tokenizer, whole=True)[0][1] == "user ] add 2 and 3 ; [ assistant ] five ;"


def test_the_alpaca_prompt_without_a_chat_format(tokenizer: Any) -> None:
    text, learned = shown([QUESTION], tokenizer)[0]
    assert text.startswith("[CLS] below is an instruction that describes a task. write a response")
    assert text.endswith("# # # instruction : add 2 and 3 # # # response : five [SEP]")
    assert learned == "five [SEP]"
    text, _ = shown([[Message("user", "add", "2 and 3"), QUESTION[1]]], tokenizer)[0]
    assert "paired with an input" in text
    assert "# # # input : 2 and 3 # # #" in text
    with pytest.raises(ParameterError, match="expected a tokenizer with a chat template"):
        shown([[*QUESTION, *QUESTION]], tokenizer)


def test_long_prompts_are_counted_and_none_is_cut_to_nothing(tokenizer: Any) -> None:
    tokenizer.chat_template = TEMPLATE
    long = [Message("user", "add " * 20), QUESTION[1]]
    instructions = Instructions([tuple(QUESTION), tuple(long)])
    encoded = EncodedInstructions(instructions, tokenizer, 12, loss_on_prompt=True)
    assert (len(encoded), encoded.left_out, encoded.cut) == (1, 1, 1)
    assert encoded.labels()[-1] == tokenizer.convert_tokens_to_ids("five")
    with pytest.raises(ParameterError, match=r"max_length: .* found 5; all 2 prompts are as long or longer"):
        EncodedInstructions(instructions, tokenizer, 5, loss_on_prompt=False)


def test_a_template_that_rewrites_earlier_messages_is_refused(tokenizer: Any) -> None:
    tokenizer.chat_template = "{{ messages | length }}" + TEMPLATE
    with pytest.raises(ParameterError, match="expected a chat template that does not change earlier messages"):
        shown([[*QUESTION, *QUESTION]], tokenizer)


def test_conversations_of_similar_length_share_a_batch(tokenizer: Any) -> None:
    words = np.random.default_rng(0).lognormal(3.5, 0.8, 640).astype(int) + 1
    chats = [(Message("user", "say it"), Message("assistant", "again " * count)) for count in words]
    encoded = EncodedInstructions(Instructions(chats), tokenizer, 256, loss_on_prompt=False)
    pad = Padding(tokenizer.pad_token_id)

    def padding(batches: Any) -> float:
        masks = [pad([encoded[place] for place in batch])["attention_mask"] for batch in batches]
        return 1 - sum(int(mask.sum()) for mask in masks) / sum(mask.numel() for mask in masks)

    as_they_come = padding(np.arange(640).reshape(20, 32))
    assert padding(LengthBatches(encoded.lengths, 32, seed=0)) < as_they_come / 4
    assert padding(LengthBatches(encoded.lengths, 128, seed=0, at_a_time=8)) < as_they_come / 4

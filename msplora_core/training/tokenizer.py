"""The tokenizer of a base model."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from msplora_core.errors import ParameterError


@lru_cache
def load_tokenizer(source: str) -> Any:
    """Return the tokenizer of a model, with a padding token: the one that ends texts where it has none.

    Args:
        source: folder or hub id that transformers loads it from.

    Raises:
        ParameterError: if there is none, if its files are damaged, or if it has no token to pad with.

    Example:
        >>> from msplora_core.training.models import packaged_model
        >>> load_tokenizer(str(packaged_model())).pad_token
        '[PAD]'
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
    except Exception as error:  # hub client and tokenizers raise different ones
        raise _unusable(source, error) from error
    if len(tokenizer) <= len(tokenizer.all_special_tokens):  # what transformers makes up where the files are missing
        raise _without_tokenizer(source)
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise _without(source, "a padding token or one that ends texts", "set pad_token of its tokenizer")
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _unusable(source: str, error: Exception) -> ParameterError:
    """The error of a tokenizer that transformers cannot load: its damaged file, or what transformers says."""
    files = sorted(Path(source).glob("*token*.json"))
    if not files and Path(source).is_dir():
        return _without_tokenizer(source)
    hint = f"transformers says: {type(error).__name__}: {str(error).partition(chr(10))[0]}"
    for path in files:
        try:
            json.loads(path.read_bytes())
        except ValueError as damage:
            hint = f"{path.name} is not JSON: {damage}"
            break
    return ParameterError("model", expected="a model whose tokenizer can be loaded", found=source, hint=hint)


def _without_tokenizer(source: str) -> ParameterError:
    return _without(source, "a tokenizer", "its files stand beside the weights: tokenizer.json and others")


def _without(source: str, what: str, hint: str) -> ParameterError:
    return ParameterError("model", expected=f"a model with {what}", found=f"{source}, which has none", hint=hint)

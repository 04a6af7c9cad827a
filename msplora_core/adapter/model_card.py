"""Add instructions for loading to the model card that PEFT writes beside a saved adapter."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

_HEADING = "Use the code below to get started with the model.\n\n"
_EMPTY = f"{_HEADING}[More Information Needed]\n"
_LOADING = """{heading}This adapter is of the method {method}. PEFT can load it once the package `msplora` is imported:

```python
import {package}  # registers the method with PEFT
from peft import PeftModel

model = PeftModel.from_pretrained(base_model, adapter_path)
```
"""


def describe_loading(save_directory: str | PathLike[str], method: str, package: str) -> None:
    """Write the code that loads an adapter into the empty section of its model card.

    PEFT keeps the card of a named adapter (`save_directory/name`) in the folder above. A card without the empty
    section is not changed.

    Args:
        save_directory: the folder with the adapter's configuration.
        method: title of the method.
        package: the package that registers the method.
    """
    loading = _LOADING.format(heading=_HEADING, method=method, package=package)
    for folder in (Path(save_directory), Path(save_directory).parent):
        card = folder / "README.md"
        if card.is_file():
            text = card.read_text(encoding="utf-8")
            if _EMPTY in text:
                card.write_text(text.replace(_EMPTY, loading), encoding="utf-8")

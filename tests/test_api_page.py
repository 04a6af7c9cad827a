"""API.md lists every public name with the first line of its docstring. `python tests/test_api_page.py` writes it."""

from __future__ import annotations

from importlib import import_module
from inspect import getdoc, isclass, isroutine
from pathlib import Path

PAGE = Path(__file__).parents[1] / "API.md"
HEAD = """# Public names

What `from msplora_core import ...` and `from msplora_analysis import ...` offer. Each name is imported when first used.
Docstrings hold arguments, shapes, units, errors, equations and an example.
"""


def page() -> str:
    """The text of API.md, from the docstrings."""
    parts = [HEAD]
    for package in ("msplora_analysis", "msplora_core"):
        module = import_module(package)
        rows = [f"| `{name}` | {_line(getattr(module, name))} |" for name in module.__all__]
        parts.append(
            "\n".join([f"## {package}", "", f"{_line(module)}", "", "| name | what |", "|---|---|", *rows, ""])
        )
    return "\n".join(parts)


def _line(thing: object) -> str:
    documented = isclass(thing) or isroutine(thing) or hasattr(thing, "__path__")
    assert documented, f"{thing!r} has no docstring of its own"
    return (getdoc(thing) or "").split("\n", 1)[0].replace("|", "\\|")


def test_every_public_name_is_listed_with_what_it_is() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

"""The directions that the design fixes: which package may import which, and that public names exist."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {
    "msplora_core": ROOT / "msplora_core",
    "msplora_analysis": ROOT / "msplora_analysis",
    "msplora_cli": ROOT / "cli",
}
FORBIDDEN = {
    "msplora_core": ("msplora_analysis", "msplora_cli"),
    "msplora_core.pyramid": ("msplora_core.adapter", "msplora_core.training", "msplora_core.snapshots"),
    "msplora_core.snapshots": ("msplora_core.adapter", "msplora_core.training", "torch", "peft", "transformers"),
    "msplora_core.adapter": ("msplora_core.training",),
    "msplora_analysis": ("msplora_cli", "torch", "peft", "msplora_core.adapter", "msplora_core.training"),
    "msplora_analysis.kernels": ("pandas", "matplotlib", "seaborn"),
    "msplora_analysis.plots": ("msplora_analysis.table", "msplora_analysis.analysis"),
}


def modules() -> dict[str, Path]:
    """Every module of the project by its dotted name."""
    found = {}
    for package, folder in FOLDERS.items():
        for path in folder.rglob("*.py"):
            names = path.relative_to(folder).with_suffix("").parts
            found[".".join([package, *(name for name in names if name != "__init__")])] = path
    return found


def imports(path: Path) -> set[str]:
    """All that a module imports at run time, also inside functions; imports for type checkers do not count."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return found


def inside(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


@pytest.mark.parametrize("package", FORBIDDEN)
def test_imports_go_one_way(package: str) -> None:
    members = {name: path for name, path in modules().items() if inside(name, package)}
    assert members
    wrong = [
        f"{name} imports {imported}"
        for name, path in members.items()
        for imported in imports(path)
        if any(inside(imported, forbidden) for forbidden in FORBIDDEN[package])
    ]
    assert wrong == []


def test_nothing_in_analysis_but_its_own_package_imports_the_plots() -> None:
    wrong = [
        name
        for name, path in modules().items()
        if inside(name, "msplora_analysis") and not inside(name, "msplora_analysis.plots")
        for imported in imports(path)
        if inside(imported, "msplora_analysis.plots")
    ]
    assert wrong == []


@pytest.mark.parametrize("package", ["msplora_core", "msplora_analysis"])
def test_public_names_are_those_that_exist(package: str) -> None:
    module = import_module(package)
    assert sorted(module.__all__) == list(module.__all__)
    assert sorted(module._HOME) == list(module.__all__)
    for name in module.__all__:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = module.nonsense


def test_files_stay_small() -> None:
    long = {name: lines for name, path in modules().items() if (lines := len(path.read_text().splitlines())) > 300}
    assert long == {}

"""The directions that the design fixes: which package may import which, and that public names exist."""

from __future__ import annotations

import ast
import re
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
    "msplora_core.pyramid": ("msplora_core.adapter", "msplora_core.training", "msplora_core.runs"),
    "msplora_core.runs": ("msplora_core.adapter", "msplora_core.training", "torch", "peft", "transformers"),
    "msplora_core.adapter": ("msplora_core.training",),
    "msplora_analysis": ("msplora_cli", "torch", "peft", "msplora_core.adapter", "msplora_core.training"),
    "msplora_analysis.kernels": ("pandas", "matplotlib", "seaborn"),
    "msplora_analysis.plots": ("msplora_analysis.loading.table", "msplora_analysis.analysis"),
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


def targets(path: Path) -> set[str]:
    """The modules of the project that a module imports, a name imported from a package followed to its home."""
    known = modules()
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module in known and node.module in imports(path):
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                found.add(submodule if submodule in known else node.module)
    return found | {name for name in imports(path) if name in known and name not in PACKAGES}


PACKAGES = ("msplora_core", "msplora_analysis", "msplora_cli")


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


@pytest.mark.parametrize("last", ["plots", "report"])
def test_pictures_and_reports_are_imported_by_no_other_part_of_the_analysis(last: str) -> None:
    allowed = (f"msplora_analysis.{last}", "msplora_analysis.report")
    wrong = [
        f"{name} imports {imported}"
        for name, path in modules().items()
        if inside(name, "msplora_analysis") and not any(inside(name, package) for package in allowed)
        for imported in imports(path)
        if inside(imported, f"msplora_analysis.{last}")
    ]
    assert wrong == []


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The groups of modules that import each other, by Tarjan's algorithm."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    names = sorted(graph)
    place = {name: index for index, name in enumerate(names)}
    arrows = [(place[name], place[other]) for name in names for other in graph[name] if other in place]
    rows, columns = zip(*arrows, strict=True)
    adjacency = csr_array(([1] * len(rows), (rows, columns)), shape=(len(names), len(names)))
    count, label = connected_components(adjacency, directed=True, connection="strong")
    groups = [[name for name in names if label[place[name]] == group] for group in range(count)]
    return [group for group in groups if len(group) > 1 or group[0] in graph[group[0]]]


def test_the_search_for_cycles_finds_one() -> None:
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    assert cycles({"a": {"b"}, "b": set()}) == []


def test_no_cycles_also_inside_functions() -> None:
    assert cycles({name: targets(path) for name, path in modules().items()}) == []


@pytest.mark.parametrize(
    "package", ["msplora_core", "msplora_core.training", "msplora_core.conversion", "msplora_analysis"]
)
def test_public_names_are_those_that_exist(package: str) -> None:
    module = import_module(package)
    assert sorted(module.__all__) == list(module.__all__) == sorted(set(module.__all__))
    for name in module.__all__:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = module.nonsense


def test_no_two_modules_of_one_name() -> None:
    """A name says where a thing is. Commands are called as what they run, so the command line does not count."""
    homes: dict[str, list[str]] = {}
    for name in modules():
        if not inside(name, "msplora_cli"):
            homes.setdefault(name.rpartition(".")[2], []).append(name)
    assert {name: where for name, where in homes.items() if len(where) > 1} == {}


def test_no_module_hides_a_public_name() -> None:
    """Importing a module sets its name on the package; a public name may be that of its own module alone."""
    for stub in ROOT.glob("msplora_*/**/__init__.pyi"):
        for module, name in re.findall(r"^from \.(\S+) import \w+ as (\w+)$", stub.read_text(), flags=re.MULTILINE):
            taken = (stub.parent / f"{name}.py").is_file() or (stub.parent / name).is_dir()
            assert not taken or module == name, f"{stub.parent}: {name}"


def test_files_stay_small() -> None:
    long = {name: lines for name, path in modules().items() if (lines := len(path.read_text().splitlines())) > 300}
    assert long == {}

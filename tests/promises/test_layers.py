"""Imports point down: a room imports only from rooms below it, and there is no circle."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import seehear

SOURCE = Path(seehear.__file__).parent
ORDER = (
    "errors < config < presets < machine < data < method < models < runs < library evaluation "
    "< reporting < cli"
)
DEPTH = {room: depth for depth, rooms in enumerate(ORDER.split(" < ")) for room in rooms.split()}
# names of what is below, for users; nothing of ours imports them
FRONTS = {"__init__", "__main__", "kmeans"}

# What users call has keywords: names of the package, and what they lead to.
PUBLIC = {*seehear.__all__, "kmeans", "embed_to_file", "assign_to_file", "finetune"}
PUBLIC |= {"evaluate_finetune"}


def imported(path: Path) -> set[str]:
    """Rooms that a file imports from, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "seehear":
            found |= {alias.name for alias in node.names if alias.name in DEPTH}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("seehear."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("seehear.")}
    return found


def test_imports_point_down():
    wrong = []
    for path in sorted(SOURCE.rglob("*.py")):
        own = path.relative_to(SOURCE).with_suffix("").parts[0]
        if own in FRONTS:
            continue
        assert own in DEPTH, f"{path.name} is in no room: docs/architecture.md has the list"
        upwards = [room for room in imported(path) - {own} if DEPTH[room] >= DEPTH[own]]
        wrong += [
            f"{path.relative_to(SOURCE)} imports {room}, which is not below {own}"
            for room in upwards
        ]
    assert not wrong, "\n".join(wrong)


def test_every_room_says_what_it_answers_and_which_file_to_open():
    for room in DEPTH:
        if (SOURCE / room).is_dir():
            front = ast.get_docstring(
                ast.parse((SOURCE / room / "__init__.py").read_text(encoding="utf-8"))
            )
            assert front, room
            assert "?" in front.splitlines()[0], room


def test_the_method_knows_nothing_of_runs_libraries_or_pages():
    code = (
        "import sys, seehear.method.method; print(*{n.split('.')[1] for n in sys.modules if "
        "'seehear.' in n})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {"config", "data", "errors", "machine", "method"}


def functions() -> Iterator[tuple[str, ast.FunctionDef]]:
    """Every function with its place, such as "reporting/build.py report"."""
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                yield f"{path.relative_to(SOURCE)} {node.name}", node


def test_the_house_has_few_rooms():
    there = {path.name for path in SOURCE.iterdir()} - {"__pycache__", "py.typed"}
    assert {name.removesuffix(".py") for name in there} == {*DEPTH, *FRONTS}
    rooms = there - {"__init__.py", "__main__.py", "kmeans.py"}
    assert len(rooms) <= 13


def lines_of(node: ast.FunctionDef) -> int:
    """How long a function is; what users read of a public one, its docstring, does not count."""
    lines = node.end_lineno - node.lineno + 1
    if node.name in PUBLIC and ast.get_docstring(node):
        lines -= node.body[0].end_lineno - node.body[0].lineno + 1
    return lines


def test_functions_stay_short_and_take_few_arguments():
    lengths = {place: lines_of(node) for place, node in functions()}
    assert not {place: length for place, length in lengths.items() if length > 60}
    own = {
        place: len({arg.arg for arg in (*node.args.args, *node.args.kwonlyargs)} - {"self", "cls"})
        for place, node in functions()
    }
    many = {place for place, count in own.items() if count > 8}
    assert {place for place in many if place.split()[1] not in PUBLIC} == set()


def test_files_stay_short():
    lengths = {
        path: len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCE.rglob("*.py")
    }
    assert not {str(path): n for path, n in lengths.items() if n > 400}
    assert not list(SOURCE.rglob("utils.py"))


def test_the_source_stays_small():
    lines = sum(len(p.read_text(encoding="utf-8").splitlines()) for p in SOURCE.rglob("*.py"))
    assert lines <= 35_800  # 31,000 after a clean-up, and 4,800 of features since

"""The rooms: who may import whom, and which heavy package goes through which door.

Imports are read from the source, those inside of functions too; what stands under `TYPE_CHECKING`
is never executed and does not count.
"""

from __future__ import annotations

import ast
import functools
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = "insetgan_batch"
ROOT = Path(__file__).parents[1] / PACKAGE

# Rooms from the ground up. A module may import its own room and rooms below, never its neighbours.
LAYERS = (
    {"__init__", "errors", "text"},
    {"records", "boxes", "logs", "stopping", "metrics_server", "validation", "yaml_file"},
    {"method"},
    {"names"},
    {"config"},
    {"nets", "data", "people"},
    {"training"},
    {"methods"},
    {"demo", "report", "telemetry"},
    {"runtime"},
    {"screen"},
    {"cli"},
    {"__main__"},
)
# Beyond the order: these stay usable without a run, a page or a terminal.
PLAIN = {"nets", "data", "people", "training", "methods"}
ABOVE_PLAIN = {"runtime", "report", "cli"}

# Which modules may import a package; a name ending in a slash stands for a room.
DOORS = {
    "ray": {
        "runtime/actor_pool.py",
        "runtime/cluster.py",
        "runtime/pack.py",
        "runtime/ray_start.py",
        "runtime/spot.py",
        "runtime/submit.py",
    },
    "boto3": {"data/s3.py"},
    "botocore": {"data/s3.py"},
    "s3transfer": {"data/s3.py"},
    "pyarrow": {"data/"},
    "triton": {
        "nets/fused/colours.py",
        "nets/fused/features.py",
        "nets/fused/lpips.py",
        "nets/fused/tiles.py",
    },
    "torch": {
        "nets/",
        "methods/",
        "demo/",
        "people/body.py",
        "people/pictures.py",
        "training/",
        "runtime/worker.py",
        "runtime/fitting.py",
    },
    "torchvision": {"nets/"},
    "lpips": {"nets/perceptual.py"},
    "facenet_pytorch": {"nets/detector.py", "nets/identity.py"},
    "anny": {"people/body.py"},
    "prometheus_client": {"metrics_server.py", "telemetry.py"},
    "typer": {"cli/"},
    "jinja2": {"report.py", "report/"},
}


def sources() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def module_name(path: Path) -> str:
    """`insetgan_batch.nets.detector`; a package goes by its own name."""
    parts = [PACKAGE, *path.relative_to(ROOT).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    parts = module.split(".")
    if module == f"{PACKAGE}.methods.names":  # what finds a method, for all that know none
        return "names"
    return parts[1] if len(parts) > 1 else "__init__"


@functools.cache
def known_modules() -> frozenset[str]:
    return frozenset(module_name(path) for path in sources())


def executed(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that only a type checker sees."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from executed(child)


@functools.cache
def imports_of(path: Path) -> frozenset[str]:
    """Full names of the modules that a file imports."""
    found: set[str] = set()
    for node in executed(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}:{node.lineno}: relative import"
            base = node.module or ""
            names = {f"{base}.{alias.name}" for alias in node.names}
            submodules = names & known_modules()
            found |= submodules or {base}
    return frozenset(found)


def own_imports(path: Path) -> set[str]:
    return {name for name in imports_of(path) if name.split(".")[0] == PACKAGE}


def layer_of(module: str) -> int:
    room = room_of(module)
    return next(i for i, rooms in enumerate(LAYERS) if room in rooms)


# One run system, many methods

# What belongs to methods, and to what they share: networks, and the people that the demo's learnt.
OF_METHODS = ("methods/", "nets/", "people/", "demo/", "cli/insetgan/")
OF_INSETGAN = {"canvas", "inset", "insets", "face", "seam", "shoes", "recipe", "psi"}


def general_modules() -> list[Path]:
    """What a run is made of."""
    found = {str(path.relative_to(ROOT)): path for path in sources()}
    assert all(any(name.startswith(room) for name in found) for room in OF_METHODS)
    return [path for name, path in found.items() if not name.startswith(OF_METHODS)]


def test_what_a_run_is_made_of_imports_no_method_but_by_its_name() -> None:
    wrong = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in general_modules()
        for name in own_imports(path)
        if room_of(name) == "methods"
    }
    assert wrong == set()


def test_what_a_run_is_made_of_has_no_word_of_insetgan_in_its_code() -> None:
    wrong = {
        f"{path.relative_to(ROOT)}: {word}"
        for path in general_modules()
        for word in words_of(path.read_text())
        if word in OF_INSETGAN
    }
    assert wrong == set()


def test_what_the_page_is_drawn_by_has_no_word_of_insetgan() -> None:
    """But for an element of HTML and a property of CSS."""
    of_browsers = r'make\("canvas"|(?m:^|(?<= ))canvas \{|\binset: 0'
    for name in ("page.html.jinja", "script.js", "style.css"):
        text = re.sub(of_browsers, "", (ROOT / "report" / name).read_text())
        assert plain_words(text) & OF_INSETGAN == set(), name


def words_of(text: str) -> set[str]:
    """The words of names and of texts; not those of docstrings and comments."""
    tree = ast.parse(text)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    found = []
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.arg(arg=name) | ast.Attribute(attr=name):
                found.append(name)
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.keyword(arg=str(name)):
                found.append(name)
            case ast.Constant(value=str(said)) if id(node) not in docstrings:
                found.append(said)
    return plain_words(" ".join(found))


def plain_words(text: str) -> set[str]:
    """In lower case, names taken apart; the package's own name is none."""
    others = re.sub("insetgan", "", text, flags=re.IGNORECASE)
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", others)
    return set(re.findall(r"[a-z]+", spaced.lower().replace("_", " ")))


# Heavy packages


@pytest.mark.parametrize("package", sorted(DOORS))
def test_a_heavy_package_is_imported_only_behind_its_doors(package: str) -> None:
    users = {
        str(path.relative_to(ROOT))
        for path in sources()
        if any(name.split(".")[0] == package for name in imports_of(path))
    }
    doors = DOORS[package]
    through_walls = {u for u in users if u not in doors and f"{u.split('/')[0]}/" not in doors}
    assert through_walls == set()


# Rooms


def test_every_room_has_its_layer() -> None:
    rooms = {room_of(module) for module in known_modules()}
    assert rooms <= set().union(*LAYERS)


def test_lower_layers_do_not_import_upper_ones_nor_neighbours() -> None:
    wrong = [
        f"{module_name(path)} imports {name}"
        for path in sources()
        for name in own_imports(path)
        if room_of(name) != room_of(module_name(path))
        and layer_of(name) >= layer_of(module_name(path))
    ]
    assert wrong == []


def test_the_method_knows_nothing_of_runs_pages_and_terminals() -> None:
    wrong = [
        f"{module_name(path)} imports {name}"
        for path in sources()
        if room_of(module_name(path)) in PLAIN
        for name in own_imports(path)
        if room_of(name) in ABOVE_PLAIN
    ]
    assert wrong == []


def test_no_module_imports_itself_by_a_detour() -> None:
    graph = {module_name(path): own_imports(path) for path in sources()}
    finished: set[str] = set()

    def walk(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join((*way, module))
        if module in finished:
            return
        for name in graph[module]:
            walk(name, (*way, module))
        finished.add(module)

    for module in graph:
        walk(module, ())


def test_packages_hold_a_docstring_and_no_imports() -> None:
    """Else importing one module of a room would import all of them."""
    for path in sources():
        if path.name == "__init__.py":
            assert imports_of(path) == frozenset()
            assert ast.get_docstring(ast.parse(path.read_text()))


def test_the_walk_sees_imports_inside_of_functions_and_not_those_for_types(
    tmp_path: Path,
) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        "if TYPE_CHECKING:\n    import ray\n"
        "def f():\n    from insetgan_batch.nets import detector\n    import boto3.session\n"
        "from insetgan_batch.boxes import Box\n"
    )
    assert imports_of(path) == {
        "insetgan_batch.nets.detector",
        "boto3.session",
        "insetgan_batch.boxes",
    }


# The command line starts quickly


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=True, timeout=600
    )


@pytest.mark.parametrize(
    "module",
    ["insetgan_batch.cli.insetgan.jobs", "insetgan_batch.config", "insetgan_batch.data.models"],
)
def test_importing_it_imports_nothing_heavy(module: str) -> None:
    heavy = {"torch", "torchvision", "ray", "pyarrow", "boto3", "lpips", "facenet_pytorch"}
    code = f"import sys, {module}; print(*sys.modules)"
    loaded = {name.split(".")[0] for name in run_python("-c", code).stdout.split()}
    assert loaded & heavy == set()
    assert PACKAGE in loaded


def test_help_takes_less_than_a_second() -> None:
    """Of processor time, the best of three runs: the machine may have other work."""

    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = run_python("-c", "from insetgan_batch.cli.main import main; main()", "--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert "Usage" in done.stdout
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert any(seconds() < 1 for _ in range(3))

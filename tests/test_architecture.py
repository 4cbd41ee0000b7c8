"""Imports point one way, and no project file names what it must not."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "paddlefcn"


def _module(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_module(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def _imports(path: Path, *, run_time_only: bool = False) -> set[str]:
    """The project's modules that a file imports, anywhere in it (not under TYPE_CHECKING, on request)."""
    tree = ast.parse(path.read_text("utf-8"))
    skipped: set[int] = set()
    if run_time_only:
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                skipped |= {id(child) for child in ast.walk(node)}
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in inner}
    return {name for name in found if name.split(".")[0] == "paddlefcn"}


def _under(name: str, *rooms: str) -> bool:
    return any(name == f"paddlefcn.{room}" or name.startswith(f"paddlefcn.{room}.") for room in rooms)


# what runs an export needs neither the model nor what trained it
PREDICTOR = (
    "predictor",
    "deploy.predictor",
    "deploy.engines",
    "deploy.deployment",
    "deploy.outputs",
    "preprocess",
)
# the calls from Python that stand above `build`: recipe and weights in, result out
CALLS = ("training", "evaluation", "trained", "deploy.export", "deploy.predict")
FORBIDDEN = [
    (("models", "backbones", "layers", "losses", "metrics"), ("data", "engine", "config")),
    (("engine",), ("models", "backbones")),
    (
        ("borders", "refine", "scoring"),
        ("models", "backbones", "layers", "losses", "engine", "optim", "weights"),
    ),
    (PREDICTOR, ("models", "backbones", "layers", "losses", "engine", "optim", "weights", "config", "build")),
    (("data",), ("models", "backbones", "engine", "weights", "config")),
]


# what puts built objects to use: the commands, and the functions that they and notebooks call
ABOVE_BUILD = (
    "build",
    "commands",
    "__main__",
    "training",
    "evaluation",
    "trained",
    "tuning",
    "deploy.predict",
    "deploy.export",
)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_imports_point_one_way(name):
    imports = _imports(MODULES[name], run_time_only=True)
    for rooms, others in FORBIDDEN:
        if _under(name, *rooms):
            assert not [other for other in imports if _under(other, *others)]
    if not _under(name, "commands", "__main__"):
        assert not [other for other in imports if _under(other, "commands")]
    if not _under(name, *ABOVE_BUILD):
        assert not [other for other in imports if _under(other, "build")]
    if _under(name, "deploy.predictor", "deploy.engines", "deploy.deployment", "preprocess"):
        assert {other for other in imports if _under(other, "data")} <= {"paddlefcn.data.images"}


@pytest.mark.parametrize("name", [name for name in sorted(MODULES) if _under(name, "data", "config")])
def test_data_and_config_import_no_paddle(name):
    text = MODULES[name].read_text("utf-8")
    imported = [node for node in ast.walk(ast.parse(text)) if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert not [node for node in imported if "import paddle\n" in ast.unparse(node) + "\n"]
    assert "from paddle " not in text


def test_there_is_no_circle():
    graph = {name: _imports(path, run_time_only=True) - {name} for name, path in MODULES.items()}
    state: dict[str, int] = {}

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert state.get(name) != 1, f"import circle: {' -> '.join((*trail, name))}"
        if name not in state:
            state[name] = 1
            for other in graph.get(name, ()):
                visit(other, (*trail, name))
            state[name] = 2

    for name in graph:
        visit(name, ())


HELP = """
import sys
from paddlefcn.commands import main
try:
    main({arguments!r})
except SystemExit as end:
    assert end.code in (0, None), end.code
heavy = [name for name in ("paddle", "numpy", "cv2", "matplotlib", "visualdl") if name in sys.modules]
assert not heavy, heavy
"""


def _commands() -> list[str]:
    from paddlefcn.commands import NAMES

    return list(NAMES)


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in _commands())], ids=" ".join)
def test_help_answers_without_importing_anything_heavy(arguments):
    script = HELP.format(arguments=arguments)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=PACKAGE.parent)
    assert done.returncode == 0, done.stderr
    assert "usage: paddlefcn" in done.stdout


@pytest.mark.parametrize("name", _commands())
def test_every_command_has_its_tool(name):
    tool = PACKAGE.parent / "tools" / f"{name}.py"
    assert f'"{name.replace("_", "-")}"' in tool.read_text("utf-8")


def test_an_unknown_command_is_named_with_the_nearest(capsys):
    from paddlefcn.commands import main

    assert main(["import_weigths"]) == 2
    assert (
        capsys.readouterr().err.strip().endswith("did you mean import-weights? (paddlefcn --help lists them)")
    )

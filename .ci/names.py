"""Check that the tree's names and texts are those of its vocabulary, and print the figures.

Exits with 1 if a limit is passed. The words in ``banned.txt`` may not be the name of a class,
function, parameter or annotated field; the phrases there may not occur in the code, its messages
or the documentation.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMITS = {
    "classes that share a name": 15,
    "one-word class names, %": 45,
    "files that share a name": 20,
    "calls with six or more positional arguments": 3,
    "banned names": 0,
    "banned phrases": 0,
}
_TEXTS = (".py", ".sh", ".yml", ".md", ".toml", ".j2")
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z][a-z0-9]*")


def main() -> int:
    """Print each figure with its limit and what counts towards it, and return the exit status."""
    words, phrases = read_banned(ROOT / ".ci" / "banned.txt")
    sources = {path: path.read_text("utf-8") for path in python_files()}
    trees = {path: ast.parse(text) for path, text in sources.items()}
    classes = [(node.name, path) for path, tree in trees.items() for node in class_nodes(tree)]
    found = {
        "classes that share a name": shared_names(classes),
        "one-word class names, %": one_word_names(classes),
        "files that share a name": shared_files(list(trees)),
        "calls with six or more positional arguments": list(long_calls(trees)),
        "banned names": list(banned_names(trees, words)),
        "banned phrases": list(banned_phrases(phrases)),
    }
    failed = False
    for figure, limit in LIMITS.items():
        count = len(found[figure])
        if "%" in figure:
            count = round(100 * count / max(1, len(classes)))
        print(f"{figure}: {count} (at most {limit})")
        if count > limit or "-v" in sys.argv:
            failed = failed or count > limit
            print("".join(f"  {line}\n" for line in found[figure]), end="")
    return int(failed)


def read_banned(path: Path) -> tuple[frozenset[str], tuple[str, ...]]:
    """Return the words and the phrases of the list: lines of one word, and lines of several."""
    lines = [line.strip() for line in path.read_text("utf-8").splitlines()]
    names, _, texts = "\n".join(line for line in lines if line[:1] != "#").partition("\n\n")
    return frozenset(names.split()), tuple(texts.strip().splitlines())


def python_files() -> list[Path]:
    """Return the Python files of the package and the tests, without build output."""
    return sorted(path for top in ("orchestrator", "tests") for path in (ROOT / top).rglob("*.py"))


def class_nodes(tree: ast.AST) -> Iterator[ast.ClassDef]:
    """Return every class of a module, nested ones included."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))


def shared_names(classes: list[tuple[str, Path]]) -> list[str]:
    """Return the classes whose name, without leading underscores, another class has too."""
    counts = Counter(name.lstrip("_") for name, _ in classes)
    return sorted(
        f"{name} in {show(path)}" for name, path in classes if counts[name.lstrip("_")] > 1
    )


def one_word_names(classes: list[tuple[str, Path]]) -> list[str]:
    """Return the classes whose name is a single word."""
    return sorted(
        f"{name} in {show(path)}" for name, path in classes if len(_WORD.findall(name)) <= 1
    )


def shared_files(paths: list[Path]) -> list[str]:
    """Return the files whose name another one has too, but for ``__init__`` and ``__main__``."""
    names = Counter(path.name for path in paths)
    return sorted(
        show(path) for path in paths if names[path.name] > 1 and not path.name.startswith("__")
    )


def long_calls(trees: dict[Path, ast.Module]) -> Iterator[str]:
    """Return the package's calls with six or more positional arguments."""
    for path, tree in trees.items():
        if path.is_relative_to(ROOT / "tests"):  # a command line, word by word, is one
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and len(node.args) >= 6:
                yield f"{show(path)}:{node.lineno}"


def banned_names(trees: dict[Path, ast.Module], words: frozenset[str]) -> Iterator[str]:
    """Return the classes, functions, parameters and annotated fields with a banned name."""
    for path, tree in trees.items():
        for node in ast.walk(tree):
            match node:
                case (
                    ast.ClassDef(name=name, lineno=line)
                    | ast.FunctionDef(name=name, lineno=line)
                    | ast.AsyncFunctionDef(name=name, lineno=line)
                    | ast.arg(arg=name, lineno=line)
                    | ast.AnnAssign(target=ast.Name(id=name), lineno=line)
                ) if name.strip("_").lower() in words:
                    yield f"{show(path)}:{line}: {name}"


def banned_phrases(phrases: tuple[str, ...]) -> Iterator[str]:
    """Return the lines of code, messages and documentation that hold a banned phrase."""
    pattern = re.compile(rf"\b(?:{'|'.join(map(re.escape, phrases))})\b", re.IGNORECASE)
    tops = (
        "orchestrator",
        "tests",
        "tasks",
        "inventories",
        "docs",
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
    )
    for top in (ROOT / name for name in tops):
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if path.suffix in _TEXTS and path.is_file():
                text = path.read_text("utf-8", "surrogateescape")
                for number, line in enumerate(text.splitlines(), 1):
                    if match := pattern.search(line):
                        yield f"{show(path)}:{number}: {match[0]}"


def show(path: Path) -> str:
    """Return the path as seen from the top of the tree."""
    return str(path.relative_to(ROOT))


if __name__ == "__main__":
    sys.exit(main())

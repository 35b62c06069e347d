"""A user's script and the files of its own that it imports: what a rule must watch, because Python tells nobody."""

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path


def with_imports(script: Path, directory: Path = Path()) -> list[Path]:
    """
    List *script* and every module that it imports, directly or not, from beside it or from below *directory*.

    What is installed is not among them. A file that cannot be read or parsed is listed and imports nothing: the
    script itself will say what is wrong with it.

    Args:
        script: The script; its folder comes first where Python looks for modules.
        directory: The working directory, where Python looks next.

    Returns:
        Paths, *script* first, the others sorted.
    """
    roots = (script.parent, directory)
    waiting, found = [script], set[Path]()
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting += _imported_by(file, roots)
    return [script, *sorted(found - {script})]


def _imported_by(file: Path, roots: Iterable[Path]) -> Iterator[Path]:
    try:
        tree = ast.parse(file.read_bytes(), filename=str(file))
    except (OSError, SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _modules(roots, alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            # `from . import x` starts at the file's own folder, one more dot at the folder above it.
            bases = (file.parents[node.level - 1],) if 0 < node.level <= len(file.parents) else roots
            module = node.module.split(".") if node.module else []
            for alias in node.names:
                yield from _modules(bases, [*module, alias.name])


def _modules(roots: Iterable[Path], parts: list[str]) -> Iterator[Path]:
    """Find the files of module a.b.c: those of the packages around it, too. The last part may be a mere name in b."""
    for root in roots:
        here = [
            path
            for length in range(1, len(parts) + 1)
            for stem in (root.joinpath(*parts[:length]),)
            for path in (stem / "__init__.py", stem.with_name(f"{stem.name}.py"))
            if path.is_file()
        ]
        if here:
            yield from here
            return

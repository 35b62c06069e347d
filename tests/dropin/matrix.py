"""
The matrix of docs/drop-in.md: each line of behaviours.yaml, and the tests that show it.

`python tests/dropin/matrix.py` writes the page, `--check` says whether it is true. Tests are found by reading their files, not
by running them: a mark `@pytest.mark.behaviour("id", …)` on a test function, anywhere below tests/.
"""

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

HERE = Path(__file__).parent
TESTS = HERE.parent
PAGE = TESTS.parent / "docs" / "drop-in.md"
MARKS = ("must", "should", "accept")

HEAD = """\
# Drop-in matrix

What clients, scripts and operators can see of `tensorflow_model_server`, and the tests that show it of `slipway-server`. The lines
are read from TensorFlow Serving 2.20; numbers are those of the sections they are gathered in. Marks: **must**: a client or TF Serving's
own suite depends on it; **should**: visible, cheap, expected by operators; **accept**: the flag is taken, ignoring it is enough.

This page is written by `python tests/dropin/matrix.py` from `tests/dropin/behaviours.yaml` and the marks of the tests; a test keeps
it true, and fails for a line marked *must* that no test shows. The tests start real servers and talk to them with
`tensorflow-serving-api`, curl, httpx and plain grpcio: `python -m pytest tests/dropin`.
"""


@dataclass(frozen=True)
class Behaviour:
    """One line of the contract."""

    section: str
    id: str
    mark: str
    text: str
    departs: str = ""
    not_yet: str = ""


def read_behaviours() -> list[Behaviour]:
    """Read behaviours.yaml."""
    sections = yaml.safe_load((HERE / "behaviours.yaml").read_text())
    found = []
    for section, entries in sections.items():
        for key, entry in entries.items():
            (mark,) = set(entry) & set(MARKS)
            rest = {name: text for name, text in entry.items() if name != mark}
            found.append(Behaviour(section, key, mark, entry[mark], **rest))
    return found


def shown_by() -> Mapping[str, Sequence[tuple[str, str]]]:
    """Give id -> (file below tests/, test function), sorted."""
    found: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for path in TESTS.rglob("test_*.py"):
        text = path.read_text()
        if "mark.behaviour" not in text:
            continue
        for function in ast.walk(ast.parse(text)):
            if isinstance(function, ast.FunctionDef) and function.name.startswith("test_"):
                for key in _ids(function.decorator_list):
                    found[key].add((path.relative_to(TESTS).as_posix(), function.name))
    return {key: sorted(tests) for key, tests in found.items()}


def _ids(decorators: Sequence[ast.expr]) -> Iterator[str]:
    for decorator in decorators:
        for node in ast.walk(decorator):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "behaviour":
                yield from (argument.value for argument in node.args if isinstance(argument, ast.Constant))


def page() -> str:
    """Make the page."""
    behaviours, tests = read_behaviours(), shown_by()
    lines = [HEAD, *_summary(behaviours, tests)]
    section = None
    for one in behaviours:
        if one.section != section:
            section = one.section
            lines += ["", f"## {section}", "", "| id | mark | behaviour | shown by |", "|---|---|---|---|"]
        text = one.text
        if one.departs:
            text += f" **Here:** {one.departs}"
        if one.not_yet:
            text += f" **Not yet:** {one.not_yet}"
        links = [f"[{name.removeprefix('test_')}](../tests/{path})" for path, name in tests.get(one.id, ())]
        cells = (one.id, one.mark, text, "<br>".join(links) or "—")
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([*lines, ""])


def _summary(behaviours: Sequence[Behaviour], tests: Mapping[str, object]) -> list[str]:
    lines = ["| mark | lines | shown by a test | depart on purpose |", "|---|---|---|---|"]
    for mark in MARKS:
        of_mark = [one for one in behaviours if one.mark == mark]
        shown = sum(one.id in tests for one in of_mark)
        lines.append(f"| {mark} | {len(of_mark)} | {shown} | {sum(bool(one.departs) for one in of_mark)} |")
    unshown = [one for one in behaviours if one.id not in tests]
    if unshown:
        lines += ["", "Open, because no test shows it:", ""]
        lines += [f"- {one.id} ({one.mark}): {one.not_yet or 'nobody has looked'}" for one in unshown]
    return lines


def main() -> int:
    """Write the page, or check it."""
    if sys.argv[1:] != ["--check"]:
        PAGE.write_text(page())
        return 0
    if PAGE.read_text() != page():
        sys.stderr.write("docs/drop-in.md is out of date; run: python tests/dropin/matrix.py\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

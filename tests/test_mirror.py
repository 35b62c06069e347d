"""Every module has a test file of its own, where a reader looks for it."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "workflow_src/slipway": "tests/workflow",
    "server/slipway_server": "tests/server",
    "server/slipway_wire": "tests/wire",
    "loadtests/slipway_loadtests": "tests/loadtests",
}
# Modules whose behaviour is shown elsewhere -> where.
SHOWN_ELSEWHERE = {
    # Interfaces and records, without behaviour of their own.
    "server/slipway_server/servables/loader.py": "tests/server/servables/test_manager.py",
    "workflow_src/slipway/models/model.py": "tests/workflow/models/test_sources.py",
    "workflow_src/slipway/contract/sections.py": "tests/workflow/contract/test_whole.py",
    # What rules are made of, and the rules of tensors: shown by the changes that they judge.
    "workflow_src/slipway/contract/change.py": "tests/workflow/contract/test_changes.py",
    "workflow_src/slipway/contract/changed_tensors.py": "tests/workflow/contract/test_changes.py",
    # Signatures and sources as a whole: every recipe is exported, served and held against its source.
    "workflow_src/slipway/graphs/reading.py": "tests/end_to_end/test_recipes.py",
    "workflow_src/slipway/graphs/signing.py": "tests/end_to_end/test_recipes.py",
    "workflow_src/slipway/models/builders.py": "tests/workflow/models/test_sources.py",
    "workflow_src/slipway/models/graph_model.py": "tests/end_to_end/test_recipes.py",
    "workflow_src/slipway/models/graph_session.py": "tests/end_to_end/test_recipes.py",
    "workflow_src/slipway/models/graph_sources.py": "tests/end_to_end/test_recipes.py",
    "workflow_src/slipway/models/resigned.py": "tests/end_to_end/test_recipes.py",
    "workflow_src/slipway/models/tables.py": "tests/workflow/models/test_receivers.py",
    # Every kind of scenario on a real server, through the stage.
    "workflow_src/slipway/scenarios/bench.py": "tests/workflow/scenarios/test_taking.py",
    "workflow_src/slipway/scenarios/pairs.py": "tests/workflow/scenarios/test_taking.py",
    "workflow_src/slipway/errors.py": "tests/workflow/test_cli.py",
    "workflow_src/slipway/__main__.py": "tests/workflow/test_cli.py",
    # Locust patches the standard library of the process that imports it: what uses it is shown from outside.
    "loadtests/slipway_loadtests/dispatching.py": "tests/loadtests/test_by_hand.py",
    "loadtests/slipway_loadtests/distributed.py": "tests/loadtests/test_by_hand.py",
    "loadtests/slipway_loadtests/grpc_user.py": "tests/loadtests/test_main.py",
    "loadtests/slipway_loadtests/library_grpc.py": "tests/loadtests/test_main.py",
    "loadtests/slipway_loadtests/library_rest.py": "tests/loadtests/test_main.py",
    "loadtests/slipway_loadtests/rest_user.py": "tests/loadtests/test_main.py",
    "loadtests/slipway_loadtests/runner.py": "tests/loadtests/test_main.py",
    "loadtests/slipway_loadtests/session.py": "tests/loadtests/test_main.py",
    "loadtests/slipway_loadtests/sessions.py": "tests/loadtests/test_main.py",
    "loadtests/slipway_loadtests/users.py": "tests/loadtests/test_main.py",
}


def modules() -> list[tuple[str, str]]:
    found = []
    for source, tests in PACKAGES.items():
        for path in sorted((ROOT / source).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if path.name != "__init__.py" and name not in SHOWN_ELSEWHERE:
                mirrored = Path(tests, path.relative_to(ROOT / source)).with_name(f"test_{path.stem.strip('_')}.py")
                found.append((name, mirrored.as_posix()))
    return found


@pytest.mark.parametrize(("module", "test"), modules())
def test_a_module_has_its_test_file(module, test):
    assert (ROOT / test).is_file(), f"{module} has no {test}; write it, or say in SHOWN_ELSEWHERE where it is shown"


@pytest.mark.parametrize(("module", "test"), SHOWN_ELSEWHERE.items())
def test_exceptions_are_true(module, test):
    assert (ROOT / module).is_file()
    assert (ROOT / test).is_file()

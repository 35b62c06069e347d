from pathlib import Path

import pytest

from slipway.scripts import with_imports


@pytest.fixture
def project(tmp_path):
    """Write files of a project by name -> text, and tell what a script of it stands on, relative to the project."""

    def make(**written):
        for name, text in written.items():
            path = tmp_path / name.replace("__", "/").replace("DUNDER", "__")
            path = path.with_name(f"{path.name}.py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

        def told(script="recipe/train.py"):
            return [path.relative_to(tmp_path).as_posix() for path in with_imports(tmp_path / script, tmp_path)]

        return told

    return make


def test_a_script_that_imports_what_is_installed_stands_alone(project):
    told = project(recipe__train="import json, numpy as np\nfrom os import path\n")

    assert told() == ["recipe/train.py"]


def test_modules_beside_it_count_and_what_they_import_too_wherever_the_import_stands(project):
    told = project(
        recipe__train="def main():\n    from network import build\n",
        recipe__network="import blocks\n",
        recipe__blocks="import network\n",
        recipe__unused="",
    )

    assert told() == ["recipe/train.py", "recipe/blocks.py", "recipe/network.py"]


def test_modules_below_the_working_directory_count_with_the_packages_around_them(project):
    told = project(
        recipe__train="from shared.layers import crf\nimport shared.data\n",
        shared__DUNDERinitDUNDER="",
        shared__layers__DUNDERinitDUNDER="from . import dense\nfrom ..sizes import WIDTH\n",
        shared__layers__crf="",
        shared__layers__dense="",
        shared__data="",
        shared__sizes="",
    )

    assert told() == [
        "recipe/train.py",
        "shared/__init__.py",
        "shared/data.py",
        "shared/layers/__init__.py",
        "shared/layers/crf.py",
        "shared/layers/dense.py",
        "shared/sizes.py",
    ]


def test_a_module_beside_the_script_hides_one_in_the_working_directory(project):
    told = project(recipe__train="import network\n", recipe__network="", network="")

    assert told() == ["recipe/train.py", "recipe/network.py"]


@pytest.mark.parametrize("text", ["def broken(:\n", "\0", "from ....... import above\n"])
def test_what_cannot_be_parsed_is_the_scripts_own_to_tell(project, text):
    assert project(recipe__train=text)() == ["recipe/train.py"]


def test_a_missing_script_is_listed_for_whoever_looks_for_it():
    assert with_imports(Path("nowhere/train.py")) == [Path("nowhere/train.py")]

"""Write a contract from a model, check one, or say what a new one breaks for those who call by the old one."""

import argparse
import sys
from pathlib import Path

import yaml

from slipway import contract_draft, files
from slipway.checks.structure import check_structure
from slipway.contract import Contract, read_contract
from slipway.contract.changes import breaking, changes
from slipway.errors import ContractViolation, SettingsError
from slipway.inspect import find_models


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's actions."""
    actions = parser.add_subparsers(dest="action", metavar="action", required=True)
    init = actions.add_parser("init", help="write a contract from a model's file")
    init.add_argument(
        "model", type=Path, metavar="MODEL", help="a SavedModel, a base path, .keras, .h5, a frozen .pb, or a TF1 .meta"
    )
    init.add_argument(
        "--out", type=Path, metavar="FILE", help="write it here, where nothing is yet; else it is printed"
    )
    check = actions.add_parser("check", help="read contracts and say every fault")
    check.add_argument("contract", type=Path, nargs="+", metavar="FILE")
    check.add_argument("--model", type=Path, metavar="DIR", help="hold a SavedModel's file against it; nothing is run")
    diff = actions.add_parser("diff", help="compare two contracts; exit 1 if the new one breaks a caller")
    diff.add_argument("old", type=Path, metavar="OLD")
    diff.add_argument("new", type=Path, metavar="NEW")


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked for, and give the exit code."""
    match arguments.action:
        case "init":
            return _init(arguments.model, arguments.out)
        case "check":
            return _check(arguments.contract, arguments.model)
        case _:
            return _diff(arguments.old, arguments.new)


def _init(model: Path, out: Path | None) -> int:
    if out is not None and out.exists():
        raise SettingsError(
            f"{out}: is there already, and what somebody wrote is not written over. Name another --out."
        )
    from slipway import contract_sources  # noqa: PLC0415 - what it reads may need TensorFlow

    text = contract_draft.write(contract_sources.read(model))
    contract = Contract.model_validate(yaml.safe_load(text))
    if out is None:
        sys.stdout.write(text)
        return 0
    files.write_text(out, text)
    sys.stderr.write(f"{out}: {_told(contract)}; look for `fill in`\n")
    return 0


def _check(paths: list[Path], model: Path | None) -> int:
    for path in paths:
        contract = read_contract(path)
        if model is not None:
            directory = find_models(model)[-1]
            failed = [check for check in check_structure(contract, directory) if not check.ok]
            if failed:
                raise ContractViolation("\n".join(f"{directory}: {check.line()}" for check in failed))
        sys.stdout.write(f"{path}: {_told(contract)}{f'; {model} has their structure' if model else ''}\n")
    return 0


def _diff(old: Path, new: Path) -> int:
    found = changes(read_contract(old, known=True), read_contract(new, known=True))
    for change in found:
        sys.stdout.write(f"{change.line()}\n")
    broken = len(breaking(found))
    if not found:
        sys.stdout.write("no difference\n")
    return 1 if broken else 0


def _told(contract: Contract) -> str:
    names = ", ".join(f"{name} ({signature.method})" for name, signature in contract.signatures.items())
    return f"{len(contract.signatures)} signature{'s' if len(contract.signatures) > 1 else ''}: {names}"

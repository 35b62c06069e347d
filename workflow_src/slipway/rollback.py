"""
Go back to an older version, or forward again: what requests that name no version are answered by, or what a label means.

The config is edited and keeps a log of it; --model-config-file and --target bring it to a running server at once, which
loads the version before it lets go of the other. The way back is `--to` the newer one.
"""

import argparse
import contextlib
import datetime as dt
import getpass
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway import config_file, model_config, repository
from slipway.add_version import CONFIG
from slipway.config_file import Config
from slipway.errors import SettingsError
from slipway.serving_settings import LABEL, Rollback, ServingSettings, labelled, restored, rolled_back


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what goes back, why, and where."""
    parser.add_argument("model", help="name of the model")
    parser.add_argument("--to", type=int, metavar="N", help="version that is to answer (default: the one before)")
    parser.add_argument("--label", metavar="NAME", help="move this label only; unnamed requests stay as they are")
    parser.add_argument("--reason", required=True, help="why, for the log")
    parser.add_argument("--by", metavar="WHO", help="who, for the log (default: the user)")
    parser.add_argument("--config", type=Path, default=CONFIG, metavar="FILE", help="the config (default: %(default)s)")
    live = parser.add_argument_group("a running server, any with TensorFlow Serving's interface")
    live.add_argument(
        "--model-config-file",
        type=Path,
        metavar="FILE",
        help="its ModelServerConfig, to be edited; a server that polls it follows. Without a config, this alone is edited",
    )
    live.add_argument("--target", metavar="HOST:PORT", help="its gRPC address, to be told at once")
    live.add_argument(
        "--base-path",
        metavar="DIR",
        help="with --target and no --model-config-file: where the server has the model, which is all that it serves "
        "(an image of the line: /models/MODEL)",
    )
    live.add_argument("--timeout", type=float, default=300.0, metavar="SECONDS", help="for the server (%(default)g)")


@dataclass(frozen=True, slots=True)
class Change:
    """
    What a rollback comes to.

    Attributes:
        source: Version that answered until now.
        to: Version that is to answer.
        was: How the model was served.
        now: How it is to be served.
        versions: All versions that there are.
    """

    source: int
    to: int
    was: ServingSettings
    now: ServingSettings
    versions: tuple[int, ...]


def run(arguments: argparse.Namespace) -> None:
    """Edit the config, if there is one, then tell the server, if one is named."""
    server_config = _server_config(arguments)
    has_config = arguments.config.exists() or arguments.config != CONFIG or server_config is None
    if has_config:
        with config_file.locked(arguments.config):
            config = config_file.read(arguments.config)
            change = plan_config(config, arguments.model, arguments.to, arguments.label)
            if change.now != change.was:
                by = arguments.by or getpass.getuser()
                config_file.write(config, logged(config, arguments, change, by, dt.datetime.now(dt.UTC)).text)
    else:
        change = _plan_server(arguments, server_config)
    subject = f"label {arguments.label} of {arguments.model}" if arguments.label else arguments.model
    if change.now == change.was:
        _say(f"{subject}: version {change.to} answers already")
    elif has_config:
        _say(f"{arguments.config}: {subject}: version {change.to} instead of {change.source}; logged in `rollbacks`")
    if server_config is not None:
        _apply(arguments, server_config, change)
    if has_config:
        _say("The image follows with the next `snakemake --cores all`.")
    _say(f"The way back: slipway rollback {arguments.model} --to {change.source}{_label(arguments)} --reason …")


def _label(arguments: argparse.Namespace) -> str:
    return f" --label {arguments.label}" if arguments.label else ""


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


# --- deciding --------------------------------------------------------------------------------------


def plan(
    model: str,
    serving: ServingSettings,
    versions: Iterable[int],
    *,
    to: int | None,
    label: str | None,
    log: Sequence[Rollback] = (),
) -> Change:
    """
    Decide what is served after the rollback.

    Args:
        model: Its name, for errors.
        serving: How it is served.
        versions: All versions that could be.
        to: The version that is to answer; None: the newest below the present one.
        label: Which label to move; None: what unnamed requests get.
        log: Earlier rollbacks of this model, oldest first.

    Raises:
        SettingsError: There is no such version, no older one, or no such label.
    """
    there = sorted(versions)
    known = ", ".join(map(str, there)) or "none"
    if label is not None and not re.fullmatch(LABEL, label):
        raise SettingsError(f"--label: expected letters, digits, _, . and -, got {label!r}")
    if not there:
        raise SettingsError(f"{model}: there is no version to go to.")
    if label is not None and label not in serving.labels and to is None:
        raise SettingsError(
            f"{model}: no label {label}; there are: {', '.join(serving.labels) or 'none'}. --to makes it."
        )
    served = serving.served(there) or there
    present = served[-1] if label is None else serving.labels.get(label, served[-1])
    if to is None:
        older = [version for version in there if version < present]
        if not older:
            raise SettingsError(
                f"{model}: version {present} answers now, and there is none before it; there are: {known}"
            )
        to = older[-1]
    if to not in there:
        raise SettingsError(f"--to: {model} has no version {to}; there are: {known}")
    if label is not None:
        return Change(present, to, serving, labelled(serving, there, label, to), tuple(there))
    if to == present:
        return Change(present, to, serving, serving, tuple(there))
    led_away = [entry for entry in log if entry.model == model and entry.label is None]
    now = restored(serving, there, to, led_away) or rolled_back(serving, there, to)
    return Change(present, to, serving, now, tuple(there))


def plan_config(config: Config, model: str, to: int | None, label: str | None) -> Change:
    """Decide for the *model* of a config; see `plan`."""
    known = config.settings.models.get(model)
    if known is None:
        there = ", ".join(sorted(config.settings.models))
        raise SettingsError(f"{config.path}: no model {model}; there are: {there}")
    return plan(model, known.serving, known.versions, to=to, label=label, log=config.settings.rollbacks)


def logged(config: Config, arguments: argparse.Namespace, change: Change, by: str, at: dt.datetime) -> Config:
    """Give *config* with *change* made and written into its log."""
    model = arguments.model
    entry = Rollback(
        model=model,
        label=arguments.label,
        **{"from": change.source},
        to=change.to,
        reason=arguments.reason,
        by=by,
        at=at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        was=change.was,
    )
    # Key by key: what else is said about serving, and how, stays.
    if change.now.policy != change.was.policy:
        policy = change.now.model_dump(mode="json")["policy"]
        config = config_file.set_value(config, ("models", model, "serving", "policy"), policy)
    for label, version in change.now.labels.items():
        if change.was.labels.get(label) != version:
            config = config_file.set_value(config, ("models", model, "serving", "labels", label), version)
    return config_file.append_value(
        config, "rollbacks", entry.model_dump(mode="json", by_alias=True, exclude_none=True)
    )


# --- a running server ------------------------------------------------------------------------------


def _server_config(arguments: argparse.Namespace) -> Any:
    """Give the server's present configuration; None if no server is meant."""
    if arguments.model_config_file is not None:
        if arguments.base_path is not None:
            raise SettingsError("--base-path: --model-config-file says it already; give one of them.")
        found = model_config.read(arguments.model_config_file)
        model_config.serving_of(found, arguments.model, str(arguments.model_config_file))
        return found
    if arguments.target is None:
        return None
    if arguments.base_path is None:
        raise SettingsError(
            "--target: a server is told the whole of what it serves. Give --model-config-file FILE, or for a server with "
            f"this model alone --base-path DIR (an image of the line: /models/{arguments.model})."
        )
    return model_config.of_one_model(arguments.model, arguments.base_path)


def _plan_server(arguments: argparse.Namespace, config: Any) -> Change:
    """Decide from the server's own configuration and the base path it names."""
    name = str(arguments.model_config_file or arguments.base_path)
    base_path = Path(model_config.base_path_of(config, arguments.model, name))
    there = repository.versions(base_path)
    if not there:
        raise SettingsError(f"{base_path}: no versions of {arguments.model} there to choose from.")
    serving = model_config.serving_of(config, arguments.model, name)
    return plan(arguments.model, serving, there, to=arguments.to, label=arguments.label)


def served_live(live: ServingSettings, change: Change, label: str | None) -> ServingSettings:
    """Make of what a server serves *live* what *change* asks for; labels that only the server knows stay, if they can."""
    if label is not None:
        return labelled(live, change.versions, label, change.to)
    served = change.now.served(change.versions)
    labels = {name: version if version in served else change.to for name, version in live.labels.items()}
    return ServingSettings(policy=change.now.policy, labels=labels | change.now.labels)


def _apply(arguments: argparse.Namespace, config: Any, change: Change) -> None:
    """Write the file that the server polls; tell the server; wait until it answers as it should."""
    name = str(arguments.model_config_file or arguments.base_path)
    with contextlib.ExitStack() as held:
        if arguments.model_config_file is not None:
            held.enter_context(config_file.locked(arguments.model_config_file))
            config = model_config.read(arguments.model_config_file)
        live = model_config.serving_of(config, arguments.model, name)
        new = model_config.with_serving(config, arguments.model, served_live(live, change, arguments.label), name)
        if arguments.model_config_file is not None:
            model_config.write(arguments.model_config_file, new)
            _say(f"{arguments.model_config_file}: written; a server that polls it follows")
    if arguments.target is None:
        return
    model_config.reload(arguments.target, new)
    if arguments.label:
        _say(f"{arguments.target}: label {arguments.label} of {arguments.model} means version {change.to}")
        return
    states = model_config.wait_until_default(arguments.target, arguments.model, change.to, arguments.timeout)
    told = ", ".join(f"{version} {state}" for version, state in sorted(states.items()))
    _say(f"{arguments.target}: {arguments.model} is answered by version {change.to} ({told})")

"""
A server's `ModelServerConfig`, changed while it runs: one model's version policy and labels, everything else as it was.

It reaches the server through the file that it polls (`--model_config_file_poll_wait_seconds`), or at once by
HandleReloadConfigRequest; any server with TensorFlow Serving's interface takes both.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from slipway import clients, files
from slipway.errors import ServerError, SettingsError
from slipway.oci import serving_config
from slipway.serving_settings import LatestVersions, ServingSettings, SpecificVersions, VersionPolicy
from slipway_wire import messages, model_management, model_status, paths, text_config
from slipway_wire.status import InvalidArgument

_POLL_S = 0.05


def read(path: Path) -> Any:
    """
    Read the `ModelServerConfig` at *path*.

    Raises:
        SettingsError: It is not there, or is none; with line and column.
    """
    try:
        return text_config.parse(messages.ModelServerConfig, path.read_bytes())
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror}).") from error
    except InvalidArgument as error:
        raise SettingsError(f"{path}: {error.message}") from error


def write(path: Path, config: Any) -> None:
    """Write *config* to *path*, whole: a server that polls it reads the old one or the new one. Comments are lost."""
    real = path.resolve()
    text = text_format.MessageToString(config, descriptor_pool=messages.POOL)
    files.write_bytes(real, text.encode(), mode=real.stat().st_mode & 0o7777)


def of_one_model(model: str, base_path: str) -> Any:
    """Make the `ModelServerConfig` of a server that serves all versions of *model* and nothing else."""
    return text_config.parse(
        messages.ModelServerConfig, serving_config.models_config(model, ServingSettings(), base_path)
    )


def serving_of(config: Any, model: str, name: str) -> ServingSettings:
    """Read what *config* serves of *model*, or raise SettingsError: it does not list it. Errors call it *name*."""
    found = _entry(config, model, name)
    policy: VersionPolicy = "latest"
    match found.model_version_policy.WhichOneof("policy_choice"):
        case "all":
            policy = "all"
        case "specific":
            policy = SpecificVersions(specific=sorted(found.model_version_policy.specific.versions))
        case "latest" if found.model_version_policy.latest.num_versions > 1:
            policy = LatestVersions(latest=found.model_version_policy.latest.num_versions)
    return ServingSettings(policy=policy, labels=dict(found.version_labels))


def with_serving(config: Any, model: str, serving: ServingSettings, name: str) -> Any:
    """Give a copy of *config* that serves of *model* what *serving* says."""
    changed = messages.ModelServerConfig()
    changed.CopyFrom(config)
    entry = _entry(changed, model, name)
    (wanted,) = text_config.parse(
        messages.ModelServerConfig, serving_config.models_config(model, serving)
    ).model_config_list.config
    entry.model_version_policy.CopyFrom(wanted.model_version_policy)
    entry.ClearField("version_labels")
    entry.version_labels.update(wanted.version_labels)
    return changed


def base_path_of(config: Any, model: str, name: str) -> str:
    """Give where *config* says that the versions of *model* are."""
    return str(_entry(config, model, name).base_path)


def _entry(config: Any, model: str, name: str) -> Any:
    for entry in config.model_config_list.config:
        if entry.name == model:
            return entry
    there = ", ".join(entry.name for entry in config.model_config_list.config) or "none"
    raise SettingsError(f"{name}: no model {model} in its model_config_list; there are: {there}")


def reload(target: str, config: Any) -> None:
    """Have the server at *target* (`host:port` of gRPC) serve *config*, or raise ServerError with its words."""
    answer = clients.call(target, paths.GRPC_RELOAD_CONFIG, model_management.encode_request(config))
    model_management.decode_response(answer)


def wait_until_default(target: str, model: str, version: int, timeout_s: float) -> Mapping[int, str]:
    """
    Wait until requests for *model* that name no version are answered by *version*.

    Returns:
        Version -> state, as the server told last.

    Raises:
        ServerError: That did not come within *timeout_s* seconds, or *version* failed to load.
    """
    deadline = time.monotonic() + timeout_s
    request = model_status.encode_request(model)
    while True:
        statuses = model_status.decode_response(clients.call(target, paths.GRPC_GET_MODEL_STATUS, request))
        states = {status.version: status.state for status in statuses}
        if max((v for v, state in states.items() if state == "AVAILABLE"), default=None) == version:
            return states
        failed = next((s for s in statuses if s.version == version and s.state == "END" and s.message), None)
        told = ", ".join(f"{v}: {state}" for v, state in sorted(states.items()))
        if failed is not None:
            raise ServerError(f"{target}: {model} version {version} did not load: {failed.message}. Now: {told}")
        if time.monotonic() > deadline:
            raise ServerError(f"{target}: {model} version {version} does not answer after {timeout_s:g} s. Now: {told}")
        time.sleep(_POLL_S)

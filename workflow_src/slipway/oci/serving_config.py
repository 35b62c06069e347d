"""What the image tells the server: flags and configuration files under /etc/slipway, as TF Serving reads them."""

from collections.abc import Iterable, Mapping

from slipway.serving_settings import LatestVersions, ServingSettings, SpecificVersions, VersionPolicy
from slipway.settings import BatchingSettings, ServerSettings
from slipway_wire import messages, paths, text_config

DIRECTORY = "/etc/slipway"
# Read by the image's entrypoint, slipway_server/entrypoint.py.
FLAGS = "flags"
MODEL = "model"
MODELS_CONFIG = "models.config"
BATCHING_CONFIG = "batching.config"
MODELS_DIRECTORY = "/models"


def config_files(model: str, server: ServerSettings, serving: ServingSettings | None = None) -> dict[str, bytes]:
    """
    Write the server's configuration for *model*, of which *serving* says what is served (None: all versions).

    Returns:
        File name under `DIRECTORY` -> content. `flags` holds one flag per line, `model` the model's name; the
        others are text protos, which the flags name.
    """
    texts = {
        MODEL: f"{model}\n",
        MODELS_CONFIG: models_config(model, serving or ServingSettings()),
        "monitoring.config": f'prometheus_config {{ enable: true path: "{paths.METRICS_PATH}" }}\n',
    }
    flags = [f"--monitoring_config_file={DIRECTORY}/monitoring.config"]
    if server.batching is not None:
        texts[BATCHING_CONFIG] = batching_config(server.batching)
        flags += ["--enable_batching=true", f"--batching_parameters_file={DIRECTORY}/{BATCHING_CONFIG}"]
    if server.backend == "stablehlo":
        flags.append("--prefer_stablehlo=true")
    texts[FLAGS] = "".join(f"{flag}\n" for flag in [*flags, *server.flags])
    return {name: text.encode() for name, text in sorted(texts.items())}


def models_config(model: str, serving: ServingSettings, base_path: str | None = None) -> str:
    """Write the `ModelServerConfig` of one model; with no policy TF Serving would serve the newest version alone."""
    labels = "".join(
        f'    version_labels {{ key: "{label}" value: {version} }}\n'
        for label, version in sorted(serving.labels.items())
    )
    return (
        "model_config_list {\n"
        "  config {\n"
        f'    name: "{model}"\n'
        f'    base_path: "{base_path or f"{MODELS_DIRECTORY}/{model}"}"\n'
        '    model_platform: "tensorflow"\n'
        f"    model_version_policy {{ {_policy(serving.policy)} }}\n"
        f"{labels}"
        "  }\n"
        "}\n"
    )


def _policy(policy: VersionPolicy) -> str:
    """Write the field of a `ModelVersionPolicy`."""
    match policy:
        case LatestVersions(latest=count):
            return f"latest {{ num_versions: {count} }}"
        case SpecificVersions(specific=versions):
            return f"specific {{ {' '.join(f'versions: {version}' for version in sorted(versions))} }}"
        case "latest":
            return "latest { num_versions: 1 }"
        case _:
            return "all {}"


def batching_config(batching: BatchingSettings) -> str:
    """Write `BatchingParameters`; scalars are wrapped values there."""
    lines = [
        f"{name} {{ value: {getattr(batching, name)} }}\n"
        for name in ("max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads")
    ]
    return "".join(lines + [f"allowed_batch_sizes: {size}\n" for size in batching.allowed_batch_sizes])


def moved(files: Mapping[str, bytes], model: str, directory: str, base_path: str) -> dict[str, bytes]:
    """Rewrite *files* for a server outside the image: configuration in *directory*, the model in *base_path*."""
    inside, outside = f'"{MODELS_DIRECTORY}/{model}"'.encode(), f'"{base_path}"'.encode()
    return {
        name: content.replace(f"{DIRECTORY}/".encode(), f"{directory}/".encode()).replace(inside, outside)
        for name, content in files.items()
    }


def max_batch_size(files: Mapping[str, bytes]) -> int | None:
    """Read from configuration *files* how many rows a request may have; None: any number."""
    if BATCHING_CONFIG not in files:
        return None
    return int(text_config.parse(messages.BatchingParameters, files[BATCHING_CONFIG]).max_batch_size.value)


def labels(files: Mapping[str, bytes]) -> dict[str, int]:
    """Read from configuration *files* which labels versions have: label -> version."""
    config = text_config.parse(messages.ModelServerConfig, files[MODELS_CONFIG])
    (model,) = config.model_config_list.config
    return dict(model.version_labels)


def served_versions(files: Mapping[str, bytes], versions: Iterable[int]) -> list[int]:
    """Read from configuration *files* which of the *versions* in an image are served, lowest first."""
    config = text_config.parse(messages.ModelServerConfig, files[MODELS_CONFIG])
    (model,) = config.model_config_list.config
    policy, there = model.model_version_policy, sorted(versions)
    match policy.WhichOneof("policy_choice"):
        case "all":
            return there
        case "specific":
            return [version for version in there if version in policy.specific.versions]
        case _:
            return there[-max(policy.latest.num_versions, 1) :]

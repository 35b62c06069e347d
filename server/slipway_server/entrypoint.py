"""
The image's entrypoint: TF Serving's environment variables and the image's own configuration become flags.

Stands in for `tf_serving_entrypoint.sh`, in an image without a shell: ports 8500 and 8501, the model that
MODEL_NAME and MODEL_BASE_PATH name, then the arguments of `docker run`, which win because they come last.
Source: tensorflow_serving/tools/docker/Dockerfile.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

CONFIG_DIRECTORY = Path("/etc/slipway")
_CHOOSE_A_MODEL = ("--model_name", "--model_base_path", "--model_config_file")


def command_line(environment: Mapping[str, str], arguments: Sequence[str], config: Path) -> list[str]:
    """
    Make the server's flags.

    Args:
        environment: MODEL_NAME and MODEL_BASE_PATH, as the image sets them or the user overrides them.
        arguments: What the user adds.
        config: Directory with `model` (the name of the model in the image), `models.config` (which asks for
            all its versions) and `flags` (one in each line).
    """
    name = environment.get("MODEL_NAME", "model")
    base_path = f"{environment.get('MODEL_BASE_PATH', '/models')}/{name}"
    own = (config / "model").read_text(encoding="utf-8").strip()
    chosen = any(argument.partition("=")[0] in _CHOOSE_A_MODEL for argument in arguments)
    if chosen or base_path != f"/models/{own}":
        model = [f"--model_name={name}", f"--model_base_path={base_path}"]
    else:
        model = [f"--model_config_file={config}/models.config"]
    flags = (config / "flags").read_text(encoding="utf-8").splitlines()
    return ["--port=8500", "--rest_api_port=8501", *model, *flags, *arguments]


def main() -> None:
    """Become the server."""
    flags = command_line(os.environ, sys.argv[1:], CONFIG_DIRECTORY)
    os.execv(sys.executable, [sys.executable, "-I", "-m", "slipway_server", *flags])  # noqa: S606 - our own interpreter

"""What is wrong with a base path that has nothing to serve: what was looked for, what was found, what to do."""

import posixpath
import re
from collections.abc import Collection, Sequence

from slipway_server.config_files import ModelConfig, Specific, is_uri
from slipway_server.servables.storage import Storage, join

_SHOWN = 5
_CHECKPOINT = re.compile(r"checkpoint|.*\.ckpt.*|.*\.data-\d{5}-of-\d{5}|.*\.index")
_KERAS = re.compile(r".*\.(keras|h5|hdf5)")
_GRAPH = re.compile(r".*\.(pb|pbtxt)")
_TFLITE = re.compile(r".*\.tflite")
_ARCHIVE = re.compile(r".*\.(tar|tgz|tar\.\w+|zip)")
_FOREIGN = re.compile(r".*\.(onnx|pt|pth|safetensors|pkl|joblib)")
_SAVED_MODEL = re.compile(r"saved_model\.(pb|pbtxt)")
# A number with something around it, as in v1, version-2, 3.0, 1_000.
_ALMOST_A_VERSION = re.compile(r"\D*(\d+)\D*|\D*(\d+)[._]\d+")


def diagnose_error(storage: Storage, model: ModelConfig, error: OSError) -> str:
    """Say why the base path of *model* cannot be listed; texts begin as TF Serving's do."""
    path = model.base_path
    start = f"Could not find base path {path} for servable {model.name}"
    if isinstance(error, FileNotFoundError):
        return f"{start}: {error.strerror}; {_nearest(storage, path)}"
    if isinstance(error, NotADirectoryError):
        return f"{start}: it is a file. Give the directory that holds the version directories (e.g. {path}/1)"
    if isinstance(error, PermissionError):
        return f"{start}: {error.strerror}. The user this server runs as needs to read and enter it"
    return f"{start}: {error.strerror or error}. What is served stays"


def _nearest(storage: Storage, path: str) -> str:
    """Say how far *path* exists, and what is there."""
    if is_uri(path):
        return "create it, or correct the configuration"
    parent = posixpath.dirname(path.rstrip("/"))
    while parent not in {"", "/"} and not storage.is_directory(parent):
        parent = posixpath.dirname(parent)
    try:
        return f"{parent} is there and holds {_shown(storage.names(parent))}"
    except OSError as error:
        return f"{parent} cannot be listed: {error.strerror}"


def diagnose(storage: Storage, model: ModelConfig, names: Sequence[str]) -> str:
    """
    Say why there is no version to serve under a base path that can be listed.

    Args:
        storage: Where it is.
        model: Whose base path it is.
        names: What lies in it.
    """
    path = model.base_path
    text = f"No versions of servable {model.name} found under base path {path}"
    hint = f". Did you forget to name the leaf directory with a version number (e.g. {path}/1)?"
    numbers = [name for name in names if name.isascii() and name.isdigit()]
    if isinstance(model.version_policy, Specific):
        wanted = sorted(model.version_policy.versions)
        if not wanted:
            return f"{text}: its version policy is specific and lists no version. List some, or leave the policy out"
        if numbers:
            return f"{text} that its policy asks for: wanted {_shown(map(str, wanted))}, there is {_shown(numbers)}"
    if numbers:
        return f"{text}: {_shown(numbers)} is larger than any version number can be (2**63 - 1). Use a smaller one"
    if not names:
        return f"{text}: it is empty{hint}"
    if any(map(_SAVED_MODEL.fullmatch, names)):
        return (
            f"{text}: it is a SavedModel itself. Move it one level down, to {path}/1, or give {_parent_hint(path)} "
            "as base path if that holds numbered directories"
        )
    if almost := _first(_ALMOST_A_VERSION, [name for name in names if storage.is_directory(join(path, name))]):
        number = next(filter(None, re.findall(r"\d+", almost)))
        return f"{text}: {almost} is no version number. Rename it to {number}"
    if deeper := _deeper(storage, path, names):
        return f"{text}: the versions lie one level deeper, in {deeper}. Give that as base path"
    return f"{text}: {_contents(names, path)}{hint}"


def diagnose_version(storage: Storage, directory: str) -> str | None:
    """Say what a version directory that does not load seems to be; None if it looks like a SavedModel, or like StableHLO."""
    try:
        names = storage.names(directory)
    except NotADirectoryError:
        return f"{directory} is a file; a version is a directory that holds saved_model.pb"
    except FileNotFoundError:
        return f"{directory} leads nowhere: it is a link whose target is missing, or was removed"
    except OSError as error:
        return f"{directory} cannot be listed: {error.strerror}"
    if "stablehlo" in names or any(map(_SAVED_MODEL.fullmatch, names)):
        return None
    if not names:
        return f"{directory} is empty; copy the SavedModel into it (saved_model.pb, variables/)"
    if _first(_TFLITE, names):
        return f"{directory} holds a TFLite model and no SavedModel; start with --prefer_tflite_model to serve model.tflite"
    for name in names:
        below = join(directory, name)
        if storage.is_directory(below) and any(map(_SAVED_MODEL.fullmatch, storage.names(below))):
            return f"the SavedModel lies one level deeper, in {below}; move its content up to {directory}"
    return f"{directory} holds no saved_model.pb: {_contents(names, directory)}"


def _contents(names: Collection[str], path: str) -> str:
    """Say what *names* look like, if not versions or a SavedModel."""
    export = "export it as a SavedModel"
    if name := _first(_KERAS, names):
        return f"it holds a Keras file, {name}: {export} (model.export('{path}/1'))"
    if _first(_CHECKPOINT, names):
        return f"it holds a checkpoint ({_shown(filter(_CHECKPOINT.fullmatch, names))}), which has no graph: restore it and {export}"
    if name := _first(_GRAPH, names):
        return f"it holds a graph, {name}, that is no SavedModel (frozen?): {export} with signatures"
    if name := _first(_TFLITE, names):
        return f"it holds a TFLite model, {name}: put it into a version directory as 1/model.tflite and start with --prefer_tflite_model"
    if name := _first(_ARCHIVE, names):
        return f"it holds an archive, {name}: unpack it"
    if name := _first(_FOREIGN, names):
        return f"it holds {name}, which is no TensorFlow model"
    return f"it holds {_shown(names)}"


def _deeper(storage: Storage, path: str, names: Sequence[str]) -> str | None:
    for name in names[:100]:
        below = join(path, name)
        try:
            if storage.is_directory(below) and any(one.isascii() and one.isdigit() for one in storage.names(below)):
                return below
        except OSError:
            continue
    return None


def _parent_hint(path: str) -> str:
    return posixpath.dirname(path.rstrip("/")) or "/"


def _first(pattern: re.Pattern[str], names: Collection[str]) -> str | None:
    return next(filter(pattern.fullmatch, names), None)


def _shown(names: object) -> str:
    listed = list(names)  # type: ignore[call-overload]
    if not listed:
        return "nothing"
    more = len(listed) - _SHOWN
    return ", ".join(listed[:_SHOWN]) + (f" and {more} more" if more > 0 else "")

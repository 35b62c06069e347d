"""Names on the wire: gRPC methods, REST paths <-> model, version, label, verb; and names of version directories."""

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args
from urllib.parse import quote, unquote

from slipway_wire.status import InvalidArgument

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"
HEALTH_SERVICE = "grpc.health.v1.Health"
REFLECTION_SERVICES = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")

GRPC_PREDICT = f"/{PREDICTION_SERVICE}/Predict"
GRPC_CLASSIFY = f"/{PREDICTION_SERVICE}/Classify"
GRPC_REGRESS = f"/{PREDICTION_SERVICE}/Regress"
GRPC_MULTI_INFERENCE = f"/{PREDICTION_SERVICE}/MultiInference"
GRPC_GET_MODEL_METADATA = f"/{PREDICTION_SERVICE}/GetModelMetadata"
GRPC_GET_MODEL_STATUS = f"/{MODEL_SERVICE}/GetModelStatus"
GRPC_RELOAD_CONFIG = f"/{MODEL_SERVICE}/HandleReloadConfigRequest"
GRPC_HEALTH_CHECK = f"/{HEALTH_SERVICE}/Check"
GRPC_HEALTH_WATCH = f"/{HEALTH_SERVICE}/Watch"

METRICS_PATH = "/monitoring/prometheus/metrics"

PostVerb = Literal["predict", "classify", "regress"]
GRPC_METHODS: Mapping[PostVerb, str] = {"predict": GRPC_PREDICT, "classify": GRPC_CLASSIFY, "regress": GRPC_REGRESS}
GetVerb = Literal["status", "metadata"]
Verb = PostVerb | GetVerb

# Source: tensorflow_serving/model_servers/http_rest_api_handler.cc. Case is ignored here and minded for the verb later.
_VERSION_OR_LABEL = r"(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
_POST = re.compile(
    rf"/v1/models/(?P<model>[^/:]+){_VERSION_OR_LABEL}:(?P<verb>predict|classify|regress)", re.IGNORECASE
)
_GET = re.compile(rf"/v1/models(?:/(?P<model>[^/:]+))?{_VERSION_OR_LABEL}(?:/(?P<verb>metadata))?", re.IGNORECASE)
_PATTERNS = {"POST": _POST, "GET": _GET}
_VERBS: dict[str, Verb] = {verb: verb for verb in (*get_args(PostVerb), *get_args(GetVerb))}
_HANDLED = re.compile(r"/v1/.*", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class RestPath:
    """
    What a REST request is about.

    Attributes:
        verb: The word after the colon of a POST; `status` or `metadata` of a GET.
        model: Name of the servable, percent-decoded.
        version: The version asked for, or None.
        label: The version label asked for, percent-decoded, or None; never together with `version`.
    """

    verb: Verb
    model: str
    version: int | None = None
    label: str | None = None


def is_rest_path(target: str) -> bool:
    """Say whether *target* (path and query) is the API's to answer; anything else is a plain 404."""
    return _HANDLED.fullmatch(target) is not None


def parse_rest(method: str, target: str) -> RestPath:
    """
    Read a request line's *method* and *target* (path and query, percent-encoded as received).

    Raises:
        InvalidArgument: `Malformed request: …` for anything but the API's forms (a query string makes one of it),
            `Missing model name in request.`, or a version that is no int64.
    """
    match = _PATTERNS[method].fullmatch(target) if method in _PATTERNS else None
    verb = _VERBS.get(match["verb"] or "status") if match else None
    if match is None or verb is None:
        raise InvalidArgument(f"Malformed request: {method} {target}")
    if not match["model"]:
        raise InvalidArgument("Missing model name in request.")
    return RestPath(
        verb=verb,
        model=unquote(match["model"]),
        version=_version(match["version"]),
        label=unquote(match["label"]) if match["label"] else None,
    )


def _version(digits: str | None) -> int | None:
    if digits is None:
        return None
    # 2**63 - 1 has 19 digits; leading zeros are allowed, and int() refuses texts of thousands of digits.
    significant = digits.lstrip("0") or "0"
    if len(significant) > 19 or int(significant) >= 2**63:
        raise InvalidArgument(f"Failed to convert version: {digits} to numeric.")
    return int(significant)


def rest_path(model: str, verb: Verb, *, version: int | None = None, label: str | None = None) -> str:
    """Write the path for a request: POST for predict, classify and regress, GET for status and metadata."""
    path = f"/v1/models/{quote(model, safe='')}"
    if version is not None:
        path += f"/versions/{version}"
    elif label is not None:
        path += f"/labels/{quote(label, safe='')}"
    if verb == "status":
        return path
    return f"{path}/metadata" if verb == "metadata" else f"{path}:{verb}"


def directory_version(name: str) -> int | None:
    """
    Read the *name* of a directory below a base path as a version; None if it is none.

    The whole name must be a decimal int64; leading zeros are fine.

    Source: tensorflow_serving/sources/storage_path/file_system_storage_path_source.cc, ParseVersionNumber.
    """
    # int() reads "1_0" and digits of other scripts, which strtoll does not.
    if not name.isascii() or "_" in name:
        return None
    with contextlib.suppress(ValueError):
        version = int(name)
        return version if -(2**63) <= version < 2**63 else None
    return None

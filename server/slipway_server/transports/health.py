"""Health over REST, at paths that name no model, and one for each model: for probes and load balancers, and for people."""

import json
from urllib.parse import unquote

from slipway_server.serving import Serving
from slipway_server.transports.http import Response

LIVE_PATH = "/v1/health/live"
READY_PATH = "/v1/health/ready"
_PREFIX = "/v1/health/"


def is_health_path(method: str, target: str) -> bool:
    """Say whether `answer` is the one to ask."""
    return target.startswith(_PREFIX) and method in {"GET", "HEAD"}


def answer(serving: Serving, target: str) -> Response:
    """
    Answer a GET of *target*.

    - `/v1/health/live`: 200 as long as anything is answered at all.
    - `/v1/health/ready`: 200 while requests are taken and every configured model has an AVAILABLE version; else 503.
    - `/v1/health/ready/NAME`: the same of one model; 404 if it is not configured.

    A 503 says why: `reason`, and by `models` what is wrong with each.
    """
    if target == LIVE_PATH:
        return _json(200, {"status": "SERVING"})
    if target == READY_PATH:
        return _ready(serving, serving.unready_models())
    model = unquote(target.removeprefix(f"{READY_PATH}/"))
    if not target.startswith(f"{READY_PATH}/") or model not in serving.model_names():
        known = ", ".join([LIVE_PATH, READY_PATH, *(f"{READY_PATH}/{name}" for name in serving.model_names())])
        return _json(404, {"error": f"Nothing is known of {target}; there are {known}"})
    return _ready(serving, {name: why for name, why in serving.unready_models().items() if name == model})


def _ready(serving: Serving, unready: dict[str, str]) -> Response:
    if serving.is_leaving:
        return _json(503, {"status": "NOT_SERVING", "reason": "The server is shutting down"})
    if unready:
        reason = f"No version is available of {', '.join(sorted(unready))}"
        return _json(503, {"status": "NOT_SERVING", "reason": reason, "models": unready})
    return _json(200, {"status": "SERVING"})


def _json(status: int, content: object) -> Response:
    return Response(status, json.dumps(content, ensure_ascii=False).encode(errors="replace"))

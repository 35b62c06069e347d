"""
What is served, at an address of our own: TF Serving answers `GET /v1/models` with an error, on which a client may rely.

Source of the wish: https://github.com/tensorflow/serving/issues/795.
"""

import json

from slipway_server.serving import Serving
from slipway_server.transports.http import Response

LIST_PATH = "/v1/models:list"


def answer(serving: Serving) -> Response:
    """
    Answer `GET /v1/models:list`.

    Each configured model with its labels, every version as in its status, and `serves`: the version that answers who asks
    for none, or null. Versions are strings, as everywhere in TF Serving's JSON.
    """
    configuration = serving.configuration
    models = []
    for name, model in sorted(configuration.current.models.items()):
        statuses = serving.known_versions(name)
        available = [status.version for status in statuses if status.state == "AVAILABLE"]
        labels = {label: configuration.version_of(name, label) for label in sorted(model.version_labels)}
        models.append(
            {
                "name": name,
                "serves": str(max(available)) if available else None,
                "labels": {label: str(version) for label, version in labels.items() if version is not None},
                "versions": [
                    {
                        "version": str(status.version),
                        "state": status.state,
                        "status": {"error_code": status.code.name, "error_message": status.message},
                    }
                    for status in statuses
                ],
            }
        )
    return Response(200, json.dumps({"models": models}, ensure_ascii=False).encode(errors="replace"))

"""
Models over REST: list, read the configuration, add, remove, move a label, reload. On a port of its own.

Every change is checked whole before any of it is applied, may name the revision it was made for, and may be tried without
being made. Nothing is written back to `--model_config_file`.
"""

import asyncio
import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from google.protobuf import json_format

from slipway_server.bearer import BearerToken
from slipway_server.config_files import read_model_server_config
from slipway_server.errors import told
from slipway_server.servables.configuration import Edit, remove_model, replace_by, set_label, set_model
from slipway_server.serving import Serving
from slipway_server.transports import health
from slipway_server.transports.http import Request, Response
from slipway_wire import messages
from slipway_wire.status import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unauthenticated,
)

PREFIX = "/v1/admin"

# A load may take minutes; who asks for a change usually wants to hear how it went.
_DEFAULT_TIMEOUT_S = 300.0
_MAX_BODY_BYTES = 16 * 1024 * 1024

_MODEL = re.compile(rf"{PREFIX}/models/(?P<model>[^/]+)")
_LABEL = re.compile(rf"{PREFIX}/models/(?P<model>[^/]+)/labels/(?P<label>[^/]+)")

_FORMS = """\
GET /v1/admin/models, GET or PUT /v1/admin/config, POST /v1/admin/config:reload, PUT or DELETE /v1/admin/models/NAME, \
PUT or DELETE /v1/admin/models/NAME/labels/LABEL"""


@dataclasses.dataclass(frozen=True, slots=True)
class _Options:
    """What the query of a change says."""

    revision: int | None = None
    dry_run: bool = False
    waits: bool = True
    timeout_s: float = _DEFAULT_TIMEOUT_S


class AdminApi:
    """The handlers."""

    def __init__(
        self, serving: Serving, *, token: BearerToken | None, config_file: str, metrics_path: str | None
    ) -> None:
        """
        Put together.

        Args:
            serving: Whose models these are.
            token: What a caller must know; None: nothing.
            config_file: Path of the ModelServerConfig to reload; empty: there is none.
            metrics_path: Where metrics are served, here too; None: nowhere.
        """
        self._serving = serving
        self._token = token
        self._config_file = config_file
        self._metrics_path = metrics_path

    async def handle(self, request: Request) -> Response:
        """Answer any request."""
        # The transport drives this coroutine without a task, and to wait with a timeout takes one.
        return await asyncio.ensure_future(self._handle(request))

    async def _handle(self, request: Request) -> Response:
        # A probe knows no secrets.
        if health.is_health_path(request.method, request.target):
            return health.answer(self._serving, request.target)
        try:
            self._check(request)
            if (request.method, request.target) == ("GET", self._metrics_path):
                text = await asyncio.to_thread(self._serving.metrics.exposition)
                return Response(200, text.encode(), b"text/plain")
            return _json(200, await self._answer(request))
        except Exception as error:
            fault = told(error)
            response = _json(fault.code.http_status, {"error": fault.message})
            if isinstance(fault, Unauthenticated):
                response.headers.append((b"WWW-Authenticate", b"Bearer"))
            return response

    def _check(self, request: Request) -> None:
        """Let in who may: raise Unauthenticated or PermissionDenied."""
        if self._token is not None:
            self._token.check(request.headers.get(b"authorization"))
        # Browsers name the page that sends a change; none has any business here.
        if b"origin" in request.headers:
            raise PermissionDenied("Requests from web pages are refused")

    async def _answer(self, request: Request) -> Any:
        parts = urlsplit(request.target)
        options = _options(dict(parse_qsl(parts.query, keep_blank_values=True)), request.headers)
        method, path = request.method, parts.path
        if (method, path) == ("GET", f"{PREFIX}/models"):
            return self._list()
        if (method, path) == ("GET", f"{PREFIX}/config"):
            current = self._serving.configuration.current
            return {"revision": current.revision, "config": _as_json(current.config)}
        return await self._change(await self._edit(method, path, request.body), options)

    def _list(self) -> dict[str, Any]:
        configuration = self._serving.configuration
        current = configuration.current
        models = []
        for name, model in sorted(current.models.items()):
            statuses = self._serving.known_versions(name)
            available = [status.version for status in statuses if status.state == "AVAILABLE"]
            models.append(
                {
                    "name": name,
                    "base_path": str(model.base_path),
                    # What a request that names no version is answered by.
                    "serving_version": max(available, default=None),
                    "labels": {label: configuration.version_of(name, label) for label in sorted(model.version_labels)},
                    "versions": [
                        {
                            "version": status.version,
                            "state": status.state,
                            "error_code": status.code.name,
                            "error_message": status.message,
                        }
                        for status in statuses
                    ],
                    "problem": configuration.diagnosis(name),
                }
            )
        return {"revision": current.revision, "models": models}

    async def _edit(self, method: str, path: str, body: bytes) -> Edit:
        """Turn a request into what it changes."""
        if (method, path) == ("PUT", f"{PREFIX}/config"):
            return replace_by(_message(body, messages.ModelServerConfig))
        if (method, path) == ("POST", f"{PREFIX}/config:reload"):
            if not self._config_file:
                raise FailedPrecondition("There is no --model_config_file to reload")
            return replace_by(await asyncio.to_thread(read_model_server_config, Path(self._config_file)))
        if match := _LABEL.fullmatch(path):
            model, label = unquote(match["model"]), unquote(match["label"])
            if method == "DELETE":
                return set_label(model, label, None)
            if method == "PUT":
                return set_label(model, label, _version(body))
        if match := _MODEL.fullmatch(path):
            name = unquote(match["model"])
            if method == "DELETE":
                return remove_model(name)
            if method == "PUT":
                return set_model(_model(name, body))
        raise NotFound(f"Nothing is answered to {method} {path}; there are {_FORMS}")

    async def _change(self, edit: Edit, options: _Options) -> dict[str, Any]:
        future = self._serving.configuration.change(
            edit, revision=options.revision, dry_run=options.dry_run, waits=options.waits
        )
        try:
            # Ends the waiting and not the change when the time is over.
            change = await asyncio.wait_for(asyncio.wrap_future(future), options.timeout_s)
        except TimeoutError:
            raise DeadlineExceeded(
                f"The change is in force, but not every model is available after {options.timeout_s:g} s; "
                f"GET {PREFIX}/models tells how they fare"
            ) from None
        return {**dataclasses.asdict(change), "dry_run": options.dry_run}


def _options(query: Mapping[str, str], headers: Mapping[bytes, bytes]) -> _Options:
    if unknown := query.keys() - {"revision", "dry_run", "wait", "timeout_s"}:
        raise InvalidArgument(
            f"Unknown query parameters: {sorted(unknown)}; there are revision, dry_run, wait, timeout_s"
        )
    revision = query.get("revision") or headers.get(b"if-match", b"").decode("latin-1").strip('" ')
    try:
        return _Options(
            revision=int(revision) if revision else None,
            dry_run=_is_true("dry_run", query.get("dry_run", "false")),
            waits=_is_true("wait", query.get("wait", "true")),
            timeout_s=float(query.get("timeout_s", _DEFAULT_TIMEOUT_S)),
        )
    except ValueError as error:
        raise InvalidArgument(f"A query parameter is no number: {error}") from error


def _is_true(name: str, text: str) -> bool:
    if text.lower() in {"true", "1", ""}:
        return True
    if text.lower() in {"false", "0"}:
        return False
    raise InvalidArgument(f"{name}: expected true or false, got {text!r}")


def _parsed(body: bytes) -> dict[str, Any]:
    if len(body) > _MAX_BODY_BYTES:
        raise InvalidArgument(f"The body exceeds {_MAX_BODY_BYTES} bytes")
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"The body is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise InvalidArgument(f"The body must be a JSON object, got {type(content).__name__}")
    return content


def _message(body: bytes, message_class: Any) -> Any:
    return _filled(message_class(), _parsed(body))


def _filled(message: Any, content: dict[str, Any]) -> Any:
    try:
        return json_format.ParseDict(content, message)
    except (json_format.ParseError, RecursionError) as error:
        why = " ".join(str(error).split())
        raise InvalidArgument(f"The body is no {message.DESCRIPTOR.full_name} in JSON: {why}") from error


def _model(name: str, body: bytes) -> Any:
    content = _parsed(body)
    if content.setdefault("name", name) != name:
        raise InvalidArgument(f"The path names model {name}, the body {content['name']}")
    if not content.keys() & {"model_platform", "modelPlatform", "model_type", "modelType"}:
        content["model_platform"] = "tensorflow"
    return _filled(messages.ModelConfig(), content)


def _version(body: bytes) -> int:
    version = _parsed(body).get("version")
    # int64 in JSON is a string, as protobuf has it; a number is what people write.
    if isinstance(version, bool) or not re.fullmatch(r"\d{1,18}", str(version)):
        raise InvalidArgument(f'Expected {{"version": NUMBER}}, got {body[:200].decode(errors="replace")}')
    return int(str(version))


def _as_json(message: Any) -> Any:
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def _json(status: int, content: Any) -> Response:
    return Response(status, json.dumps(content, ensure_ascii=False, indent=1).encode(errors="replace") + b"\n")

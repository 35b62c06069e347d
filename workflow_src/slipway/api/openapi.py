"""The OpenAPI 3.1 document of one model: every REST route that TensorFlow Serving's interface has for it."""

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from slipway.api import schemas
from slipway.api.calls import Call
from slipway.contract import Contract
from slipway_wire import paths
from slipway_wire.paths import PostVerb
from slipway_wire.status import Code

Json = dict[str, Any]

# Larger examples stay in their own files, which the document names.
MOST_EXAMPLE_BYTES = 20_000

_REPLY: Mapping[PostVerb, str] = {
    "predict": "One prediction per row, or the outputs as columns: as the request was written.",
    "classify": "For each example a list of [label, score].",
    "regress": "One number per example.",
}
# Canonical codes that have an HTTP status -> what a caller does about it. The table of statuses is the server's own.
_FAULTS = {
    Code.INVALID_ARGUMENT: "The request does not fit the signature, or is no JSON. Mend it; the same again fails again.",
    Code.UNAUTHENTICATED: "The server wants a bearer token.",
    Code.NOT_FOUND: "No such model, version or label is served.",
    Code.RESOURCE_EXHAUSTED: "Too many requests wait, or this one is too large. Slow down; see Retry-After.",
    Code.INTERNAL: "The model failed on this request.",
    Code.UNIMPLEMENTED: "JSON has no form for a tensor of this signature; gRPC has.",
    Code.UNAVAILABLE: "Not now: it starts, stops or is overloaded. Try again; see Retry-After.",
    Code.DEADLINE_EXCEEDED: "The server's time limit is over.",
}
_RETRIED = (Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE)

_NON_FINITE = (
    "Numbers may be `NaN`, `Infinity` or `-Infinity`, written as bare words in requests and answers, as TensorFlow "
    "Serving has them; strict JSON parsers refuse these words."
)

_VERSION: Json = {
    "name": "version",
    "in": "path",
    "required": True,
    "description": "Number of a version that is served.",
    "schema": {"type": "integer", "format": "int64", "minimum": 0},
}
_LABEL: Json = {
    "name": "label",
    "in": "path",
    "required": True,
    "description": "Label that the server's operator gave to a version, such as stable or canary.",
    "schema": {"type": "string", "minLength": 1},
}
# Suffix of the path, its parameters, and of operation ids.
_FORMS: tuple[tuple[str, tuple[Json, ...], str, str], ...] = (
    ("", (), "", "the version that the server chooses: the newest"),
    ("/versions/{version}", (_VERSION,), "Version", "one version"),
    ("/labels/{label}", (_LABEL,), "Label", "the version with a label"),
)


def document(contract: Contract, calls: Sequence[Call], *, model: str, version: int, address: str) -> Json:
    """
    Describe the REST API of *model*.

    Args:
        contract: What it promises.
        calls: A call of each signature, for examples.
        model: Its name.
        version: The version whose golden answers the examples are.
        address: `host:port` of the server that is named; a reader sets another one.
    """
    # uint16 has no JSON in TF Serving: such a signature is there over gRPC alone.
    components: dict[str, schemas.Schema] = dict(_FIXED_SCHEMAS)
    by_method: dict[PostVerb, list[str]] = {}
    for name, signature in contract.signatures.items():
        described = schemas.requests(contract, name)
        components |= described | schemas.responses(contract, name)
        if described:
            by_method.setdefault(signature.method, []).append(name)
    return {
        "openapi": "3.1.1",
        "info": {
            "title": model,
            "version": str(version),
            "summary": f"The REST API of {model}",
            "description": _description(contract, by_method, version),
        },
        "servers": [{"url": f"http://{address}"}],
        "security": [{}, {"bearer": []}],
        "tags": [{"name": "inference"}, {"name": "state"}],
        "paths": _paths(contract, calls, model, by_method),
        "components": {
            "schemas": components,
            "responses": {code.name: _fault(code) for code in _FAULTS},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "description": "Where one is set up."}},
        },
    }


def _description(contract: Contract, by_method: Mapping[PostVerb, Iterable[str]], version: int) -> str:
    rest = {name for names in by_method.values() for name in names}
    lines = [
        contract.doc,
        "N is the number of rows in a request.",
        _NON_FINITE,
        'Bytes go as `{"b64": "…"}` in the standard alphabet; outputs whose names end in `_bytes` come back so.',
        f"Examples are a golden row and the golden answers of version {version}.",
    ]
    if only := [name for name in contract.signatures if name not in rest]:
        lines.append(f"Over gRPC only, because JSON has no form for a dtype of theirs: {', '.join(only)}.")
    return "\n\n".join(line for line in lines if line)


def _paths(contract: Contract, calls: Sequence[Call], model: str, by_method: Mapping[PostVerb, Sequence[str]]) -> Json:
    base = paths.rest_path(model, "status")
    described: Json = {}
    for suffix, parameters, id_suffix, which in _FORMS:
        route = f"{base}{suffix}"
        for method, names in by_method.items():
            asked = _any_of(r for n in names for r in schemas.requests(contract, n))
            post = {
                "operationId": f"{method}{id_suffix}",
                "tags": ["inference"],
                "summary": f"{method.capitalize()} with {which}",
                "description": _signatures_told(contract, names),
                "requestBody": {"required": True, "content": _content(asked, _examples(calls, names, "requests"))},
                "responses": {"200": _answer(contract, calls, method, names), **_faults(_FAULTS)},
            }
            described[f"{route}:{method}"] = _item(parameters, {"post": post})
        status = _get(f"status{id_suffix}", f"State of {which}" if suffix else "State of all versions", "ModelStatus")
        metadata = _get(f"metadata{id_suffix}", f"Signatures of {which}", "ModelMetadata")
        described[route] = _item(parameters, {"get": status})
        described[f"{route}/metadata"] = _item(parameters, {"get": metadata})
    return described


def _item(parameters: Sequence[Json], operations: Json) -> Json:
    return ({"parameters": list(parameters)} if parameters else {}) | operations


def _signatures_told(contract: Contract, names: Iterable[str]) -> str:
    return "\n\n".join(
        " ".join([f"`{name}`: {contract.signatures[name].doc or 'see its schemas'}", *_promises(contract, name)])
        for name in names
    )


def _promises(contract: Contract, name: str) -> Iterator[str]:
    """Tell what a caller cannot count on, or can beyond the usual."""
    if contract.determinism_of(name) is False:
        yield "(Answers are drawn by chance: the same request is answered otherwise each time.)"
    elif contract.determinism_of(name) == "bitwise":
        yield "(The same request gets the same bits each time.)"
    if not contract.rows_are_apart(name):
        yield "(Rows of one request see each other: a row's answer depends on which others it is sent with.)"
    if contract.max_rows is not None:
        yield f"(At most {contract.max_rows} rows in a request.)"


def _answer(contract: Contract, calls: Sequence[Call], method: PostVerb, names: Sequence[str]) -> Json:
    header = {
        "description": "The version that answered; Slipway's server sends it.",
        "schema": {"type": "integer", "format": "int64"},
    }
    return {
        "description": _REPLY[method],
        "headers": {"X-Slipway-Model-Version": header},
        "content": _content(
            _any_of(r for n in names for r in schemas.responses(contract, n)), _examples(calls, names, "answers")
        ),
    }


def _get(operation: str, summary: str, schema: str) -> Json:
    answer = {"description": summary, "content": _content(_reference(schema))}
    faults = _faults((Code.INVALID_ARGUMENT, Code.UNAUTHENTICATED, Code.NOT_FOUND))
    return {"operationId": operation, "tags": ["state"], "summary": summary, "responses": {"200": answer, **faults}}


def _content(schema: schemas.Schema, examples: Json | None = None) -> Json:
    return {"application/json": {"schema": schema} | ({"examples": examples} if examples else {})}


def _reference(component: str) -> schemas.Schema:
    return {"$ref": f"#/components/schemas/{component}"}


def _any_of(components: Iterable[str]) -> schemas.Schema:
    listed = [_reference(component) for component in components]
    return listed[0] if len(listed) == 1 else {"anyOf": listed}


def _examples(calls: Sequence[Call], names: Sequence[str], side: str) -> Json:
    found: Json = {}
    for call in calls:
        if call.signature not in names:
            continue
        forms = (
            {"row": call.row_request(), "columnar": call.columnar_request()}
            if side == "requests"
            else {"row": call.row_answer(), "columnar": call.columnar_answer()}
        )
        for form, body in forms.items():
            if body is not None:
                summary = f"{call.signature}, {form} format" if call.method == "predict" else call.signature
                found[f"{call.signature}.{form}"] = {"summary": summary} | _example(
                    body, f"{side}/{call.signature}.{form}.json"
                )
    return found


def _example(body: bytes, file: str) -> Json:
    """Show *body*, or name its file where it is large or no strict JSON."""
    if len(body) <= MOST_EXAMPLE_BYTES:
        # Not strict: NaN, and strings of an output that are no UTF-8 and go out as they are.
        with contextlib.suppress(ValueError):
            value = json.loads(body)
            json.dumps(value, allow_nan=False)
            return {"value": value}
    return {"externalValue": file}


# --- errors and states -----------------------------------------------------------------------------


def _faults(codes: Iterable[Code]) -> Json:
    return {str(code.http_status): {"$ref": f"#/components/responses/{code.name}"} for code in codes}


def _fault(code: Code) -> Json:
    alike = [other.name for other in Code if other.http_status == code.http_status and other is not Code.OK]
    response: Json = {"description": f"{_FAULTS[code]} ({', '.join(alike)})", "content": _content(_reference("Error"))}
    if code in _RETRIED:
        wait = {"description": "Seconds after which another try is worthwhile.", "schema": {"type": "integer"}}
        response["headers"] = {"Retry-After": wait}
    return response


_FIXED_SCHEMAS: dict[str, schemas.Schema] = {
    "Error": {
        "type": "object",
        "properties": {"error": {"type": "string", "description": "What is wrong, for people."}},
        "required": ["error"],
    },
    # Source: tensorflow_serving/apis/get_model_status.proto, as JSON.
    "ModelStatus": {
        "type": "object",
        "properties": {
            "model_version_status": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "version": {"type": "string", "pattern": "^[0-9]+$"},
                        "state": {"enum": ["UNKNOWN", "START", "LOADING", "AVAILABLE", "UNLOADING", "END"]},
                        "status": {
                            "type": "object",
                            "properties": {"error_code": {"type": "string"}, "error_message": {"type": "string"}},
                        },
                    },
                    "required": ["version", "state", "status"],
                },
            }
        },
        "required": ["model_version_status"],
    },
    # Source: tensorflow_serving/apis/get_model_metadata.proto and tensorflow/core/protobuf/meta_graph.proto, as JSON.
    "ModelMetadata": {
        "type": "object",
        "properties": {
            "model_spec": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "signature_name": {"type": "string"},
                    "version": {"type": "string", "pattern": "^[0-9]+$"},
                },
                "required": ["name", "version"],
            },
            "metadata": {
                "type": "object",
                "properties": {
                    "signature_def": {
                        "type": "object",
                        "properties": {
                            "signature_def": {
                                "type": "object",
                                "description": "Name of the signature -> SignatureDef.",
                                "additionalProperties": {
                                    "type": "object",
                                    "properties": {
                                        "inputs": {"type": "object"},
                                        "outputs": {"type": "object"},
                                        "method_name": {"type": "string"},
                                    },
                                },
                            }
                        },
                    }
                },
            },
        },
        "required": ["model_spec", "metadata"],
    },
}


# --- writing ---------------------------------------------------------------------------------------


def dump(value: Any) -> bytes:
    """Write *value* for people: two spaces of indentation, but lists without objects in them in one line."""
    return (_written(value, "") + "\n").encode()


def _written(value: Any, indent: str) -> str:
    deeper = f"{indent}  "
    if isinstance(value, dict) and value:
        members = (
            f"{json.dumps(key, ensure_ascii=False)}: {_written(member, deeper)}" for key, member in value.items()
        )
        return "{\n" + ",\n".join(deeper + member for member in members) + f"\n{indent}}}"
    if isinstance(value, list) and _has_object(value):
        return "[\n" + ",\n".join(deeper + _written(item, deeper) for item in value) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _has_object(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and any(map(_has_object, value)))

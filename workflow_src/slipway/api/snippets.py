"""Programs of a few lines that call a model, ready to paste: curl, Python over REST, Python over gRPC."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from slipway.api.calls import Call
from slipway.api.literals import literal
from slipway_wire import json_tensors, messages

Array = npt.NDArray[Any]

# What stands in a snippet itself; anything larger is read from a file beside it.
MOST_INLINE_BYTES = 2_000
_MOST_INLINE_STRING = 80
_SIGNS = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpg", b"GIF8": "gif", b"BM": "bmp"}


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where snippets send: `host:port` of each protocol."""

    rest: str = "localhost:8501"
    grpc: str = "localhost:8500"


@dataclass(frozen=True, slots=True)
class Snippet:
    """
    A program.

    Attributes:
        title: What it is written in.
        language: As Markdown names it.
        file: Its name in the directory that it is to be run in.
        text: Its source.
    """

    title: str
    language: Literal["bash", "python"]
    file: str
    text: str


def snippets(call: Call, addresses: Addresses) -> list[Snippet]:
    """Write every program for *call*; those over REST only if JSON carries it."""
    name = call.signature
    written = [Snippet("Python, gRPC", "python", f"{name}_grpc.py", _python_grpc(call, addresses.grpc))]
    body = call.row_request()
    if body is None:
        return written
    url = f"http://{addresses.rest}{call.rest_path}"
    return [
        Snippet("curl", "bash", f"{name}.sh", _curl(call, body, url)),
        Snippet("Python, REST", "python", f"{name}_rest.py", _python_rest(call, body, url)),
        *written,
    ]


def large_inputs(call: Call) -> dict[str, Array | bytes]:
    """
    Give what the snippets of *call* read from files.

    Returns:
        Name of the file, as in the snippets -> what belongs into it: an array (as .npy), or bytes as they are.
    """
    found: dict[str, Array | bytes] = {}
    for name, array in _given(call).items():
        if array.dtype != object:
            found |= {_array_file(call, name): array} if _is_large(array) else {}
            continue
        for place, value in enumerate(array.ravel().tolist()):
            if not _is_inline(value):
                found[_bytes_file(call, name, place, value)] = value
    return found


# --- REST ------------------------------------------------------------------------------------------


def _body_file(call: Call) -> str:
    return f"requests/{call.signature}.row.json"


def _curl(call: Call, body: bytes, url: str) -> str:
    data = shlex.quote(body.decode()) if len(body) <= MOST_INLINE_BYTES else f"@{_body_file(call)}"
    return f"curl --data {data} {url}\n"


def _python_rest(call: Call, body: bytes, url: str) -> str:
    key = "predictions" if call.method == "predict" else "results"
    if len(body) <= MOST_INLINE_BYTES and _is_strict(body):
        imports = "import json\nimport urllib.request\n"
        data = f"body = {literal(json.loads(body))}\n"
        sent = "json.dumps(body).encode()"
    else:
        imports = "import json\nimport urllib.request\nfrom pathlib import Path\n"
        data = f'body = Path("{_body_file(call)}").read_bytes()\n'
        sent = "body"
    return (
        f'{imports}\n{data}url = "{url}"\n'
        f"with urllib.request.urlopen(url, {sent}, timeout=5) as answer:\n"
        f'    {key} = json.load(answer)["{key}"]\n'
        f"print({key})\n"
    )


def _is_strict(body: bytes) -> bool:
    """Say whether *body* has no NaN and no infinity, for which Python has no literal."""
    try:
        json.dumps(json.loads(body), allow_nan=False)
    except ValueError:
        return False
    return True


# --- gRPC ------------------------------------------------------------------------------------------


def _python_grpc(call: Call, target: str) -> str:
    if call.method != "predict":
        return _examples_grpc(call, target)
    values = {name: _input_source(call, name, array) for name, array in call.inputs.items()}
    client = "Client, example" if call.examples else "Client"
    signature = f", signature={json.dumps(call.sent_signature, ensure_ascii=False)}" if call.sent_signature else ""
    return (
        f"{_imports('import numpy as np', values, client)}"
        f"inputs = {_dictionary(values)}\n"
        f'with Client("{target}", "{call.model}") as client:\n'
        f"    outputs = client.predict(inputs{signature})\n"
        "for name, values in outputs.items():\n"
        "    print(name, values)\n"
    )


def _examples_grpc(call: Call, target: str) -> str:
    values = {feature: _feature_source(call, feature, array) for feature, array in _given(call).items()}
    numpy = "import numpy as np" if any(source.startswith("np.") for source in values.values()) else ""
    return (
        f"{_imports(numpy, values, 'Client, example')}"
        f"features = {_dictionary(values)}\n"
        f'with Client("{target}", "{call.model}") as client:\n'
        f'    results = client.{call.method}([example(features)], signature="{call.signature}")\n'
        "print(results)\n"
    )


def _imports(numpy: str, values: Mapping[str, str], names: str) -> str:
    paths = "from pathlib import Path" if any("Path(" in source for source in values.values()) else ""
    groups = [paths, numpy, f"from grpc_client import {names}"]
    return "\n\n".join(group for group in groups if group) + "\n\n"


def _dictionary(values: Mapping[str, str], indent: str = "") -> str:
    lines = [f"{indent}    {json.dumps(name, ensure_ascii=False)}: {source},\n" for name, source in values.items()]
    return "{\n" + "".join(lines) + indent + "}"


def _input_source(call: Call, name: str, array: Array) -> str:
    """Write an input of Predict; a tf.Example feature by feature, for its bytes say nothing to people."""
    if name not in call.examples:
        return _array_source(call, name, array)
    sources = {feature: _feature_source(call, feature, values) for feature, values in _features_of(array[0]).items()}
    return f"np.array([example({_dictionary(sources, '    ')}).SerializeToString()], object)"


def _array_source(call: Call, name: str, array: Array) -> str:
    if array.dtype == object:
        reshaped = "" if array.ndim == 1 else f".reshape({array.shape})"
        return f"np.array([{', '.join(_strings(call, name, array))}], object){reshaped}"
    if _is_large(array):
        return f'np.load("{_array_file(call, name)}")'
    dtype = "np.bool_" if array.dtype == bool else f"np.{array.dtype.name}"
    return f"np.array({literal(_listed(array), '    ')}, {dtype})"


def _feature_source(call: Call, feature: str, array: Array) -> str:
    if array.dtype == object:
        strings = _strings(call, feature, array)
        return strings[0] if len(strings) == 1 else f"[{', '.join(strings)}]"
    return f'np.load("{_array_file(call, feature)}")' if _is_large(array) else literal(_listed(array), "    ")


def _strings(call: Call, name: str, array: Array) -> list[str]:
    return [
        repr(value) if _is_inline(value) else f'Path("{_bytes_file(call, name, place, value)}").read_bytes()'
        for place, value in enumerate(array.ravel().tolist())
    ]


def _listed(array: Array) -> Any:
    """Give nested lists, floats in the fewest digits that read back to the same value."""
    if array.dtype.kind != "f":
        return array.tolist()
    return json.loads(json_tensors.encode(array))


def _is_large(array: Array) -> bool:
    """Say whether *array* goes into a file: too much to read, or with NaN, for which Python has no literal."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return True
    return array.size * 2 > MOST_INLINE_BYTES or len(str(_listed(array))) > MOST_INLINE_BYTES


def _is_inline(value: bytes) -> bool:
    return len(value) <= _MOST_INLINE_STRING


def _array_file(call: Call, name: str) -> str:
    return f"requests/{call.signature}.{_file_part(name)}.npy"


def _bytes_file(call: Call, name: str, place: int, value: bytes) -> str:
    ending = next((ending for sign, ending in _SIGNS.items() if value.startswith(sign)), "bin")
    number = f".{place}" if place else ""
    return f"requests/{call.signature}.{_file_part(name)}{number}.{ending}"


def _file_part(name: str) -> str:
    """Make a part of a file's name from a feature's, which may be anything."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "_" for c in name)


def _given(call: Call) -> dict[str, Array]:
    """Give what programs write down: the inputs of *call*, and of those that are tf.Examples the features."""
    found: dict[str, Array] = {}
    for name, array in call.inputs.items():
        found |= _features_of(array[0]) if name in call.examples else {name: array}
    return found


def _features_of(serialized: bytes) -> dict[str, Array]:
    """Read a tf.Example: feature -> its values, flat; strings are objects (bytes). One without values is left out."""
    example = messages.Example.FromString(serialized)
    dtypes = {"bytes_list": object, "float_list": np.float32, "int64_list": np.int64}
    found: dict[str, Array] = {}
    for name in sorted(example.features.feature):
        feature = example.features.feature[name]
        kind = feature.WhichOneof("kind")
        if kind and (values := list(getattr(feature, kind).value)):
            found[name] = np.array(values, dtypes[kind])
    return found

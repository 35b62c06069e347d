"""JSON Schemas (draft 2020-12) of the bodies that go over REST, from the signatures of a contract."""

from collections.abc import Mapping, Sequence
from typing import Any

from slipway.contract import (
    DEFAULT_SIGNATURE,
    ROWS,
    ClassifySignature,
    Contract,
    OutputContract,
    PredictSignature,
    RegressSignature,
    TensorContract,
    example_dtype,
)
from slipway_wire import dtypes

Schema = dict[str, Any]

# A string, or any bytes. Source: TF Serving's REST API, "Encoding binary values".
STRING: Schema = {
    "anyOf": [
        {"type": "string"},
        {
            "type": "object",
            "properties": {"b64": {"type": "string", "contentEncoding": "base64", "description": "Standard alphabet."}},
            "required": ["b64"],
            "additionalProperties": False,
        },
    ]
}
_FLOATS = {"float16": "float", "float32": "float", "float64": "double"}


def requests(contract: Contract, name: str) -> dict[str, Schema]:
    """
    Describe the bodies that signature *name* takes.

    Returns:
        Component's name -> schema: `NAME.rows` and `NAME.columns`, or `NAME.examples`; none if the method has no form
        in JSON for a dtype of the signature.
    """
    signature = contract.signatures[name]
    if not isinstance(signature, PredictSignature):
        return {f"{name}.examples": _examples(contract, name, signature)}
    if not has_json(signature.inputs) or not has_json(signature.outputs):
        return {}
    rows = _named(signature.inputs, inner=True)
    columns = _named(signature.inputs, inner=False)
    if len(signature.inputs) == 1:
        (only,) = signature.inputs
        rows = {"anyOf": [rows["properties"][only], rows]}
        columns = {"anyOf": [columns["properties"][only], columns]}
    return {
        f"{name}.rows": _body(name, "instances", {"type": "array", "items": rows, "minItems": 1}),
        f"{name}.columns": _body(name, "inputs", columns),
    }


def responses(contract: Contract, name: str) -> dict[str, Schema]:
    """
    Describe the bodies that signature *name* is answered with.

    Returns:
        Component's name -> schema: `NAME.predictions` and `NAME.outputs`, or `NAME.results`.
    """
    signature = contract.signatures[name]
    match signature:
        case ClassifySignature():
            label: Schema = {"type": "string", "enum": list(contract.classes(signature))}
            pair = {"type": "array", "prefixItems": [label, {"type": "number"}], "minItems": 2, "maxItems": 2}
            return {f"{name}.results": _object({"results": _list({"type": "array", "items": pair})})}
        case RegressSignature():
            return {f"{name}.results": _object({"results": _list({"type": "number"})})}
    if not has_json(signature.inputs) or not has_json(signature.outputs):
        return {}
    rows = _named(signature.outputs, inner=True)
    columns = _named(signature.outputs, inner=False)
    if len(signature.outputs) == 1:
        # A single output goes without its name.
        (rows,), (columns,) = rows["properties"].values(), columns["properties"].values()
    return {
        f"{name}.predictions": _object({"predictions": _list(rows)}),
        f"{name}.outputs": _object({"outputs": columns}),
    }


def has_json(tensors: Mapping[str, TensorContract]) -> bool:
    """Say whether JSON carries the dtypes of all *tensors*: TF Serving has nothing for uint16."""
    return all(dtypes.from_name(tensor.dtype).json is not None for tensor in tensors.values())


def tensor(contract: TensorContract, *, inner: bool) -> Schema:
    """
    Describe nested lists of one tensor.

    Args:
        contract: Its dtype, shape and range.
        inner: One row alone, without the first dimension.
    """
    shape = contract.shape[1:] if inner else contract.shape
    schema = _element(contract)
    for size in reversed(shape):
        schema = {"type": "array", "items": schema}
        if isinstance(size, int):
            schema |= {"minItems": size, "maxItems": size}
    return schema | {"description": _describe(contract, shape)}


def _element(contract: TensorContract) -> Schema:
    if contract.dtype == "string":
        return dict(STRING)
    if contract.dtype == "bool":
        return {"type": "boolean"}
    # Rounding may carry a float32 output a little over its bounds, which no caller should stumble over.
    bounds = None if isinstance(contract, OutputContract) and contract.dtype in _FLOATS else contract.range
    if contract.dtype in _FLOATS:
        schema: Schema = {"type": "number", "format": _FLOATS[contract.dtype]}
        return schema | ({"minimum": bounds[0], "maximum": bounds[1]} if bounds else {})
    bits = int(contract.dtype.lstrip("uint"))
    least, greatest = (0, 2**bits - 1) if contract.dtype.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    if bounds:
        least, greatest = max(least, int(bounds[0])), min(greatest, int(bounds[1]))
    return {"type": "integer", "format": contract.dtype, "minimum": least, "maximum": greatest}


def _describe(contract: TensorContract, shape: Sequence[int | str]) -> str:
    said = [f"{contract.dtype} [{', '.join(map(str, shape))}]"]
    if symbols := [str(size) for size in shape if isinstance(size, str) and size != ROWS]:
        said.append(f"{' and '.join(dict.fromkeys(symbols))} may vary but must agree wherever it stands in one request")
    if contract.range:
        said.append(f"{contract.range[0]:g} to {contract.range[1]:g}")
    if contract.units:
        said.append(f"in {contract.units}")
    if isinstance(contract, OutputContract):
        said += [contract.meaning] if contract.meaning else []
        said += [f"the last axis adds up to {contract.row_sum:g}"] if contract.row_sum is not None else []
    text = "; ".join(said)
    return f"{contract.doc.rstrip('.')} ({text})." if contract.doc else f"{text}."


def _named(tensors: Mapping[str, TensorContract], *, inner: bool) -> Schema:
    return _object({name: tensor(contract, inner=inner) for name, contract in tensors.items()})


def _object(properties: Mapping[str, Schema]) -> Schema:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _body(name: str, key: str, values: Schema) -> Schema:
    """Describe a body; who names no signature asks for the default one."""
    is_default = name == DEFAULT_SIGNATURE
    schema = _object({"signature_name": {"enum": [name, ""] if is_default else [name]}, key: values})
    return schema | {"required": [key] if is_default else ["signature_name", key]}


def _examples(contract: Contract, name: str, signature: ClassifySignature | RegressSignature) -> Schema:
    features = {}
    forms = contract.feature_forms(signature.features)
    for input_name, form in forms.items():
        given, feature = contract.default.inputs[input_name], form.feature or input_name
        kind = "string" if form.image is not None or form.vocabulary is not None else example_dtype(given.dtype)
        element: Schema = {"float32": {"type": "number"}, "int64": {"type": "integer"}, "string": STRING}[kind]
        if given.range and kind != "string":
            element = element | {"minimum": given.range[0], "maximum": given.range[1]}
        count = 1
        for size in () if form.image is not None else given.shape[1:]:
            count *= size if isinstance(size, int) else 1
        if form.pad is not None:
            what = f"any × {kind}, padded to the longest of the request: {_describe(given, given.shape[1:])}"
            features[feature] = {"type": "array", "items": element, "description": what}
            continue
        flat: Schema = {"type": "array", "items": element, "minItems": count, "maxItems": count}
        # A number without a point is an int64 feature, whatever the model expects.
        point = ", each with a decimal point (1.0, not 1)" if kind == "float32" else ""
        described = "an encoded picture" if form.image is not None else _describe(given, given.shape[1:])
        told = {"description": f"{count} × {kind}{point}: {described}"}
        values: Schema = {"anyOf": [element, flat]} if count == 1 else flat
        features[feature] = values | told
    example = _object(features) if forms else {"type": "object"}
    may_lack = {f.feature or name for name, f in forms.items() if f.default is not None or f.pad is not None}
    if may_lack:
        example = example | {"required": [name for name in features if name not in may_lack]}
    whole = _object({"signature_name": {"enum": [name]}, "examples": {**_list(example), "minItems": 1}})
    return whole | {"required": ["signature_name", "examples"]}

"""One call of each signature: a golden row as a request in every form that goes over the wire, and its golden answer."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
from google.protobuf import json_format

from slipway.answers import expected
from slipway.contract import DEFAULT_SIGNATURE, Contract, PredictSignature, Signature
from slipway.golden import Golden
from slipway.rows import has_golden_rows, rows_for
from slipway_wire import inference, json_examples, json_predict, messages, paths, predict, tensors
from slipway_wire.inference import Classification, Regression
from slipway_wire.paths import PostVerb
from slipway_wire.status import InvalidArgument

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Call:
    """
    A request and, where it is known, its answer.

    Attributes:
        model: Name of the model.
        signature: Name of the signature.
        method: How it is called.
        inputs: Name -> array of shape [rows, …], as in the SignatureDef; for classify and regress `inputs`, serialized
            tf.Examples of shape [rows].
        outputs: Name -> array of shape [rows, …], as in the SignatureDef; None where golden data have no answer.
        examples: Inputs that are serialized tf.Examples.
    """

    model: str
    signature: str
    method: PostVerb
    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array] | None
    examples: frozenset[str] = frozenset()

    @property
    def rest_path(self) -> str:
        """Path of the POST, for the version that the server chooses."""
        return paths.rest_path(self.model, self.method)

    @property
    def grpc_method(self) -> str:
        """Full name of the gRPC method, as grpcurl wants it: without the slash in front."""
        return paths.GRPC_METHODS[self.method].removeprefix("/")

    @property
    def sent_signature(self) -> str:
        """The signature as it is sent: the default of Predict goes unnamed."""
        return "" if self.method == "predict" and self.signature == DEFAULT_SIGNATURE else self.signature

    def row_request(self) -> bytes | None:
        """Write the REST body: `instances` or `examples`; None if JSON has no such type."""
        if self.method != "predict":
            return json_examples.encode_request(self.inputs["inputs"].tolist(), signature_name=self.sent_signature)
        return self._predict_body(row_format=True)

    def columnar_request(self) -> bytes | None:
        """Write the REST body with `inputs`; None if JSON has no such type, or the method no such form."""
        return self._predict_body(row_format=False) if self.method == "predict" else None

    def _predict_body(self, *, row_format: bool) -> bytes | None:
        try:
            return json_predict.encode_request(self.inputs, row_format=row_format, signature_name=self.sent_signature)
        except InvalidArgument:
            return None

    def row_answer(self) -> bytes | None:
        """Write what the server answers to `row_request`; None if nobody knows."""
        if self.outputs is None:
            return None
        if self.method == "classify":
            return json_examples.encode_classify_response(
                Classification(self.outputs[inference.CLASSES], self.outputs[inference.SCORES])
            )
        if self.method == "regress":
            return json_examples.encode_regress_response(Regression(self.outputs[inference.OUTPUTS]))
        return self._predict_answer(row_format=True)

    def columnar_answer(self) -> bytes | None:
        """Write what the server answers to `columnar_request`; None if nobody knows."""
        return self._predict_answer(row_format=False) if self.method == "predict" else None

    def _predict_answer(self, *, row_format: bool) -> bytes | None:
        if self.outputs is None:
            return None
        # A server gives outputs in the order of their names: a SignatureDef has no other.
        named = {name: self.outputs[name] for name in sorted(self.outputs)}
        try:
            return json_predict.encode_response(named, row_format=row_format)
        except InvalidArgument:
            return None

    def grpc_request(self) -> bytes:
        """Write the serialized PredictRequest, ClassificationRequest or RegressionRequest."""
        if self.method == "predict":
            return predict.encode_request(self.model, self.inputs, signature_name=self.sent_signature)
        return inference.encode_request(self.model, self.inputs["inputs"].tolist(), signature_name=self.sent_signature)

    def grpcurl_request(self) -> bytes:
        """Write `grpc_request` as the JSON that grpcurl reads, numbers in the typed fields, where people can read them."""
        if self.method == "predict":
            message = messages.PredictRequest.FromString(self.grpc_request())
            for name, array in self.inputs.items():
                message.inputs[name].CopyFrom(tensors.to_proto(array, as_content=False))
        else:
            message = messages.ClassificationRequest.FromString(self.grpc_request())
        document = json_format.MessageToDict(message, descriptor_pool=messages.POOL)
        return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def calls(contract: Contract, golden: Golden, model: str) -> list[Call]:
    """Make a call of one row for each signature of *contract*, in its order."""
    return [
        Call(
            model=model,
            signature=name,
            method=signature.method,
            inputs=rows_for(contract, name, 1, golden),
            outputs=answers(contract, name, golden, 1),
            examples=_examples(signature),
        )
        for name, signature in contract.signatures.items()
    ]


def _examples(signature: Signature) -> frozenset[str]:
    if not isinstance(signature, PredictSignature):
        return frozenset({inference.INPUTS})
    return frozenset(n for n, tensor in signature.inputs.items() if tensor.example or tensor.features is not None)


def answers(contract: Contract, name: str, golden: Golden, rows: int) -> dict[str, Array] | None:
    """
    Give the golden answers to the first *rows* golden rows, as signature *name* gives them.

    Returns:
        Output name -> array of shape [rows, …]; None if golden data lack an input or an output.
    """
    known = expected(contract, name, golden) if has_golden_rows(contract, name, golden) else {}
    promised = contract.outputs_of(name)
    if not promised.keys() <= known.keys():
        return None
    signature = contract.signatures[name]
    are_rows = not isinstance(signature, PredictSignature) or signature.batched
    return {output: known[output][: rows if are_rows else None] for output in promised}

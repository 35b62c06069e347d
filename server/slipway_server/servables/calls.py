"""From a decoded request to what is fed and fetched; the same for a client's requests and for warm-up records."""

from collections.abc import Callable, Mapping

from slipway_server.servables.loader import Call
from slipway_wire import inference
from slipway_wire.inference import ExamplesRequest, MultiInferenceRequest
from slipway_wire.predict import PredictRequest
from slipway_wire.signatures import CLASSIFY, Signature, check_inputs, check_output_filter
from slipway_wire.status import FailedPrecondition

Signatures = Mapping[str, Signature]


def predict_call(request: PredictRequest, signatures: Signatures) -> Call:
    """
    Match a Predict request with the signatures of the servable that is to answer.

    Raises:
        FailedPrecondition: There is no such signature.
        InvalidArgument: Its inputs or its output filter do not fit.

    Source of the order and texts: tensorflow_serving/servables/tensorflow/predict_util.cc.
    """
    key = request.spec.signature_key
    signature = signatures.get(key)
    if signature is None:
        raise FailedPrecondition(f'Serving signature key "{key}" not found.')
    return Call(key, check_inputs(signature, request.inputs), check_output_filter(signature, request.output_filter))


def classify_call(request: ExamplesRequest, signatures: Signatures) -> Call:
    """Match a Classify request with the signatures; InvalidArgument or FailedPrecondition if it does not fit."""
    return _examples_call(request, signatures, inference.check_classify_signature)


def regress_call(request: ExamplesRequest, signatures: Signatures) -> Call:
    """Match a Regress request with the signatures; InvalidArgument or FailedPrecondition if it does not fit."""
    return _examples_call(request, signatures, inference.check_regress_signature)


def _examples_call(
    request: ExamplesRequest, signatures: Signatures, outputs_of: Callable[[Signature], tuple[str, ...]]
) -> Call:
    signature = inference.find_signature(signatures, request.spec.signature_key)
    return Call(signature.name, {inference.INPUTS: request.tensor()}, outputs_of(signature))


def inference_calls(request: MultiInferenceRequest, signatures: Signatures) -> list[Call]:
    """Match each task of a MultiInference request with the signatures, as Classify or Regress."""
    return [
        (classify_call if task.method == CLASSIFY else regress_call)(
            ExamplesRequest(task.spec, request.examples), signatures
        )
        for task in request.tasks
    ]

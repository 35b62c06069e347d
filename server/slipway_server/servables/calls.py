"""From a decoded request to what is fed and fetched; the same for a client's requests and for warm-up records."""

from collections.abc import Callable, Mapping

from slipway_server.servables.loader import Call, JointCall
from slipway_wire import inference
from slipway_wire.inference import ExamplesRequest, MultiInferenceRequest
from slipway_wire.predict import PredictRequest
from slipway_wire.signatures import CLASSIFY, PREDICT, REGRESS, Signature, check_inputs, check_output_filter
from slipway_wire.status import FailedPrecondition, Internal, InvalidArgument

_METHODS = {"Predict": (PREDICT, CLASSIFY, REGRESS), "Classify": (CLASSIFY,), "Regress": (REGRESS,)}

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
    """Match a Classify request with the signatures; InvalidArgument if it does not fit."""
    return _examples_call(request, signatures, inference.check_classify_signature)


def regress_call(request: ExamplesRequest, signatures: Signatures) -> Call:
    """Match a Regress request with the signatures; InvalidArgument if it does not fit."""
    return _examples_call(request, signatures, inference.check_regress_signature)


def _examples_call(
    request: ExamplesRequest, signatures: Signatures, outputs_of: Callable[[Signature], tuple[str, ...]]
) -> Call:
    signature = inference.find_signature(signatures, request.spec.signature_key)
    outputs = outputs_of(signature)
    return Call(signature.name, {inference.INPUTS: request.tensor()}, outputs)


def check_method(api: str, signature: Signature | None) -> None:
    """
    Compare the method for which a signature was exported with the one by which it is called.

    Args:
        api: Predict, Classify or Regress; others are not checked here.
        signature: None: there is no such signature, which is told elsewhere.

    Raises:
        Internal: It is none that Predict may run.
        InvalidArgument: It is none for Classify, or Regress.

    Source: VerifySignature in predict_util.cc, PreProcessClassification in classifier.cc, PreProcessRegression in
    regressor.cc (tensorflow_serving/servables/tensorflow).
    """
    if signature is None or api not in _METHODS or signature.method in _METHODS[api]:
        return
    if api == "Predict":
        raise Internal(
            f"Expected prediction signature method_name to be one of {{{', '.join(_METHODS[api])}}}. "
            f"Was: {signature.method}"
        )
    kind = "classification" if api == "Classify" else "regression"
    raise InvalidArgument(f"Expected {kind} signature method_name to be {_METHODS[api][0]}. Was: {signature.method}")


def inference_call(
    request: MultiInferenceRequest, signatures: Signatures, *, checks_method_names: bool = False
) -> JointCall:
    """
    Match the tasks of a MultiInference request with the signatures, each as Classify or Regress.

    Raises:
        InvalidArgument: Tasks that cannot run together, a signature that does not fit, no examples.
        Unimplemented: A task's method is neither classify nor regress.
    """
    outputs = inference.check_tasks(request, signatures)
    for task in request.tasks if checks_method_names else ():
        check_method("Classify" if task.method == CLASSIFY else "Regress", signatures[task.spec.signature_key])
    inputs = {inference.INPUTS: request.tensor()}
    return JointCall(
        tuple(
            [Call(task.spec.signature_key, inputs, names) for task, names in zip(request.tasks, outputs, strict=True)]
        )
    )

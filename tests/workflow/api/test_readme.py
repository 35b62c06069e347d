from tests.workflow import served_models as served

from slipway.api.readme import readme
from slipway.api.snippets import Addresses, snippets


def page(called):
    written = {call.signature: snippets(call, Addresses()) for call in called}
    return readme(served.digits_contract(), called, written, version=2, addresses=Addresses())


def test_every_signature_has_its_tensors_and_its_answer(digits):
    text = page(list(digits.values()))

    assert text.startswith("# How to call digits\n\nTells digits by the nearest mean image.")
    assert "## serving_default (predict)\n\nScores of all digits." in text
    assert "| `image` | float32 | [N, 64] | grey values; 0 … 1 |" in text
    assert "probability" in text
    assert digits["classify"].row_answer().decode() in text
    assert "localhost:8500 tensorflow.serving.PredictionService/Classify < requests/classify.grpcurl.json" in text


def test_an_answer_that_nobody_knows_is_left_out(digits):
    import dataclasses

    unknown = [dataclasses.replace(call, outputs=None) for call in digits.values()]

    assert "The answer of version" in page(list(digits.values()))
    assert "The answer of version" not in page(unknown)

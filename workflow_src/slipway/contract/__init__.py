"""
The contract: what a model promises to whoever calls it, as one YAML file.

It defines the signatures that `slipway export` writes, and the same promises drive validation, warm-up
records, request bodies and the load. It knows no TensorFlow: sizes, dtypes and names are all there is.
`config/contract.schema.json` is generated from `Contract`.
"""

from slipway.contract.forms import ExampleFeature, FeatureForm, ImageForm
from slipway.contract.signatures import (
    DEFAULT_SIGNATURE,
    ClassifySignature,
    Determinism,
    PredictSignature,
    RegressSignature,
    Signature,
    SignatureName,
)
from slipway.contract.tensors import (
    ROWS,
    Dtype,
    InputContract,
    OutputContract,
    TensorContract,
    TensorName,
    example_dtype,
)
from slipway.contract.whole import FORBIDDEN_OPS, Contract, GoldenContract, ProbeContract, read_contract
from slipway.contract.words import Vocabulary, Words, WordsDigest

__all__ = [
    "DEFAULT_SIGNATURE",
    "FORBIDDEN_OPS",
    "ROWS",
    "ClassifySignature",
    "Contract",
    "Determinism",
    "Dtype",
    "ExampleFeature",
    "FeatureForm",
    "GoldenContract",
    "ImageForm",
    "InputContract",
    "OutputContract",
    "PredictSignature",
    "ProbeContract",
    "RegressSignature",
    "Signature",
    "SignatureName",
    "TensorContract",
    "TensorName",
    "Vocabulary",
    "Words",
    "WordsDigest",
    "example_dtype",
    "read_contract",
]

"""
The contract: what a model promises to whoever calls it, as one YAML file.

It defines the signatures that `slipway export` writes, and the same promises drive validation, warm-up
records, request bodies and the load. It knows no TensorFlow: sizes, dtypes and names are all there is.
`config/contract.schema.json` is generated from `Contract`.
"""

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

__all__ = [
    "DEFAULT_SIGNATURE",
    "FORBIDDEN_OPS",
    "ROWS",
    "ClassifySignature",
    "Contract",
    "Determinism",
    "Dtype",
    "GoldenContract",
    "InputContract",
    "OutputContract",
    "PredictSignature",
    "ProbeContract",
    "RegressSignature",
    "Signature",
    "SignatureName",
    "TensorContract",
    "TensorName",
    "example_dtype",
    "read_contract",
]

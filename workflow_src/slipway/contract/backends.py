"""Whether a server can run what a contract promises with the backend that it is told to have; before anything is built."""

from slipway.contract.signatures import PredictSignature
from slipway.contract.tensors import ROWS
from slipway.contract.whole import Contract
from slipway.errors import SettingsError
from slipway.settings import ServerSettings


def check_backend(model: str, contract: Contract, server: ServerSettings, section: str = "server") -> None:
    """
    Raise SettingsError, one line per fault, if *server* would run StableHLO and *contract* has what XLA cannot compile.

    Args:
        model: Name of the model.
        contract: What it promises.
        server: How the server in its image runs.
        section: What the config calls that.
    """
    if server.backend != "stablehlo":
        return
    if faults := [f"{section}.backend: stablehlo: {model}'s {fault}" for fault in compile_faults(contract)]:
        raise SettingsError("\n".join(faults))
    sizes = server.sizes_to_compile()
    most = server.batching.max_batch_size if server.batching else None
    if most is not None and sizes[-1] < most:
        raise SettingsError(
            f"{section}.compiled_batch_sizes: must reach batching.max_batch_size, {most}; the largest is {sizes[-1]}"
        )


def compile_faults(contract: Contract) -> list[str]:
    """Say, one line for each signature at fault, what XLA cannot compile whatever the model is."""
    return [
        f"signature {name} {fault}. Leave the signature out of the contract, or serve it with backend: saved_model"
        for name in contract.signatures
        if (fault := _fault(contract, name))
    ]


def _fault(contract: Contract, name: str) -> str:
    signature = contract.signatures[name]
    if not isinstance(signature, PredictSignature):
        return f"has the method {signature.method}, whose tf.Examples are strings, which XLA does not have"
    for kind, tensors in (("input", contract.inputs_of(name)), ("output", contract.outputs_of(name))):
        for alias, tensor in tensors.items():
            if tensor.dtype == "string":
                return f"has the {kind} {alias} of strings, which XLA does not have"
            if odd := [size for size in tensor.shape if isinstance(size, str) and size != ROWS]:
                return f"has the {kind} {alias} with any size {odd[0]}, and XLA must know every size but the rows"
    return ""

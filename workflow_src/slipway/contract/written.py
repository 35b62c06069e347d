"""From the short ways to write a contract to the long one, before it is validated: aliases, and what is left out."""

from collections.abc import Mapping
from typing import Any

from slipway.contract.signatures import DEFAULT_SIGNATURE


def written_out(contract: Any) -> Any:
    """
    Put signatures in the place of their aliases, and give those that name no inputs or outputs the model's own.

    Args:
        contract: As read from YAML. What is not as it should be stays, for the validation to tell.

    Raises:
        ValueError: One line for each alias of what is not there.
    """
    if not isinstance(contract, Mapping) or not isinstance(contract.get("signatures"), Mapping):
        return contract
    written: Mapping[Any, Any] = contract["signatures"]
    signatures = {name: _behind(name, signature, written) for name, signature in written.items()}
    golden = contract.get("golden")
    own_name = golden.get("signature", DEFAULT_SIGNATURE) if isinstance(golden, Mapping) else DEFAULT_SIGNATURE
    own = signatures.get(own_name) if isinstance(own_name, str) else None
    if isinstance(own, Mapping):
        given = {side: own[side] for side in ("inputs", "outputs") if side in own}
        signatures = {
            name: _with_given(signature, given) if _is_predict(signature) else signature
            for name, signature in signatures.items()
        }
    return {**contract, "signatures": signatures}


def _behind(name: Any, signature: Any, written: Mapping[Any, Any]) -> Any:
    if not isinstance(signature, Mapping) or "alias" not in signature:
        return signature
    target = signature["alias"]
    if len(signature) > 1:
        raise ValueError(f"signatures.{name}: an alias has no other keys than `alias`")
    behind = written.get(target) if isinstance(target, str) else None
    if behind is None or (isinstance(behind, Mapping) and "alias" in behind):
        there = ", ".join(str(n) for n, s in written.items() if not (isinstance(s, Mapping) and "alias" in s))
        raise ValueError(f"signatures.{name}.alias: no signature {target}; there are: {there}")
    return behind


def _is_predict(signature: Any) -> bool:
    return isinstance(signature, Mapping) and signature.get("method") == "predict"


def _with_given(signature: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    return {**given, **signature}

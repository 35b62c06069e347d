"""Whether a server may put requests together as it is told to, by what a contract promises."""

from slipway.contract.signatures import PredictSignature
from slipway.contract.whole import Contract
from slipway.errors import SettingsError
from slipway.settings import ServerSettings


def check_batching(model: str, contract: Contract, server: ServerSettings, section: str = "server") -> None:
    """
    Raise SettingsError, one line per fault, if *server* would put rows together that *contract* keeps apart.

    A server that batches puts strangers' rows together, and pads with rows of its own. Batching is never turned off in
    silence: it is what the model is fast by, and whoever loses it must hear of it.

    Args:
        model: Name of the model.
        contract: What it promises.
        server: How the server in its image runs.
        section: What the config calls that.
    """
    faults = []
    other = "" if section != "server" else f" (for this model alone: models.{model}.server)"
    must_be_off = f"{section}.batching: must be null{other}: {model}'s signature"
    if server.batching is not None:
        faults += [
            f"{must_be_off} {name} is batched: false in its contract, so that no answer to a batch can be dealt out; or "
            "give its outputs rows, `from: tile(…)`"
            for name, signature in contract.signatures.items()
            if isinstance(signature, PredictSignature) and not signature.batched
        ]
    if mixing := [name for name in contract.signatures if not contract.rows_are_apart(name)]:
        if server.batching is not None:
            faults += [
                f"{must_be_off} {name} is row_independent: false in its contract, so that a batch of several requests "
                "would answer each of them otherwise"
                for name in mixing
            ]
        faults += [
            f"{section}.flags: {flag} must not be there, for the same reason: {model}'s contract says row_independent: false"
            for flag in server.flags
            if flag.split("=")[0].lstrip("-") == "enable_batching" and not flag.endswith(("=false", "=0"))
        ]
    most = server.batching.max_batch_size if server.batching else None
    if most is not None and contract.max_rows is not None and most > contract.max_rows:
        faults.append(
            f"{section}.batching.max_batch_size: must be at most {contract.max_rows}, the max_rows of {model}'s contract, got {most}"
        )
    if faults:
        raise SettingsError("\n".join(faults))

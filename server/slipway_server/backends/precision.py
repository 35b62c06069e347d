"""Whether a version may compute in bfloat16: only if its answers stay what they are, but for what that many digits allow."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

from slipway_server import memory
from slipway_server.backends import parity
from slipway_server.servables.loader import Call, Servable, Tensors
from slipway_wire.signatures import Signature
from slipway_wire.status import WireError

logger = logging.getLogger(__name__)

# bfloat16 has 8 bits of precision, and a deep net adds up many roundings. Held against the largest value of an output: what is
# next to nothing beside it, such as the odds of an unlikely class, may be off by more than itself.
_IS_SAME = parity.within(of_largest=2**-5)


def chosen(config: Any, opened: Callable[[Any], Servable], where: str) -> Any:
    """
    Return *config*, or a copy without bfloat16 if a version answers otherwise with it.

    Args:
        config: ConfigProto. If it does not ask for bfloat16, nothing is loaded.
        opened: Loads the version with a ConfigProto. What is loaded here is closed again, for requests may change its state.
        where: Names the version in the log.

    Raises:
        WireError: Of *opened*.
    """
    rewriter = config.graph_options.rewrite_options
    if rewriter.auto_mixed_precision_onednn_bfloat16 != type(rewriter).ON:
        return config
    precise = type(config)()
    precise.CopyFrom(config)
    precise.graph_options.rewrite_options.auto_mixed_precision_onednn_bfloat16 = type(rewriter).OFF
    before, after = _answers(opened(precise)), _answers(opened(config))
    try:
        checked = parity.check(before, after, _IS_SAME)
    except parity.AnotherAnswerError as error:
        logger.warning("%s: it computes as exported (--mixed_precision=bfloat16): %s", where, error)
        return precise
    logger.info(
        "%s: oneDNN may compute in bfloat16; signatures compared and found to answer as before: %d", where, checked
    )
    return config


def _answers(servable: Servable) -> parity.Answers:
    def ask(signature: Signature, inputs: Tensors) -> Sequence[Any] | None:
        try:
            outputs = servable.run(Call(signature.name, inputs, tuple(signature.outputs)))
        except WireError:
            return None
        return [outputs[alias] for alias in signature.outputs]

    try:
        return parity.answers(ask, list(servable.signatures.values()))
    finally:
        servable.close()
        memory.give_back()

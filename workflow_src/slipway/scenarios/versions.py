"""Versions of one model that a server has at the same time: requests for each, and the answers that each must give."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from slipway import clients, payloads
from slipway.contract import Contract
from slipway.errors import ServerError
from slipway.golden import Golden
from slipway_wire import payloads as wire_payloads
from slipway_wire.payloads import Payload
from slipway_wire.tolerances import Tolerances

# A version by its number, or by a label of it.
Pin = int | str


@dataclass(frozen=True, slots=True)
class Versions:
    """
    What a server has of the model.

    Attributes:
        asked: The version that is measured; None: it is not known.
        served: All of them, lowest first; none where the server does not say.
        labels: Label -> version; those that nobody told of are not in it.
        make: Requests of so many rows each for a version or a label, with the answers that it must give. Raises
            ServerError if the server refuses one.
        against: What the answers of a version are held against, in words.
        tolerances: How near they must come.
    """

    asked: int | None
    served: tuple[int, ...]
    labels: Mapping[str, int]
    make: Callable[[Pin, int], Sequence[Payload]]
    against: Callable[[Pin], str]
    tolerances: Tolerances

    def are_alike(self, one: Sequence[Payload], other: Sequence[Payload]) -> bool:
        """Say whether an answer that is right for one of two versions is right for the other, for every request."""
        return all(_is_near(mine, theirs, self.tolerances) for mine, theirs in zip(one, other, strict=True))


def _is_near(one: Payload, other: Payload, tolerances: Tolerances) -> bool:
    if one.expected is None or other.expected is None or one.expected.keys() != other.expected.keys():
        return one.expected is None or other.expected is None
    return all(
        tolerances.of(one.spec.signature_key, name).difference(array, other.expected[name]) is None
        for name, array in one.expected.items()
    )


@dataclass(frozen=True, slots=True)
class GoldenVersions:
    """
    Requests for the versions of an image that the line made.

    Attributes:
        grpc: `host:port` of the server, which is asked for what no golden data say.
        model: Name of the model.
        contract: Of the model.
        asked: The version that is measured.
        goldens: Version -> its golden data.
        labels: Label -> version.
        signature: That the load calls; None: see `payloads.from_golden`.
    """

    grpc: str
    model: str
    contract: Contract
    asked: int
    goldens: Mapping[int, Golden]
    labels: Mapping[str, int]
    signature: str | None

    def make(self, pin: Pin, rows: int) -> Sequence[Payload]:
        """
        Make requests of *rows* golden rows of the measured version each: every version is asked the same.

        Raises:
            ServerError: The server does not answer one of them.
        """
        version = self.labels[pin] if isinstance(pin, str) else pin
        known = self._is_known(version)
        data = self.goldens[version if known else self.asked]
        sent = payloads.from_golden(
            data, self.contract, model=self.model, version=version, signature=self.signature, rows=rows
        )
        if not known:
            sent = [self._answered(payload) for payload in sent]
        return [by_label(payload, pin) for payload in sent] if isinstance(pin, str) else sent

    def against(self, pin: Pin) -> str:
        """Say what the answers of a version are held against."""
        version = self.labels[pin] if isinstance(pin, str) else pin
        return "its own golden answers" if self._is_known(version) else "its own answers before the load"

    def _is_known(self, version: int) -> bool:
        """Say whether the golden data of *version* have the rows that are sent."""
        data, own = self.goldens.get(version), self.goldens[self.asked].inputs
        if data is None or data.inputs.keys() != own.keys():
            return False
        return all(np.array_equal(data.inputs[name], array) for name, array in own.items())

    def _answered(self, payload: Payload) -> Payload:
        answer = clients.call(self.grpc, payload.grpc_method, payload.grpc_message)
        try:
            return replace(payload, expected=wire_payloads.decode_grpc_answer(payload, answer))
        except ValueError as error:
            raise ServerError(f"{self.grpc}: version {payload.spec.version}: {error}") from error


def by_label(payload: Payload, label: str | None) -> Payload:
    """Give *payload* as it asks the version with *label* instead of one by its number; None: whichever is the newest."""
    return wire_payloads.make(
        payload.spec.name,
        payload.inputs,
        payload.expected,
        label=label,
        signature_name=payload.spec.signature_name,
        method=payload.method,
    )

"""
Requests that come together go on together: one call of the model, one place in the queue, one entry in the books.

What a client's burst brings, or a turn of the event loop, is mostly alike: the same model and signature, tensors of the same shape.
To find the version, to queue, to hand over to a batch thread and back, and to count costs as much for one request as for sixty,
and is most of what a small one costs. The batcher would join their rows a moment later anyway.

Each is still answered, cancelled, timed and counted by itself. What does not go well together begins again alone, and is told there
what is wrong with it: a request that does not fit, a queue without room for all, a run that one of them has made fail.
"""

import asyncio
import math
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Executor, Future
from functools import partial
from itertools import accumulate
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from slipway_server.batching.scheduler import Answer
from slipway_server.batching.tensors import count_rows
from slipway_server.config_files import BatchingPolicy
from slipway_server.metrics import RequestKind
from slipway_server.servables.calls import Signatures, check_method
from slipway_server.servables.loader import Call, Tensors
from slipway_server.servables.manager import Handle
from slipway_server.serving import Api, Serving, request_kind, served_spec
from slipway_server.serving import Protocol as Wire
from slipway_server.transports.waiting import Arrivals, Overdue, Timeout
from slipway_wire.model_spec import ModelSpec
from slipway_wire.status import Code, WireError

C = TypeVar("C")

_Waits = tuple[float | None, float | None, float | None]
"""Seconds in the stages between parsing and encoding; see `metrics.STAGES`."""


# Turns of the event loop for which requests wait for others: a few microseconds each, and none for a request that is alone. But
# what takes long to read is not to keep batch threads idle meanwhile, nor is anybody to wait where a turn takes long.
_MAX_TURNS = 8
_MAX_BYTES = 128 * 1024
_MAX_WAIT_S = 0.001


class Reply(Protocol):
    """The way back to whoever sent a request."""

    def answer(self, body: bytes, spec: ModelSpec) -> None:
        """Send *body*, the answer of the version that *spec* names."""

    def refuse(self, error: BaseException) -> None:
        """Say that there will be no answer."""

    def alone(self) -> None:
        """Begin again, as a request that came by itself."""


class Form(Protocol):
    """What requests have in common of which only the values differ, those of one request together being anything."""

    @property
    def rows(self) -> int:
        """Rows of each; 0 if they have none."""

    def fits(self, inputs: Tensors) -> bool:
        """Say whether *inputs*, all that the model is fed, can be what a request of this form brings."""

    def joined(self, values: Sequence[Any], like: Tensors) -> Tensors:
        """
        Read the inputs of requests whose *values* these are, joined along axis 0.

        Args:
            values: Of each request.
            like: What one of them brings, which `fits`.

        Raises:
            Exception: Some of them are no values.
        """


class Member(Generic[C]):
    """One of the requests that go together."""

    __slots__ = ("_reply", "began", "context", "form", "group", "inputs", "rows", "size", "values")

    def __init__(
        self,
        group: "_Group[C]",
        began: float,
        reply: Reply,
        context: C,
        size: int,
        form: Form | None,
        values: Any,
        inputs: Tensors | None,
        rows: int,
    ) -> None:
        self.group = group
        self.began = began
        # Who is told knows this place, to leave it: what refers to itself only the collector would free.
        self._reply: Reply | None = reply
        self.context = context
        self.size = size
        self.form = form
        self.values = values
        self.inputs = inputs
        """None: they are to be read from the values."""
        self.rows = rows

    @property
    def is_wanted(self) -> bool:
        """Whether somebody waits for its answer."""
        return self._reply is not None

    def part(self) -> Reply:
        """Take leave of a request that is wanted: return whom to tell what came of it."""
        reply, self._reply = self._reply, None
        assert reply is not None
        return reply

    def cancel(self) -> None:
        """Take note that nobody waits for its answer any more."""
        self.group.gathering.drop(self)


class _Group(Generic[C]):
    """Requests that are alike, and what becomes of them."""

    __slots__ = (
        "call",
        "deadline",
        "form",
        "future",
        "gathering",
        "has_entered",
        "kind",
        "members",
        "policy",
        "rows",
        "spec",
        "submitted",
        "waits_s",
    )

    def __init__(
        self,
        gathering: "Gathering[C]",
        call: Call,
        form: Form | None,
        kind: RequestKind,
        spec: ModelSpec,
        policy: BatchingPolicy | None,
    ) -> None:
        self.gathering = gathering
        self.call = call
        self.form = form
        self.policy = policy
        self.kind = kind
        self.spec = spec
        self.members: list[Member[C]] = []
        self.rows = 0
        self.deadline = 0.0
        self.has_entered = False
        self.submitted = 0.0
        self.future: Future[Answer] | None = None
        self.waits_s: _Waits = None, None, None
        """Once the model has answered."""

    def wanted(self) -> list[Member[C]]:
        return [member for member in self.members if member.is_wanted]


class _Lot(Generic[C]):
    """All requests for one version that have come in this turn."""

    __slots__ = ("all", "handle", "largest", "of_form", "open", "signatures")

    def __init__(self, handle: Handle, largest: int) -> None:
        self.handle = handle
        self.signatures: Signatures = handle.servable.signatures
        self.largest = largest
        """Rows that may go together."""
        self.open: dict[Hashable, _Group[C]] = {}
        self.of_form: dict[Form, _Group[C]] = {}
        """The same, by what need not be decoded to know where it belongs."""
        self.all: list[_Group[C]] = []


class Gathering(Generic[C]):
    """Where requests of one method wait for others, for a few turns of the event loop; used from its thread."""

    def __init__(
        self,
        serving: Serving,
        arrivals: Arrivals,
        *,
        protocol: Wire,
        api: Api,
        write: Callable[[ModelSpec, Tensors, C], bytes],
        is_large: Callable[[Tensors], bool],
        codec_threads: Executor,
        write_all: Callable[[ModelSpec, Tensors, Sequence[int], Sequence[C]], Sequence[bytes] | None] | None = None,
        timeout: Timeout | None = None,
    ) -> None:
        """
        Begin with nothing.

        Args:
            serving: What answers.
            arrivals: Brings its answers to the loop.
            protocol: How the requests come.
            api: Their method.
            write: From who serves, the outputs and what `take` was given to the bytes of an answer.
            is_large: Says whether outputs take so long to write that others should not wait for it.
            codec_threads: Write them then.
            write_all: As *write*, for several requests, whose rows stand one behind the other: given the rows of each, and what each
                gave to `take`; None where each is to be written by itself.
            timeout: For how long requests are worked on; without one, each has its own.
        """
        self._serving = serving
        self._arrivals = arrivals
        self._protocol: Wire = protocol
        self._api: Api = api
        self._write = write
        self._write_all = write_all
        self._is_large = is_large
        self._codec_threads = codec_threads
        self._timeout = timeout
        self._lots: dict[ModelSpec, _Lot[C]] = {}
        # How many requests they hold, and bytes of them.
        self._taken = self._taken_bytes = 0
        # When the first of them came (monotonic, s).
        self._since = 0.0
        # Most of a turn asks for the same: the very same object, for what clients repeat is remembered as what it means.
        self._last: tuple[ModelSpec | None, _Lot[C] | None] = None, None

    # What comes in.

    @property
    def is_open(self) -> bool:
        """Whether any request may go together with others: if not, it need not be read to find out."""
        return not self._serving.observers and self._serving.may_join

    def take(
        self,
        spec: ModelSpec,
        decode: Callable[[Signatures], Call],
        reply: Reply,
        context: C,
        *,
        size: int,
        began: float,
        timeout_s: float = math.inf,
        form: Form | None = None,
        values: Any = None,
    ) -> Member[C] | None:
        """
        Take one request in, to go on in a turn of the loop after this one, with all that have come by then.

        Args:
            spec: As the caller sent it.
            decode: See `Exchange.start`.
            reply: Is told what came of it, once, and not before that turn; unless it is cancelled.
            context: What is needed to write its answer.
            size: Of its body, in bytes.
            began: When it came, monotonic, s.
            timeout_s: For how long, from then on, somebody waits for the answer.
            form: That of the request, if it has one that is known.
            values: Then, what is its own.

        Returns:
            None if it is to go alone, with whatever is wrong with it.
        """
        serving = self._serving
        if serving.observers:
            return None
        last, lot = self._last
        if last is not spec or lot is None:
            lot = self._lots.get(spec) or self._open(spec)
            if lot is None:
                return None
            self._last = spec, lot
        group = lot.of_form.get(form) if form is not None else None
        inputs: Tensors | None = None
        if group is not None and form is not None and group.rows + form.rows <= lot.largest:
            # What was found right with another one of this form is right with this one.
            rows = form.rows
        else:
            try:
                if serving.checks_method_names:
                    check_method(self._api, lot.signatures.get(spec.signature_key))
                call = decode(lot.signatures)
                rows = count_rows(call.inputs)
            except Exception:
                # It is told what is wrong where it goes alone.
                return None
            if not 0 < rows <= lot.largest:
                return None
            inputs = call.inputs
            group = lot.open.get(key := _likeness(call))
            if form is not None and not (form.rows and form.fits(inputs)):
                form = None
            if group is None or group.rows + rows > lot.largest:
                group = lot.open[key] = self._begin(lot, call, form)
            if form is not None:
                lot.of_form[form] = group
        group.rows += rows
        group.deadline = max(group.deadline, began + timeout_s)
        member = Member(group, began, reply, context, size, form, values, inputs, rows)
        group.members.append(member)
        self._taken += 1
        self._taken_bytes += size
        return member

    def _open(self, spec: ModelSpec) -> _Lot[C] | None:
        """Lend the version that *spec* names for the requests of this turn; None where they go alone."""
        if not self.is_open:
            return None
        try:
            handle = self._serving.lend(spec)
        except WireError:
            return None
        largest = self._serving.largest_batch(handle.servable.batching_policy)
        if not largest:
            handle.release()
            return None
        if not self._lots:
            self._since = time.monotonic()
            self._arrivals.loop.call_soon(self._settle, 1, 1)
        lot = self._lots[spec] = _Lot(handle, largest)
        return lot

    def _begin(self, lot: _Lot[C], call: Call, form: Form | None) -> _Group[C]:
        handle = lot.handle
        kind = request_kind(handle.model, str(handle.version), call.signature, self._protocol, self._api)
        spec = served_spec(handle.model, handle.version, call.signature)
        group = _Group(self, call, form, kind, spec, handle.servable.batching_policy)
        lot.all.append(group)
        return group

    def drop(self, member: Member[C]) -> None:
        """Take note that nobody waits for *member* any more."""
        if not member.is_wanted:
            return
        member.part()
        group = member.group
        self._count(member, Code.CANCELLED)
        if not group.has_entered:
            return
        self._serving.leave()
        if group.future is not None and not any(other.is_wanted for other in group.members):
            group.future.cancel()

    # What goes on.

    def _settle(self, seen: int, turns: int) -> None:
        """Let go on what has come; but as long as each turn of the loop brings more than were *seen* before, wait for some turns."""
        if (
            self._taken > seen
            and turns < _MAX_TURNS
            and self._taken_bytes < _MAX_BYTES
            and time.monotonic() < self._since + _MAX_WAIT_S
        ):
            self._arrivals.loop.call_soon(self._settle, self._taken, turns + 1)
            return
        self._taken = self._taken_bytes = 0
        lots, self._lots = self._lots, {}
        self._last = None, None
        for lot in lots.values():
            handle: Handle | None = lot.handle
            groups = deque(lot.all)
            while groups:
                group = groups.popleft()
                if handle is None:
                    handle = self._lend_again(lot)
                if handle is None:
                    self._begin_alone(group.wanted())
                else:
                    if (rest := self._cut(group, handle)) is not None:
                        groups.appendleft(rest)
                    if self._submit(group, handle):
                        handle = None
                        continue
                group.members.clear()
            if handle is not None:
                handle.release()

    def _lend_again(self, lot: _Lot[C]) -> Handle | None:
        """Lend the version of *lot* once more: each call of the model gives it back by itself."""
        first = lot.handle
        try:
            handle = self._serving.lend(ModelSpec(first.model, first.version))
        except WireError:
            return None
        if handle.servable is first.servable:
            return handle
        # Unloaded, and loaded anew, in between.
        handle.release()
        return None

    def _cut(self, group: _Group[C], handle: Handle) -> _Group[C] | None:
        """
        Leave in *group* what a batch that others have begun has room for, and return the rest, if there is any.

        A group is not divided over batches: those that are as large as half a batch would all run half empty.
        """
        members = group.members = group.wanted()
        if len(members) < 2:
            return None
        room = self._serving.room(handle, group.call)
        stops = list(accumulate([member.rows for member in members]))
        kept = bisect_right(stops, room)
        if not 0 < kept < len(members):
            return None
        rest = _Group(self, group.call, group.form, group.kind, group.spec, group.policy)
        rest.deadline = group.deadline
        rest.members, group.members = members[kept:], members[:kept]
        for member in rest.members:
            member.group = rest
        return rest

    def _submit(self, group: _Group[C], handle: Handle) -> bool:
        """Queue the call that answers *group*; say whether it gives *handle* back."""
        members = group.members = group.wanted()
        if not members:
            return False
        try:
            self._serving.enter(len(members))
        except WireError as error:
            for member in members:
                member.part().refuse(error)
            return False
        group.has_entered = True
        group.submitted = now = time.monotonic()
        within = self._timeout
        if within is not None:
            group.deadline = now + within.timeout_s
        try:
            call = _joined(group)
        except Exception:
            # Values that are none: it is told whose where each goes alone.
            self._begin_again(members)
            return False
        try:
            future = self._serving.submit(handle, call, group.deadline, [member.rows for member in members])
        except Exception as error:
            self._fail(group, error)
            return False
        group.future = future
        future.add_done_callback(handle.release_after)
        waiter = self._arrivals.waiter(future)
        if within is not None:
            within.add(waiter)
        waiter.add_done_callback(partial(self._ended, group))
        return True

    # What comes of it.

    def _ended(self, group: _Group[C], waiter: "asyncio.Future[Answer]") -> None:
        if self._timeout is not None:
            self._timeout.discard(waiter)
        # Cancelled when all have left.
        if not waiter.cancelled():
            error = waiter.exception()
            if error is None:
                self._answer(group, waiter.result())
            elif isinstance(error, Overdue):
                assert group.future is not None
                self._refuse(group.wanted(), self._serving.expire(group.future, group.policy))
            else:
                self._fail(group, error)
        # Each knows its group.
        group.members.clear()

    def _answer(self, group: _Group[C], answer: Answer) -> None:
        members, spec, outputs = group.members, group.spec, answer.outputs
        group.waits_s = answer.batch_wait_s, answer.queue_s, answer.compute_s
        since = time.monotonic()
        if self._write_all is not None and len(members) > 1 and not self._is_large(outputs):
            try:
                # Those of members that have left, too: they are few.
                written = self._write_all(
                    spec, outputs, [member.rows for member in members], [member.context for member in members]
                )
            except Exception:
                # Each is told what is wrong with its own.
                written = None
            if written is not None:
                answers = [pair for pair in zip(members, written, strict=True) if pair[0].is_wanted]
                self._tell(group, answers, (time.monotonic() - since) / len(members))
                return
        stop = 0
        for member in members:
            start, stop = stop, stop + member.rows
            if not member.is_wanted:
                continue
            own = outputs if len(members) == 1 else {name: array[start:stop] for name, array in outputs.items()}
            since = time.monotonic()
            if self._is_large(own):
                writing = self._codec_threads.submit(self._write, spec, own, member.context)
                self._arrivals.waiter(writing).add_done_callback(partial(self._written, member, since))
                continue
            try:
                body = self._write(spec, own, member.context)
            except Exception as error:
                self._refuse([member], error)
            else:
                self._tell(group, [(member, body)], time.monotonic() - since)

    def _written(self, member: Member[C], since: float, waiter: "asyncio.Future[bytes]") -> None:
        """Send what was written on another thread."""
        error = waiter.exception()
        if not member.is_wanted:
            return
        if error is not None:
            self._refuse([member], error)
        else:
            self._tell(member.group, [(member, waiter.result())], time.monotonic() - since)

    def _tell(self, group: _Group[C], answers: Sequence[tuple[Member[C], bytes]], encode_s: float) -> None:
        """Count *answers*, each of which took *encode_s* to write, and send them."""
        if not answers:
            return
        now = time.monotonic()
        self._serving.metrics.count_answers(
            group.kind,
            latencies_s=[now - member.began for member, _ in answers],
            parse_s=[group.submitted - member.began for member, _ in answers],
            waits_s=group.waits_s,
            encode_s=encode_s,
            request_bytes=sum([member.size for member, _ in answers]),
            response_bytes=sum([len(body) for _, body in answers]),
        )
        for member, body in answers:
            member.part().answer(body, group.spec)
        self._serving.leave(len(answers))

    def _fail(self, group: _Group[C], error: BaseException) -> None:
        """Tell an error of all; if one of several may be to blame, or there may be room for some, let each try alone."""
        wanted = group.wanted()
        if len(wanted) == 1 or time.monotonic() >= group.deadline:
            self._refuse(wanted, error)
            return
        self._begin_again(wanted)

    def _begin_again(self, members: Sequence[Member[C]]) -> None:
        """Let go alone who is in flight already: a server that drains still answers them."""
        with self._serving.readmitting():
            self._begin_alone(members)
        self._serving.leave(len(members))

    def _begin_alone(self, members: Sequence[Member[C]]) -> None:
        for member in members:
            member.part().alone()

    def _refuse(self, members: Sequence[Member[C]], error: BaseException) -> None:
        code = error.code if isinstance(error, WireError) else Code.INTERNAL
        for member in members:
            self._count(member, code)
            member.part().refuse(error)
        self._serving.leave(len(members))

    def _count(self, member: Member[C], code: Code) -> None:
        """Count one that was not answered."""
        group = member.group
        decode_s = group.submitted - member.began if group.submitted else None
        self._serving.metrics.count_request(
            group.kind,
            code.name,
            time.monotonic() - member.began,
            [decode_s, *group.waits_s, None],
            request_bytes=member.size,
        )


def _joined(group: _Group[C]) -> Call:
    """Join the rows of all."""
    members, call, form = group.members, group.call, group.form
    if len(members) == 1 and members[0].inputs is not None:
        inputs = members[0].inputs
    elif form is not None and all(member.form is form for member in members):
        inputs = form.joined([member.values for member in members], call.inputs)
    else:
        parts = [_read(member, call.inputs) for member in members]
        inputs = {name: np.concatenate([part[name] for part in parts]) for name in call.inputs}
    return Call(call.signature, inputs, call.outputs)


def _read(member: Member[C], like: Tensors) -> Tensors:
    if member.inputs is not None:
        return member.inputs
    assert member.form is not None, "it has inputs or a form"
    return member.form.joined([member.values], like)


def _likeness(call: Call) -> Hashable:
    """Return what calls have in common whose rows may be joined."""
    inputs = call.inputs
    if len(inputs) == 1:
        ((name, array),) = inputs.items()
        return call.signature, call.outputs, name, array.shape[1:], array.dtype
    return call.signature, call.outputs, tuple([(name, array.shape[1:], array.dtype) for name, array in inputs.items()])

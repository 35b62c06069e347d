"""Other servers next to ours, the small models and ResNet50; one that does not answer is left out, and told."""

import importlib.util
from collections.abc import Mapping, Sequence
from functools import partial

from harness import calls, loads, models, peers
from harness.loads import Request
from harness.models import CNN, HALF, MNIST, RECOMMENDER, RESNET, Question
from harness.processes import NoAnswer, Started
from harness.rounds import Cell, Target, by_round, ratio
from harness.run import IN_FLIGHT, Run, say
from slipway_wire import payloads

# Against the best of the other servers at its best settings, in requests/s, and against what the model does in one process.
OF_PEERS = {(HALF, "grpc"): 10, (HALF, "rest"): 10, (RECOMMENDER, "grpc"): 10, (RECOMMENDER, "rest"): 20}
OF_PEERS |= {(model, protocol): least for model in (CNN, MNIST) for protocol, least in (("grpc", 6), ("rest", 5))}
OF_LIMIT = {"grpc": 0.45, "rest": 0.35}
LIMIT_ROWS = 32
# ResNet50, an image a request, our graph frozen: throughput against the best of the others.
OF_PEERS_COMPUTE_BOUND = 1.2
COMPUTE_BOUND_IN_FLIGHT = 8
# With some six answers a second, those cut off at the end of a shorter window would matter.
COMPUTE_BOUND_S = 15.0
QUICK_COMPUTE_BOUND_S = 5.0
# Three are slower than their p99.
PACED_ANSWERS = 300
QUICK_ANSWERS = 5
_MESSAGES = "slipway, rest in messages"
_AS_IT_IS, _FROZEN = "slipway, as it is", "slipway, frozen"
_FROZEN_MESSAGES = f"{_FROZEN}, rest in messages"


class Beside(Run):
    """What is measured with other servers."""

    def beside(self) -> None:
        """Run the small models on other servers, next to ours."""
        others = [peers.PEERS[name](self._arguments.peer_environments) for name in self._arguments.peers]
        for model in self._arguments.models:
            self._beside(model, others)

    def _beside(self, model: str, others: Sequence[peers.Peer]) -> None:
        base_path = self.servers.export(model)
        flags = ("--tensorflow_intra_op_parallelism=1", "--enable_batching")
        server = self.servers.slipway(f"{model}-beside", {model: base_path}, flags, is_pinned=False)
        question = models.questions(model)["Predict"]
        payload = question.payload(model)
        truth = payloads.decode_grpc_answer(payload, self._answers(server, model, question)["grpc"])
        case = peers.Case(model, base_path, question, payload, truth, intra_threads=1)
        cells = {
            f"slipway, {protocol}": self._shared(f"slipway, {protocol}", protocol, server, request)
            for request in [self._request(model, "Predict", question)]
            for protocol in ("grpc", "rest")
        }
        cells[_MESSAGES] = self._shared(_MESSAGES, "rest", server, self._message(model, "Predict", question))
        for peer in others:
            for protocol, started, request in self._tuned(peer, case):
                name = f"{peer.name}, {protocol}"
                cells[name] = self._shared(name, protocol, started, request)
        callers = len(self._all_cpus)
        limit = f"in process, {LIMIT_ROWS} rows a call, {callers} callers"
        measure = self.servers.caller(
            base_path, model, "Predict", callers, self._arguments.seconds, is_pinned=False, rows=LIMIT_ROWS
        )
        cells[limit] = Cell(limit, measure)
        cells = self._measure(_title(model), cells)
        for protocol in ("grpc", "rest"):
            ours = f"slipway, {protocol}"
            rivals = [name for name in cells if name.endswith(f", {protocol}") and name != ours]
            if rivals:
                rival = max(rivals, key=lambda name: cells[name].median("per_s"))
                found = ratio(cells, ours, rival, "per_s")
                self._aim(Target(f"{model}: {ours} : {rival}, throughput", found, OF_PEERS[model, protocol]))
                # Time lost to other work on the machine is in the throughput, not in this.
                self._aim(Target(f"{model}: {rival} : {ours}, CPU a request", ratio(cells, rival, ours, "cpu_us")))
                if protocol == "rest":
                    # Like against like where the rival is asked in binary.
                    found = ratio(cells, _MESSAGES, rival, "per_s")
                    self._aim(Target(f"{model}: {_MESSAGES} : {rival}, throughput", found, OF_PEERS[model, protocol]))
            if model in {CNN, MNIST}:
                found = ratio(cells, ours, limit, "per_s")
                self._aim(Target(f"{model}: {ours} : in process, rows/s", found, OF_LIMIT[protocol]))

    def beside_compute_bound(self) -> None:
        """Run ResNet50 on other servers, next to ours: an image a request."""
        if importlib.util.find_spec("keras") is None:
            self.results["skipped"][_title(RESNET)] = "Keras is not installed"
            return
        asked = self._compute_bound_servers()
        seconds = QUICK_COMPUTE_BOUND_S if self._arguments.quick else COMPUTE_BOUND_S
        cells = self._in_rounds(
            _title(RESNET),
            {name: self._shared(name, *which, seconds, COMPUTE_BOUND_IN_FLIGHT) for name, which in asked.items()},
        )
        self.results["tables"][_title(RESNET)] = {name: cell.told() for name, cell in cells.items()}
        peaks = {name: cell.median("per_s") for name, cell in cells.items()}
        pairs = pairs_of(peaks, _FROZEN)
        if (rival := pairs.get(f"{_FROZEN}, rest")) is not None:
            pairs[_FROZEN_MESSAGES] = rival
        for name, peak in peaks.items():
            if not peak:
                self.results["skipped"][f"{RESNET}, {name}, at half of its peak"] = f"no answer within {seconds:g} s"
        # As many for all, or the slowest of more would stand against the slowest of few.
        count = QUICK_ANSWERS if self._arguments.quick else PACED_ANSWERS
        paced = {}
        for ours, rival in pairs.items():
            for title, (name, per_s) in half_loads(peaks, ours, rival).items():
                measure = by_round(partial(calls.calls_at_rate, *asked[name], per_s, count))
                paced[title] = Cell(title, measure, may_be_lost=not _is_ours(name))
        paced = self._in_rounds(RESNET, paced)
        self.servers.close()
        self.results.setdefault("latency", {}).update({name: cell.told() for name, cell in paced.items()})
        for ours, rival in pairs.items():
            found = ratio(cells, ours, rival, "per_s")
            self._aim(Target(f"{RESNET}: {ours} : {rival}, throughput", found, OF_PEERS_COMPUTE_BOUND))
            self._aim(Target(f"{RESNET}: {rival} : {ours}, CPU a request", ratio(cells, rival, ours, "cpu_us")))
            own, rivals_own, shared = half_loads(peaks, ours, rival)
            if rivals_own not in paced:
                continue
            name = f"{RESNET}: {ours} : {rival}, {calls.tail(count)}"
            found = ratio(paced, own, rivals_own, "p99_ms")
            self._aim(Target(f"{name}, each at half of its own peak", found, 1.0, is_at_least=False))
            found = ratio(paced, shared, rivals_own, "p99_ms")
            self._aim(Target(f"{name}, both at half of the latter's peak", found, is_at_least=False))

    def _compute_bound_servers(self) -> dict[str, tuple[str, Started, Request]]:
        """Start our server, with variables and frozen, and the others; give for each protocol of each how it is asked."""
        others = [peers.PEERS[name](self._arguments.peer_environments) for name in self._arguments.peers]
        base_path = self.servers.export(RESNET)
        started = {
            name: self.servers.slipway(name, {RESNET: base_path}, ["--enable_batching", *flags], is_pinned=False)
            for name, flags in ((_AS_IT_IS, ()), (_FROZEN, ("--freeze_variables",)))
        }
        alias = self._alias(started[_FROZEN], RESNET)
        question = Question("serving_default", {alias: models.images(RESNET)[:1]})
        payload = question.payload(RESNET)
        truth = payloads.decode_grpc_answer(payload, self._answers(started[_AS_IT_IS], RESNET, question)["grpc"])
        self._answers(started[_FROZEN], RESNET, question)
        case = peers.Case(RESNET, base_path, question, payload, truth, intra_threads=0)
        own = self._request(RESNET, "Predict", question)
        asked = {f"{name}, {p}": (p, server, own) for name, server in started.items() for p in ("grpc", "rest")}
        asked[_FROZEN_MESSAGES] = "rest", started[_FROZEN], self._message(RESNET, "Predict", question)
        for peer in others:
            for one in self._tuned(peer, case, COMPUTE_BOUND_S / 2, COMPUTE_BOUND_IN_FLIGHT):
                asked[f"{peer.name}, {one[0]}"] = one
        return asked

    def _shared(
        self,
        name: str,
        protocol: str,
        server: Started,
        request: Request,
        seconds: float | None = None,
        in_flight: int = IN_FLIGHT,
    ) -> Cell:
        """Server and generator share all CPUs; a window without any answer is one of others that is lost."""
        seconds, cpus = seconds or self._arguments.seconds, self._all_cpus
        drive = partial(loads.drive, protocol, server, request, seconds, cpus, in_flight)
        if _is_ours(name):
            return Cell(name, drive)

        def measure() -> dict[str, float]:
            found = drive()
            if not found["per_s"]:
                # Of a server that is gone, h2load tells no error.
                again = loads.asked_again(protocol, server, request)
                raise NoAnswer(f"no request was answered within {seconds:g} s; {again}")
            return found

        return Cell(name, measure, may_be_lost=True)

    def _tuned(
        self, peer: peers.Peer, case: peers.Case, seconds: float | None = None, in_flight: int = IN_FLIGHT
    ) -> list[tuple[str, Started, Request]]:
        """
        Try *peer*'s settings, and start it with the best for each protocol that it speaks.

        Returns:
            The protocol, the server and what it is asked. A protocol over which it does not answer, at whatever settings, is
            left out, and so is a setting at which it does not.
        """
        labels = {peers.label(settings): settings for settings in peer.settings[: 1 if self._arguments.quick else None]}
        tried: dict[str, dict[str, float]] = {
            protocol: self.results["tuning"].setdefault(f"{peer.name}, {case.model}, {protocol}", {})
            for protocol in peer.protocols
        }
        lost: dict[str, dict[str, str]] = {protocol: {} for protocol in peer.protocols}
        for label, settings in labels.items():
            for protocol, found in self._tried(peer, case, settings, seconds, in_flight).items():
                if isinstance(found, str):
                    lost[protocol][label] = found
                else:
                    tried[protocol][label] = found
                    say(f"{peer.name}, {case.model} over {protocol}, {label}: {found:.0f}/s")
        chosen = []
        for protocol, rates in tried.items():
            name = f"{_title(case.model)}: {peer.name}, {protocol}"
            if not rates:
                self._leave_out(name, next(iter(lost[protocol].values())))
                continue
            for label, why in lost[protocol].items():
                self._leave_out(f"{name}, {label}", why)
            try:
                chosen.append((protocol, *self._asked(peer, case, labels[peers.best(rates)], protocol)))
            except NoAnswer as error:
                self._leave_out(name, str(error))
        return chosen

    def _tried(
        self, peer: peers.Peer, case: peers.Case, settings: peers.Settings, seconds: float | None, in_flight: int
    ) -> dict[str, float | str]:
        """Give for each protocol the requests/s that *peer* reaches with *settings*, or what it answers instead."""
        try:
            started = peer.start(self.servers, case, settings)
        except NoAnswer as error:
            return dict.fromkeys(peer.protocols, str(error))
        found: dict[str, float | str] = {}
        for protocol in peer.protocols:
            try:
                request = peer.request(self.servers, case, started, protocol)
                cell = self._shared(peer.name, protocol, started, request, seconds, in_flight)
                # The first window is the warm-up.
                cell.measure()
                found[protocol] = cell.measure()["per_s"]
            except NoAnswer as error:
                found[protocol] = str(error)
        self.servers.end(started.process)
        return found

    def _asked(
        self, peer: peers.Peer, case: peers.Case, settings: peers.Settings, protocol: str
    ) -> tuple[Started, Request]:
        """Start *peer*, and give it with what it is asked."""
        started = peer.start(self.servers, case, settings)
        try:
            return started, peer.request(self.servers, case, started, protocol)
        except NoAnswer:
            self.servers.end(started.process)
            raise


def _title(model: str) -> str:
    """Name the table of *model*."""
    return f"{model}, beside other servers"


def _is_ours(name: str) -> bool:
    """Say whether a cell is of our server: without it, there is nothing to compare."""
    return name.startswith("slipway")


def pairs_of(peaks: Mapping[str, float], ours: str) -> dict[str, str]:
    """
    Say who is compared with whom.

    Args:
        peaks: `NAME, PROTOCOL` -> requests/s that it reaches; names of our servers begin with `slipway`.
        ours: Name of the one of ours that is compared.

    Returns:
        For each protocol ours -> the best of the others, if both have answered at all.
    """
    pairs = {}
    for protocol in ("grpc", "rest"):
        others = [name for name in peaks if name.endswith(f", {protocol}") and not _is_ours(name)]
        best = max(others, key=lambda name: peaks[name], default=None)
        if best is not None and peaks[best] and peaks[f"{ours}, {protocol}"]:
            pairs[f"{ours}, {protocol}"] = best
    return pairs


def half_loads(peaks: Mapping[str, float], ours: str, rival: str) -> dict[str, tuple[str, float]]:
    """
    Say at which rates *ours* and *rival* are compared, from the requests/s that they reach.

    Returns:
        What it is -> whose it is, requests/s: each at half of its own peak, and ours at half of the rival's, too.
    """
    return {
        f"{ours}, at half of its own peak": (ours, peaks[ours] / 2),
        f"{rival}, at half of its own peak": (rival, peaks[rival] / 2),
        f"{ours}, at half of the peak of {rival}": (ours, peaks[rival] / 2),
    }

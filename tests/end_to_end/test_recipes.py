"""
Every recipe for real: trained, exported, checked, warmed; then all on one server, which must answer as the source did.

What is expected comes from the recipe's own framework, in the process of its training, before anything of Slipway has
seen the model; outputs that the contract makes from others are worked out here, in numpy.
"""

import json
import re
import runpy
import shutil
import struct
import subprocess
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy import special
from tests.dropin.processes import Server
from tests.end_to_end import warm_stages

from slipway import golden
from slipway.api.calls import calls
from slipway.api.content import api_files
from slipway.api.snippets import Addresses
from slipway.contract import read_contract
from slipway_wire import inference, json_examples, json_predict, messages, paths, predict

ROOT = Path(__file__).parents[2]
RECIPES = sorted(path.parent.name for path in (ROOT / "config/recipes").glob("*/config.yaml"))
ROWS = 33  # one more than the largest batch that was warmed

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(900)]


@dataclass(frozen=True)
class Call:
    """One call of one signature: rows in, and what must come back."""

    recipe: str
    signature: str
    outputs: dict
    inputs: dict | None = None
    examples: list | None = None

    @property
    def method(self):
        if self.inputs is not None:
            return "predict"
        return "classify" if "classes" in self.outputs else "regress"


def snakemake(directory: Path, *, python: Path = Path(sys.executable)) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(python, "-m", "snakemake", "servables"),
            *("--snakefile", ROOT / "Snakefile", "--directory", directory, "--cores", "all"),
            *("--configfile", *(directory / f"config/recipes/{recipe}/config.yaml" for recipe in RECIPES)),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=directory,
    )


@pytest.fixture(scope="module")
def line(tmp_path_factory) -> Path:
    """A project directory in which all recipes were made in one run."""
    directory = tmp_path_factory.mktemp("recipes")
    shutil.copytree(ROOT / "config", directory / "config", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tests/testdata", directory / "tests/testdata")
    with warm_stages.python(tmp_path_factory.mktemp("warm") / "venv") as python:
        done = snakemake(directory, python=python)
    assert done.returncode == 0, done.stdout + done.stderr
    return directory


@pytest.fixture(scope="module")
def server(line):
    """One process that serves all of them."""
    configs = "".join(
        f'config {{ name: "{r}" base_path: "{line}/results/servables/{r}" model_platform: "tensorflow" }}\n'
        for r in RECIPES
    )
    (line / "models.config").write_text(f"model_config_list {{\n{configs}}}\n")
    server = Server(line / "server", f"--model_config_file={line}/models.config")
    try:
        yield server.wait_until_ready()
    finally:
        server.close()


# --- what is expected ------------------------------------------------------------------------------


def left(line: Path, recipe: str) -> dict:
    """Read what the training has left: golden rows, and the answers of its own framework to them."""
    with np.load(line / f"results/training/{recipe}/1/golden.npz") as found:
        arrays = {name.removeprefix("answers/"): found[name] for name in found.files}
    # The transitions of the CRF are no rows.
    return {name: array if name == "transitions" else array[:ROWS] for name, array in arrays.items()}


def example(**features) -> bytes:
    made = messages.Example()
    for name, values in features.items():
        made.features.feature[name].float_list.value.extend(np.ravel(values).tolist())
    return made.SerializeToString()


def best(probabilities, classes, count):
    """Give the *count* likeliest classes and their scores, as [rows, count] each."""
    order = np.argsort(-probabilities, axis=-1, kind="stable")[:, :count]
    named = np.array([name.encode() for name in classes], object)[order]
    return {"classes": named, "scores": np.take_along_axis(probabilities, order, -1)}


def png(image) -> bytes:
    """Write floats of 0..1, [height, width, 1 or 3], as a PNG (W3C, "Portable Network Graphics", 2003)."""
    pixels = np.round(image * 255).astype(np.uint8)
    height, width, channels = pixels.shape
    lines = b"".join(b"\0" + line.tobytes() for line in pixels)
    head = struct.pack(">2I5B", width, height, 8, {1: 0, 3: 2}[channels], 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    chunks = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def strings(values) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def best_path(logits, transitions) -> np.ndarray:
    """Try every way to the best tags of one sentence, [time, tags] (Viterbi, 1967)."""
    score, came_from = logits[0], []
    for emission in logits[1:]:
        ways = score[:, None] + transitions
        came_from.append(ways.argmax(axis=0))
        score = ways.max(axis=0) + emission
    tags = [int(score.argmax())]
    for step in reversed(came_from):
        tags.append(int(step[tags[-1]]))
    return np.array(tags[::-1])


def half_plus_two(line):
    x = np.linspace(-100, 100, ROWS, dtype=np.float32)[:, None]
    y, examples = x / 2 + 2, [example(x=value) for value in x]
    yield Call("half_plus_two", "serving_default", {"y": y}, {"x": x})
    yield Call("half_plus_two", "classify_x_to_y", best(y, ["0"], 1), examples=examples)
    yield Call("half_plus_two", "regress_x_to_y", {"outputs": y[:, 0]}, examples=examples)


def mnist(line):
    rows = left(line, "mnist")
    scores = special.softmax(rows["logits"], axis=-1)
    outputs = {"scores": scores, "digit": scores.argmax(-1)}
    yield Call("mnist", "predict_images", outputs, {"images": rows["images"]})
    pictures = strings([png(image) for image in rows["images"]])
    yield Call("mnist", "image_bytes", outputs, {"image_bytes": pictures})
    examples = [example(x=image) for image in rows["images"]]
    yield Call("mnist", "serving_default", best(scores, map(str, range(10)), 10), examples=examples)


def inception(line):
    rows = left(line, "inception")
    labels = (ROOT / "config/recipes/inception/labels.txt").read_text().splitlines()

    def outputs(logits):
        probabilities = special.softmax(logits, axis=-1)
        return {"probabilities": probabilities} | best(probabilities, labels, 5)

    whole = outputs(rows["logits"]) | {"prelogits": rows["prelogits"]}
    yield Call("inception", "predict", whole, {"images": rows["images"]})
    pictures = strings([png((image + 1) / 2) for image in rows["images"]])
    yield Call("inception", "serving_default", whole, {"image_bytes": pictures})
    jpegs = strings([bytes(file) for file in rows["jpegs"]])
    assert all(file.startswith(b"\xff\xd8") for file in jpegs)
    yield Call("inception", "serving_default", outputs(rows["answered_jpegs"]), {"image_bytes": jpegs})


def recommender(line):
    rows = left(line, "recommender")
    examples = [bytes(one) for one in rows["examples"]]
    clicks = special.expit(rows["logits"])
    both = np.concatenate([1 - clicks, clicks], axis=1)
    outputs = {"logits": rows["logits"], "logistic": clicks, "probabilities": both, "class_ids": both.argmax(-1)}
    yield Call("recommender", "predict", outputs, {"examples": strings(examples)})
    for signature in ("serving_default", "classification"):
        classes = np.array([[b"no click", b"click"]] * len(examples), object)
        yield Call("recommender", signature, {"classes": classes, "scores": both}, examples=examples)
    yield Call("recommender", "regression", {"outputs": clicks[:, 0]}, examples=examples)


def ner(line):
    rows = left(line, "ner")
    chars, segments, logits, transitions = (
        rows[name] for name in ("char_inputs", "seg_inputs", "logits", "transitions")
    )
    lengths = (chars != 0).sum(axis=1)
    tags = np.zeros_like(chars)
    for row, length in enumerate(lengths):
        tags[row, :length] = best_path(logits[row, :length], transitions)
    real = chars != 0
    agreed, outside = (tags == rows["targets"])[real].mean(), (rows["targets"] == 0)[real].mean()
    assert agreed > outside + 0.1, f"{agreed:.0%}: more has been learnt than that most characters are in no name"
    outputs = {"tags": tags, "lengths": lengths, "logits": logits, "transitions": np.stack([transitions] * len(chars))}
    yield Call("ner", "serving_default", outputs, {"char_inputs": chars, "seg_inputs": segments})
    known = (ROOT / "config/recipes/ner/characters.txt").read_text().splitlines()
    characters = np.array([name.encode() for name in known], object)[chars]
    named = np.array([b"O", b"B-PER", b"I-PER", b"B-LOC", b"I-LOC"], object)[tags]
    yield Call("ner", "characters", {"entities": named}, {"characters": characters, "seg_inputs": segments})


def frozen(line):
    rows = left(line, "frozen")
    measured, progression = rows["measurements"], rows["progression"]
    yield Call("frozen", "serving_default", {"progression": progression}, {"measurements": measured})
    examples = [example(measurements=row) for row in measured]
    yield Call("frozen", "regress", {"outputs": progression}, examples=examples)


def keras2(line):
    rows = left(line, "keras2")
    probabilities = special.softmax(rows["logits"], axis=-1)
    outputs = {"logits": rows["logits"], "probabilities": probabilities, "label": probabilities.argmax(-1)}
    yield Call("keras2", "serving_default", outputs, {"rows": rows["rows"]})
    classes = np.array([[str(digit).encode() for digit in range(10)]] * len(probabilities), object)
    examples = [example(rows=row) for row in rows["rows"]]
    yield Call("keras2", "classify", {"classes": classes, "scores": probabilities}, examples=examples)


CALLS = (half_plus_two, mnist, inception, recommender, ner, frozen, keras2)


# --- the two protocols -----------------------------------------------------------------------------


def over_rest(server, call):
    if call.method == "predict":
        body = json_predict.encode_request(call.inputs, signature_name=call.signature)
    else:
        body = json_examples.encode_request(call.examples, signature_name=call.signature)
    answer = server.send(f"{call.recipe}:{call.method}", body)
    assert answer.status_code == 200, answer.text[:500]
    match call.method:
        case "predict":
            found = json_predict.decode_response(answer.content)
            return found if isinstance(found, dict) else {next(iter(call.outputs)): found}
        case "classify":
            found = json_examples.decode_classify_response(answer.content)
            return {"classes": found.classes, "scores": found.scores}
        case _:
            return {"outputs": json_examples.decode_regress_response(answer.content).values}


def over_grpc(server, call):
    if call.method == "predict":
        method, body = (
            paths.GRPC_PREDICT,
            predict.encode_request(call.recipe, call.inputs, signature_name=call.signature),
        )
    else:
        method = {"classify": paths.GRPC_CLASSIFY, "regress": paths.GRPC_REGRESS}[call.method]
        body = inference.encode_request(call.recipe, call.examples, signature_name=call.signature)
    answer = server.channel.unary_unary(method)(body, timeout=200)
    match call.method:
        case "predict":
            return predict.decode_response(answer)[1]
        case "classify":
            _, found = inference.decode_classify_response(answer)
            return {"classes": found.classes, "scores": found.scores}
        case _:
            return {"outputs": inference.decode_regress_response(answer)[1].values}


def test_every_recipe_has_expected_answers_to_every_signature(line):
    for recipe in RECIPES:
        contract = yaml.safe_load((line / f"config/recipes/{recipe}/contract.yaml").read_text())
        (asked,) = (asked for asked in CALLS if asked.__name__ == recipe)
        assert {call.signature for call in asked(line)} == set(contract["signatures"])


@pytest.mark.parametrize("ask", [over_rest, over_grpc])
@pytest.mark.parametrize("asked", CALLS, ids=[asked.__name__ for asked in CALLS])
def test_what_is_served_is_what_the_source_said(server, line, asked, ask):
    """Within the contract's tolerance for floats, equal for anything else."""
    for call in asked(line):
        contract = yaml.safe_load((line / f"config/recipes/{call.recipe}/contract.yaml").read_text())
        tolerance = {"atol": 1e-5, "rtol": 1e-4} | contract.get("golden", {})
        found = ask(server, call)

        assert found.keys() >= call.outputs.keys()
        for name, expected in call.outputs.items():
            told = f"{call.recipe} {call.signature} {name}"
            if expected.dtype.kind == "f":
                near = {"atol": tolerance["atol"], "rtol": tolerance["rtol"]}
                np.testing.assert_allclose(found[name].astype(np.float64), expected, **near, err_msg=told)
            else:
                assert found[name].tolist() == expected.tolist(), told


# --- how they are called, as the stage `api` writes it ---------------------------------------------


@pytest.fixture(scope="module")
def apis(line, server, tmp_path_factory):
    """Give for each recipe its contract, and a directory with all that the stage `api` writes."""
    addresses = Addresses(f"127.0.0.1:{server.rest_port}", f"127.0.0.1:{server.grpc_port}")
    made = {}
    for recipe in RECIPES:
        contract = read_contract(line / f"config/recipes/{recipe}/contract.yaml")
        (path,) = (line / f"results/checkpoints/{recipe}").glob("*/golden.npz")
        called = calls(contract, golden.read(path), recipe)
        directory = tmp_path_factory.mktemp(recipe)
        for name, content in api_files(contract, called, version=int(path.parent.name), addresses=addresses).items():
            (directory / name).parent.mkdir(exist_ok=True)
            (directory / name).write_bytes(content)
        made[recipe] = contract, directory
    return made


def near(found, wanted):
    """Compare JSON values; numbers as near as a float32 is that two kernels have computed."""
    if isinstance(wanted, dict):
        return found.keys() == wanted.keys() and all(near(found[key], wanted[key]) for key in wanted)
    if isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(near, found, wanted))
    return bool(np.isclose(found, wanted, rtol=1e-4, atol=1e-5)) if isinstance(wanted, float) else found == wanted


def printed(values):
    """Give arrays and bytes as JSON has them."""
    if isinstance(values, dict):
        return {name: printed(value) for name, value in values.items()}
    if isinstance(values, np.ndarray):
        return printed(values.tolist())
    if isinstance(values, list | tuple):
        return [printed(value) for value in values]
    return values.decode() if isinstance(values, bytes) else values


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_program_gets_the_golden_answer(apis, recipe, monkeypatch):
    """Of every signature and language, as written: pictures, words and tf.Examples among them."""
    contract, directory = apis[recipe]
    monkeypatch.chdir(directory)
    monkeypatch.syspath_prepend(str(directory))
    for name in contract.signatures:
        wanted = json.loads((directory / f"answers/{name}.row.json").read_text())
        (key,) = wanted
        curl = subprocess.run(["bash", f"{name}.sh"], capture_output=True, check=True, timeout=200)
        assert near(json.loads(curl.stdout), wanted), name
        assert near(runpy.run_path(f"{name}_rest.py")[key], wanted[key]), name
        found = runpy.run_path(f"{name}_grpc.py")
        if key == "results":
            assert near(printed(found["results"]), wanted[key]), name
            continue
        (row,) = wanted[key]
        outputs = {output: values[0] for output, values in printed(found["outputs"]).items()}
        assert near(outputs if isinstance(row, dict) else next(iter(outputs.values())), row), name


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_example_of_the_openapi_document_is_answered_as_it_says(apis, server, recipe):
    _, directory = apis[recipe]
    described = json.loads((directory / "openapi.json").read_text())

    def examples(content):
        for name, one in content["application/json"].get("examples", {}).items():
            file = one.get("externalValue")
            yield name, one["value"] if file is None else json.loads((directory / file).read_text())

    tried = set()
    for path, item in described["paths"].items():
        if "{" in path or "post" not in item:
            continue
        wanted = dict(examples(item["post"]["responses"]["200"]["content"]))
        for name, body in examples(item["post"]["requestBody"]["content"]):
            answer = server.send(path.removeprefix("/v1/models/"), json.dumps(body).encode())
            assert answer.status_code == 200, answer.text[:500]
            assert near(answer.json(), wanted[name]), name
            tried.add(name.split(".")[0])
    assert tried == set(apis[recipe][0].signatures)


def test_training_inputs_are_in_no_signature(server):
    for recipe, gone in (("ner", "Dropout"), ("frozen", "keep_prob")):
        metadata = server.send(f"{recipe}/metadata", method="GET").text
        assert gone not in metadata
        assert "serving_default" in metadata


def test_the_error_rate_that_is_served_is_the_one_before_any_export(server, line):
    with np.load(line / "results/training/mnist/1/golden.npz") as rows:
        images, labels, logits = rows["images"], rows["labels"], rows["answers/logits"]
    answers = over_grpc(server, Call("mnist", "predict_images", {}, {"images": images}))

    assert len(labels) == 1000
    assert (answers["digit"] != labels).sum() == (logits.argmax(-1) != labels).sum() <= 100


def test_the_table_tells_of_every_recipe_and_its_kind(line):
    done = subprocess.run(
        [Path(sys.executable).with_name("slipway"), "overview"], cwd=line, capture_output=True, text=True, check=True
    )
    made = dict(re.findall(r"^(\w+) \d+ +(\w+) ", done.stdout, re.MULTILINE))

    assert made == {
        "half_plus_two": "saved_model",
        "mnist": "keras",
        "inception": "tf1_checkpoint",
        "recommender": "checkpoint",
        "ner": "tf1_checkpoint",
        "frozen": "frozen_graph",
        "keras2": "keras",
    }
    told = (ROOT / "docs/recipes.md").read_text()
    assert all(f"config/recipes/{recipe})" in told and f"| {recipe} " in told for recipe in RECIPES)


def test_then_there_is_nothing_to_do(line):
    done = snakemake(line)

    assert done.returncode == 0
    assert "Nothing to be done" in done.stdout + done.stderr


def test_nothing_is_left_beside_the_recipes_files(line):
    there = {path.relative_to(line) for path in (line / "config").rglob("*")}

    assert there == {p.relative_to(ROOT) for p in (ROOT / "config").rglob("*") if "__pycache__" not in p.parts}

"""Pictures, words, features of tf.Examples and classes: what a change of each does to callers."""

import pytest
from tests.workflow.contract.contract_factory import REMOVE, agrees, changed, edit, judged

FORMS = {
    "format": 1,
    "signatures": {
        "serving_default": {
            "method": "predict",
            "inputs": {"x": {"shape": ["N", 4]}, "ids": {"dtype": "int64", "shape": ["N", "T"]}},
            "outputs": {
                "y": {"shape": ["N", 3]},
                "z": {"shape": ["N", 3], "from": "softmax(y)"},
                "v": {"shape": ["N"]},
                "top": {"dtype": "string", "shape": ["N", 2], "from": "top_k_classes(y, 2)", "classes": ["a", "b", "c"]},
                "word": {"dtype": "string", "shape": ["N"], "from": "lookup(argmax(y))", "classes": ["a", "b", "c"]},
            },
        },
        "again": {"alias": "serving_default"},
        "words": {
            "method": "predict",
            "outputs": {"y": {"shape": ["N", 3]}},
            "inputs": {
                "x": {"shape": ["N", 4]},
                "w": {"dtype": "string", "shape": ["N", "T"], "to": "ids", "vocabulary": {"words": ["a", "b"], "oov": 2}},
            },
        },
        "examples": {
            "method": "predict",
            "outputs": {"y": {"shape": ["N", 3]}},
            "inputs": {"e": {"dtype": "string", "shape": ["N"], "features": {"x": "x/raw", "ids": {"pad": 0}}}},
        },
        "classify": {
            "method": "classify", "scores": "y", "classes": ["rose", "tulip", "daisy"],
            "features": {"x": {"feature": "x/raw"}, "ids": {"pad": 0, "vocabulary": {"words": ["a", "b"], "oov": 2}}},
        },
        "regress": {"method": "regress", "value": "v", "features": {"ids": {"pad": 0}}},
    },
    "probe": {"dims": {"T": 3}},
}  # fmt: skip
PICTURES = {
    "format": 1,
    "signatures": {
        "serving_default": {
            "method": "predict",
            "inputs": {n: {"shape": ["N", 8, 8, 3], "range": [0, 1]} for n in "ab"},
            "outputs": {"y": {"shape": ["N", 3]}},
        },
        "bytes": {
            "method": "predict",
            "inputs": {
                "p": {"dtype": "string", "shape": ["N"], "to": "a", "image": {}},
                "q": {"dtype": "string", "shape": ["N"], "to": "b", "image": {}},
            },
        },
        "examples": {
            "method": "predict",
            "inputs": {"e": {"dtype": "string", "shape": ["N"], "features": {"a": {"image": {}}, "b": {"image": {}}}}},
        },
    },
}
PARSING = {
    "format": 1,
    "signatures": {
        "serving_default": {
            "method": "predict",
            "inputs": {"e": {"dtype": "string", "shape": ["N"], "example": {
                "age": {"shape": [2], "range": [0, 99]},
                "town": {"dtype": "string", "values": ["oslo"], "count": [0, 3]},
            }}},
            "outputs": {"y": {"shape": ["N", 3]}},
        },
    },
}  # fmt: skip
S = "signatures/serving_default"
D, B, E = f"{S}/outputs", "signatures/bytes/inputs", f"{S}/inputs/e/example"
IN = "signatures.bytes.inputs.p.image"
AGE = "signatures.serving_default.inputs.e.example.age"

# The contract, what is edited -> what is said of it, and what of taking it back.
FORM_CASES = {
    "classes in another order": (
        FORMS, edit("signatures/classify/classes", ["tulip", "rose", "daisy"]),
        ["breaking: signatures.classify.classes[0]: classes reordered: rose → tulip; a place now stands for"],
        ["breaking: signatures.classify.classes[0]: classes reordered: tulip → rose; a place now stands for"],
    ),
    "another class": (
        FORMS, edit("signatures/classify/classes", ["rose", "tulip", "iris"]),
        ["breaking: signatures.classify.classes: classes changed (3 → 3): daisy → iris"],
        ["breaking: signatures.classify.classes: classes changed (3 → 3): iris → daisy"],
    ),
    "classes at all": (
        FORMS, edit("signatures/classify/classes", REMOVE),
        ["breaking: signatures.classify.classes: classes changed: 3 classes → none; without names a class is called by"],
        ["breaking: signatures.classify.classes: classes changed: none → 3 classes"],
    ),
    "more classes": (
        FORMS, edit(f"{D}/word/classes", ["a", "b", "c", "d"]),
        ["compatible: signatures.again.outputs.word.classes: classes appended (3 → 4): none → d; all that were there keep",
         "compatible: signatures.serving_default.outputs.word.classes: classes appended (3 → 4): none → d"],
        ["breaking: signatures.again.outputs.word.classes: classes changed (4 → 3): d → none",
         "breaking: signatures.serving_default.outputs.word.classes: classes changed (4 → 3): d → none"],
    ),
    "fewer of the best": (
        FORMS, edit("signatures/classify/top_k", 2),
        ["breaking: signatures.classify.outputs.classes.shape: sizes changed: [N, 3] → [N, 2]",
         "breaking: signatures.classify.outputs.scores.shape: sizes changed: [N, 3] → [N, 2]",
         "breaking: signatures.classify.top_k: changed: none → 2; how many classes there are, and in which order"],
        ["breaking: signatures.classify.outputs.classes.shape: sizes changed: [N, 2] → [N, 3]",
         "breaking: signatures.classify.outputs.scores.shape: sizes changed: [N, 2] → [N, 3]",
         "breaking: signatures.classify.top_k: changed: 2 → none"],
    ),
    "other scores": (
        FORMS, edit("signatures/classify/scores", "z"),
        ["breaking: signatures.classify.outputs.scores.from: made otherwise: none → softmax(y); another function gives",
         "breaking: signatures.classify.scores: changed: y → z; another output is what callers get"],
        ["breaking: signatures.classify.outputs.scores.from: made otherwise: softmax(y) → none",
         "breaking: signatures.classify.scores: changed: z → y"],
    ),
    "another value": (
        FORMS, edit(f"{D}/u", {"shape": ["N"]}, "signatures/regress/value", "u"),
        ["breaking: signatures.regress.value: changed: v → u; another output is what callers get",
         "compatible: signatures.again.outputs.u: output added",
         "compatible: signatures.serving_default.outputs.u: output added"],
        ["breaking: signatures.again.outputs.u: output removed", "breaking: signatures.regress.value: changed: u → v",
         "breaking: signatures.serving_default.outputs.u: output removed"],
    ),
    "the inner function": (
        FORMS, edit("signatures/again", REMOVE, f"{D}/word/from", "lookup(lengths(y))"),
        ["breaking: signatures.again: signature removed",
         "breaking: signatures.serving_default.outputs.word.from: made otherwise: lookup(argmax(y)) → lookup(lengths(y))"],
        ["breaking: signatures.serving_default.outputs.word.from: made otherwise: lookup(lengths(y)) → lookup(argmax(y))",
         "compatible: signatures.again: signature added"],
    ),
    "the inner tensor": (
        FORMS, edit("signatures/again", REMOVE, f"{D}/word/from", "lookup(argmax(other))"),
        ["breaking: signatures.again: signature removed",
         "compatible: signatures.serving_default.outputs.word.from: made otherwise: lookup(argmax(y)) → lookup(argmax(oth"],
        ["compatible: signatures.again: signature added",
         "compatible: signatures.serving_default.outputs.word.from: made otherwise: lookup(argmax(other)) → lookup(argmax"],
    ),
    "another name for an alias": (
        FORMS, edit("signatures/again/alias", "regress"),
        ["breaking: signatures.again.method: method changed: predict → regress"],
        ["breaking: signatures.again.method: method changed: regress → predict"],
    ),
    "an alias written out": (FORMS, edit("signatures/again", FORMS["signatures"]["serving_default"]), [], []),
    "words in another order": (
        FORMS, edit("signatures/words/inputs/w/vocabulary/words", ["b", "a"]),
        ["breaking: signatures.words.inputs.w.vocabulary[0]: words reordered: a → b"],
        ["breaking: signatures.words.inputs.w.vocabulary[0]: words reordered: b → a"],
    ),
    "more words": (
        FORMS, edit("signatures/words/inputs/w/vocabulary/words", ["a", "b", *"cdefgh"]),
        ["compatible: signatures.words.inputs.w.vocabulary: words appended (2 → 8): none → c, d, e, f, g, …; all that were"],
        ["breaking: signatures.words.inputs.w.vocabulary: words changed (8 → 2): c, d, e, f, g, … → none"],
    ),
    "what unknown words become": (
        FORMS, edit("signatures/words/inputs/w/vocabulary/oov", 0),
        ["breaking: signatures.words.inputs.w.vocabulary.oov: what an unknown word becomes: 2 → 0; words that are not known"],
        ["breaking: signatures.words.inputs.w.vocabulary.oov: what an unknown word becomes: 0 → 2"],
    ),
    "what strings are": (
        FORMS, edit("signatures/examples/inputs/e", REMOVE, "signatures/examples/inputs/x", {"shape": ["N", 4]},
                    "signatures/examples/inputs/e", {"dtype": "string", "shape": ["N", "T"], "to": "ids",
                                                     "vocabulary": {"words": ["a"], "oov": 1}}),
        ["breaking: signatures.examples.inputs.e: what the strings are: features → vocabulary; callers must send something",
         "breaking: signatures.examples.inputs.e.shape: rank changed: [N] → [N, T]",
         "breaking: signatures.examples.inputs.x: input added, which callers must send"],
        ["breaking: signatures.examples.inputs.e: what the strings are: vocabulary → features",
         "breaking: signatures.examples.inputs.e.shape: rank changed: [N, T] → [N]",
         "breaking: signatures.examples.inputs.x: input removed"],
    ),
    "the feature that carries an input": (
        FORMS, edit("signatures/classify/features/x/feature", "x", "signatures/examples/inputs/e/features/x", {"feature": "x"}),
        ["breaking: signatures.classify.features.x: feature that carries the input: x/raw → x; Examples that callers make",
         "breaking: signatures.examples.inputs.e.features.x: feature that carries the input: x/raw → x"],
        ["breaking: signatures.classify.features.x: feature that carries the input: x → x/raw",
         "breaking: signatures.examples.inputs.e.features.x: feature that carries the input: x → x/raw"],
    ),
    "the same feature in the long way": (
        FORMS, edit("signatures/examples/inputs/e/features/x", {"feature": "x/raw"}, "signatures/classify/features/x", "x/raw"), [], [],
    ),
    "a default": (
        FORMS, edit("signatures/classify/features/x/default", 0),
        ["compatible: signatures.classify.features.x.default: value where a caller sends none: none → 0; callers may now"],
        ["breaking: signatures.classify.features.x.default: value where a caller sends none: 0 → none; who sends none is"],
    ),
    "padding": (
        FORMS, edit("signatures/regress/features/ids/pad", 1),
        ["compatible: signatures.regress.features.ids.pad: what fills shorter rows: 0 → 1; a model that is padded must not"],
        ["compatible: signatures.regress.features.ids.pad: what fills shorter rows: 1 → 0"],
    ),
    "words in features": (
        FORMS, edit("signatures/regress/features/ids/vocabulary", {"words": ["a"], "oov": 0}),
        ["breaking: signatures.regress.features.ids.vocabulary: words changed: none → 1 words; words and numbers are not"],
        ["breaking: signatures.regress.features.ids.vocabulary: words changed: 1 words → none"],
    ),
    "a method": (
        FORMS, edit("signatures/classify", {"method": "regress", "value": "v", "features": {"ids": {"pad": 0}}}),
        ["breaking: signatures.classify.method: method changed: classify → regress"],
        ["breaking: signatures.classify.method: method changed: regress → classify"],
    ),
    "what golden data are about": (
        FORMS, edit("golden/signature", "again"),
        ["documentation: golden.signature: how it is tested: serving_default → again"],
        ["documentation: golden.signature: how it is tested: again → serving_default"],
    ),
    "the input that a picture becomes": (
        PICTURES, edit(f"{B}/p/to", "b", f"{B}/q/to", "a"),
        ["breaking: signatures.bytes.inputs.p.to: input that it becomes: a → b; what callers send goes elsewhere",
         "breaking: signatures.bytes.inputs.q.to: input that it becomes: b → a"],
        ["breaking: signatures.bytes.inputs.p.to: input that it becomes: b → a",
         "breaking: signatures.bytes.inputs.q.to: input that it becomes: a → b"],
    ),
    "how pictures are made small": (
        PICTURES, edit(f"{B}/p/image", {"size": [8, 8], "resize": "area", "order": "bgr", "scale": 2, "offset": 1}),
        [f"compatible: {IN}.offset: how a picture becomes the model's input: none → 1; the graph does it for them",
         f"compatible: {IN}.order: how a picture becomes", f"compatible: {IN}.resize: how a picture becomes",
         f"compatible: {IN}.scale: how a picture becomes", f"compatible: {IN}.size: how a picture becomes"],
        [f"compatible: {IN}.{key}: how a picture becomes" for key in ("offset", "order", "resize", "scale", "size")],
    ),
    "what black becomes": (
        PICTURES, edit(f"{B}/p/image/range", [-1, 1]),
        [f"compatible: {IN}.range: how a picture becomes the model's input: none → [-1, 1]"],
        [f"compatible: {IN}.range: how a picture becomes the model's input: [-1, 1] → none"],
    ),
    "what of a picture is seen": (
        PICTURES, edit(f"{B}/p/image/fit", "crop"),
        [f"breaking: {IN}.fit: what of a picture is seen: stretch → crop; of a picture with another aspect ratio"],
        [f"breaking: {IN}.fit: what of a picture is seen: crop → stretch"],
    ),
    "the largest picture": (
        PICTURES, edit(f"{B}/p/image/max_pixels", 100),
        [f"breaking: {IN}.max_pixels: largest picture: 33554432 → 100; pictures that were taken are refused"],
        [f"compatible: {IN}.max_pixels: largest picture: 100 → 33554432"],
    ),
    "numbers where a picture was": (
        PICTURES, edit("signatures/examples/inputs/e/features/a", REMOVE),
        ["breaking: signatures.examples.inputs.e.features.a.image: what callers send: a picture → numbers; a picture is not"],
        ["breaking: signatures.examples.inputs.e.features.a.image: what callers send: numbers → a picture"],
    ),
    "a feature that the model parses": (
        PARSING, edit(f"{E}/sex", {"shape": [1]}),
        ["breaking: signatures.serving_default.inputs.e.example.sex: feature added; Examples without it are refused"],
        ["compatible: signatures.serving_default.inputs.e.example.sex: feature no longer read; Examples may go on carrying"],
    ),
    "a feature that may be absent": (
        PARSING, edit(f"{E}/sex", {"shape": [1], "default": 0}, f"{E}/more", {"count": [0, 2]}),
        ["compatible: signatures.serving_default.inputs.e.example.more: feature added; Examples without it are taken",
         "compatible: signatures.serving_default.inputs.e.example.sex: feature added; Examples without it are taken"],
        ["compatible: signatures.serving_default.inputs.e.example.more: feature no longer read",
         "compatible: signatures.serving_default.inputs.e.example.sex: feature no longer read"],
    ),
    "what a feature holds": (
        PARSING, edit(f"{E}/age/dtype", "int64", f"{E}/age/doc", "years", f"{E}/town/values", ["rome"]),
        [f"breaking: {AGE}.dtype: dtype changed: float32 → int64; Examples that callers make are refused",
         f"documentation: {AGE}.doc: text changed: none → years",
         "documentation: signatures.serving_default.inputs.e.example.town.values: values to draw from: [oslo] → [rome]"],
        [f"breaking: {AGE}.dtype: dtype changed: int64 → float32", f"documentation: {AGE}.doc: text changed: years → none",
         "documentation: signatures.serving_default.inputs.e.example.town.values: values to draw from: [rome] → [oslo]"],
    ),
    "how many values a feature has": (
        PARSING, edit(f"{E}/age/shape", [3], f"{E}/town/count", [0, 5], f"{E}/age/range", [0, 120]),
        [f"breaking: {AGE}.shape: how many values: [2] → [3]; Examples that callers make are refused",
         f"compatible: {AGE}.range: range of what is taken: [0, 99] → [0, 120]",
         "compatible: signatures.serving_default.inputs.e.example.town.count: how many values: [0, 3] → [0, 5]"],
        [f"breaking: {AGE}.range: range of what is taken: [0, 120] → [0, 99]; values that were taken are out of it",
         f"breaking: {AGE}.shape: how many values: [3] → [2]",
         "breaking: signatures.serving_default.inputs.e.example.town.count: how many values: [0, 5] → [0, 3]"],
    ),
    "values in another shape, or any number of them": (
        PARSING, edit(f"{E}/age", {"range": [0, 99], "count": [1, 2]}),
        [f"compatible: {AGE}.count: how many values: [2, 2] → [1, 2]"], [f"breaking: {AGE}.count: how many values: [1, 2] → [2, 2]"],
    ),
    "another default of a feature": (
        PARSING, edit(f"{E}/age/default", 40),
        [f"compatible: {AGE}.default: value where a caller sends none: none → 40"],
        [f"breaking: {AGE}.default: value where a caller sends none: 40 → none"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("base", "edits", "there", "back"), FORM_CASES.values(), ids=FORM_CASES)
def test_every_change_of_a_form_is_judged_there_and_back(base, edits, there, back):
    new = changed(base, *edits)

    for old, now, expected in ((base, new, there), (new, base, back)):
        lines = [change.line() for change in judged(old, now)]
        assert agrees(lines, expected), lines

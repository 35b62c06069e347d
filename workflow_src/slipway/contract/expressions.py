"""
What `from:` of an output may say: names and calls, nested, as a tree.

The grammar is a part of Python's: a name, or `function(argument, …)`, where arguments are names and calls first and
whole numbers after them. What the functions do is written twice, in numpy (`slipway.answers`) and in TensorFlow
(`slipway.models.functions`): golden answers must not be made by the operations that they judge.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass

INTEGERS = ("int32", "int64")
FLOATS = ("float16", "float32", "float64")
# More than any sensible expression has; Python's parser recurses.
_MOST_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class Name:
    """Another output of the signature, an output of the model, or an input of it."""

    name: str


@dataclass(frozen=True, slots=True)
class Call:
    """
    A function of tensors.

    Attributes:
        function: A key of `FUNCTIONS`.
        arguments: The tensors.
        numbers: The whole numbers behind them, with those that were left out.
    """

    function: str
    arguments: tuple["Name | Call", ...]
    numbers: tuple[int, ...]


Expression = Name | Call


@dataclass(frozen=True, slots=True)
class Function:
    """
    How a function is called.

    Attributes:
        usage: As the documentation writes it.
        tensors: Least and greatest count of tensors.
        numbers: The numbers that it takes after them; None must be given, another value is its default.
        least: The least number that it takes.
        dtypes: What the output may be; empty: what comes in decides.
        names: Whether it turns numbers into `classes`.
    """

    usage: str
    tensors: tuple[int, int] = (1, 1)
    numbers: tuple[int | None, ...] = ()
    least: int = 0
    dtypes: tuple[str, ...] = ()
    names: bool = False


FUNCTIONS = {
    "softmax": Function("softmax(x)", dtypes=FLOATS),
    "sigmoid": Function("sigmoid(x)", dtypes=FLOATS),
    "argmax": Function("argmax(x)", dtypes=INTEGERS),
    "top_k_scores": Function("top_k_scores(x, k)", numbers=(None,), least=1),
    "top_k_ids": Function("top_k_ids(x, k)", numbers=(None,), least=1, dtypes=INTEGERS),
    "top_k_classes": Function("top_k_classes(x, k)", numbers=(None,), least=1, dtypes=("string",), names=True),
    "lookup": Function("lookup(ids)", dtypes=("string",), names=True),
    "viterbi": Function("viterbi(logits, transitions) or with lengths", tensors=(2, 3), dtypes=INTEGERS),
    "lengths": Function("lengths(ids) or lengths(ids, padding)", numbers=(0,), dtypes=INTEGERS),
    "tile": Function("tile(x)"),
    "flatten": Function("flatten(x)"),
    "binary": Function("binary(p)", dtypes=FLOATS),
}


def parse(text: str) -> Expression:
    """
    Read one expression.

    Raises:
        ValueError: In one line: what is no expression, or no call of a function that there is.
    """
    if len(text) > _MOST_CHARACTERS:
        raise ValueError(f"an expression has at most {_MOST_CHARACTERS} characters, got {len(text)}")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise ValueError(f"expected a name or function(…), got {text!r}") from None
    return _read(tree)


def _read(node: ast.expr) -> Expression:
    match node:
        case ast.Name(id=name):
            return Name(name)
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
            return _call(name, arguments)
    raise ValueError(f"expected a name or function(…), got {ast.unparse(node)!r}")


def _call(name: str, given: list[ast.expr]) -> Call:
    function = FUNCTIONS.get(name)
    if function is None:
        raise ValueError(f"there is no function {name}; there are: {', '.join(FUNCTIONS)}")
    count = next((place for place, node in enumerate(given) if _number(node) is not None), len(given))
    numbers = [_number(node) for node in given[count:]]
    filled = (*numbers, *function.numbers[len(numbers) :])
    fewest, most = function.tensors
    if not fewest <= count <= most or len(filled) != len(function.numbers) or None in filled:
        raise ValueError(f"{name} is called as {function.usage}, got {name}({', '.join(map(ast.unparse, given))})")
    whole = tuple(number for number in filled if number is not None)
    if wrong := [number for number in whole if number < function.least]:
        raise ValueError(f"{name}: expected a number from {function.least} on, got {wrong[0]}")
    return Call(name, tuple(_read(node) for node in given[:count]), whole)


def _number(node: ast.expr) -> int | None:
    match node:
        case ast.Constant(value=int(value)) if not isinstance(value, bool):
            return value
    return None


def names_in(expression: Expression) -> Iterator[str]:
    """Give every name that *expression* is made from."""
    match expression:
        case Name(name):
            yield name
        case Call(arguments=arguments):
            for argument in arguments:
                yield from names_in(argument)


def needs_classes(expression: Expression) -> bool:
    """Tell whether *expression* turns numbers into names."""
    if isinstance(expression, Name):
        return False
    return FUNCTIONS[expression.function].names or any(map(needs_classes, expression.arguments))

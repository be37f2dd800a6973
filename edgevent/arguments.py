"""What a call is given: names that are not there and values of a wrong type, told in one sentence.

Python's own error names the class deep inside at which a misspelt keyword has arrived, and a text
in the place of a number is found only where somebody calculates with it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from types import CodeType, FunctionType, MethodType
from typing import Any, Final, NoReturn, TypeVar

from .durations import parse_duration
from .errors import DurationError, UsageError

_T = TypeVar("_T", bound=Callable[..., Any])

_EXACT: Final[dict[str, tuple[type, ...]]] = {
    "bool": (bool,),
    "int": (int,),
    "float": (float, int),
    "str": (str,),
    "None": (type(None),),
    "Dispatcher": (),  # of a floor above; told by its name
}
_WORDS: Final = {
    "bool": "True or False",
    "int": "an integer",
    "float": "a number",
    "str": "text",
    "None": "None",
    "Dispatcher": "a Dispatcher",
}
_NO_HANDLER: Final = (
    inspect.CO_GENERATOR
    | inspect.CO_COROUTINE
    | inspect.CO_ITERABLE_COROUTINE
    | inspect.CO_ASYNC_GENERATOR
)
_SHOWN: Final = 60  # characters of a value in an error


def checks_arguments(target: _T) -> _T:
    """Has a class or a function refuse what it cannot be called with; a decorator.

    A wrong name or number of arguments, and a value whose annotation says ``bool``, ``int``,
    ``float``, ``str`` or one of them ``| None`` and that is none of these, is a
    :class:`UsageError` that names the class, the argument and the nearest right one. What is
    annotated otherwise is left to the function itself.
    """
    is_class = isinstance(target, type)
    made: Any = target
    function: Any = made.__init__ if is_class else made
    checks = _checks(function.__annotations__)
    code: CodeType = function.__code__
    positions = code.co_varnames[: code.co_argcount]

    @functools.wraps(function)
    def checked(*arguments: Any, **named: Any) -> Any:
        for name, value in named.items():
            if name in checks and type(value) not in checks[name]:
                _check_value(_owner(is_class, arguments, target), name, value, function)
        if len(arguments) > 1 or not is_class:
            for name, value in zip(positions, arguments, strict=False):
                if name in checks and type(value) not in checks[name]:
                    _check_value(_owner(is_class, arguments, target), name, value, function)
        try:
            return function(*arguments, **named)
        except TypeError as error:
            found = error.__traceback__
            if found is None or found.tb_next is not None:
                raise  # from inside the function
            owner = _owner(is_class, arguments, target)
            text = _misfit(owner, code, arguments, named, is_class) or str(error)
        raise UsageError(f"{owner.__name__}: {text}")

    if not is_class:
        return checked  # type: ignore[return-value]
    made.__init__ = checked
    return target


def check_values(owner: type, function: Callable[..., Any], given: Mapping[str, object]) -> None:
    """Refuses values as :func:`checks_arguments` does, where a decorator would cost too much.

    Args:
        owner: The class that the error names.
        function: Has the annotations.
        given: The values by the names of the arguments.
    """
    checks = _checks(function.__annotations__)
    for name, value in given.items():
        if name in checks and type(value) not in checks[name]:
            _check_value(owner, name, value, function)


def refuse_names(owner: type, given: Iterable[str]) -> NoReturn:
    """Raises :class:`UsageError` for the first of some arguments that a class has not."""
    name = next(iter(given))
    raise UsageError(
        f"{owner.__name__}: no argument is called {name!r}; {near_names(name, _all_names(owner))}"
    )


def check_callable(function: object, where: str, takes: tuple[str, ...]) -> None:
    """Refuses what cannot be called with so many arguments, and what would only make a coroutine.

    Args:
        where: What it is for, as the error says it.
        takes: What it is called with.

    Raises:
        UsageError: It is no such function.
    """
    inner, bound = (function.__func__, 1) if type(function) is MethodType else (function, 0)
    if type(inner) is FunctionType:
        code = inner.__code__
        fits = code.co_argcount == len(takes) + bound and not code.co_kwonlyargcount
        if fits and not code.co_flags & _NO_HANDLER:
            return  # what nearly all are, told without a signature
    wanted = f"a function of ({', '.join(takes)}) was expected"
    if not callable(function):
        raise UsageError(f"{where}: {wanted}, not {_shown(function)}")
    name = getattr(function, "__qualname__", type(function).__qualname__)
    found: CodeType | None = getattr(inner, "__code__", None)
    if found is not None and found.co_flags & _NO_HANDLER:
        raise UsageError(f"{where}: {wanted}, and {name} is a coroutine or a generator")
    try:
        signature = inspect.signature(function)
    except ValueError:  # some callables of C have none
        return
    try:
        signature.bind(*takes)
    except TypeError as error:
        raise UsageError(f"{where}: {wanted}, and {name}{signature} is none: {error}") from None


def near_names(name: str, known: list[str]) -> str:
    """Returns what an unknown name may have meant, as the end of a sentence."""
    import difflib

    near = difflib.get_close_matches(name, known, n=2, cutoff=0.55)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"there are {', '.join(known)}"


def _checks(annotations: dict[str, Any]) -> dict[str, frozenset[type]]:
    """Returns the types that the arguments of simple types may have."""
    checks = {}
    for name, annotation in annotations.items():
        kinds = annotation.split(" | ") if isinstance(annotation, str) else ["?"]
        if name != "return" and all(kind in _EXACT for kind in kinds):
            checks[name] = frozenset(found for kind in kinds for found in _EXACT[kind])
    return checks


def _check_value(owner: Any, name: str, value: object, function: Any) -> None:
    kinds = function.__annotations__[name].split(" | ")
    for kind in kinds:  # those that inherit from the types, and the numbers of other packages
        if kind in ("bool", "str") and isinstance(value, (int, str)[kind == "str"]):
            return
        if kind == "Dispatcher" and any(one.__name__ == kind for one in type(value).__mro__):
            return
        attribute = {"int": "__index__", "float": "__float__"}.get(kind)
        if attribute and hasattr(value, attribute) and not isinstance(value, bool):
            return
    words = " or ".join(_WORDS[kind] for kind in kinds)
    # A value in the place of a text may be a secret one.
    found = f"not {type(value).__name__}" if "str" in kinds else f"not {_shown(value)}"
    hint = ""
    if "float" in kinds and isinstance(value, str):
        try:
            hint = f"; did you mean {parse_duration(value)}?"
        except DurationError:
            pass
    raise UsageError(f"{owner.__name__}: {name}: {words} was expected, {found}{hint}")


def _owner(is_class: bool, arguments: tuple[Any, ...], target: Any) -> Any:
    return type(arguments[0]) if is_class and arguments else target


def _misfit(
    owner: Any, code: CodeType, arguments: tuple[Any, ...], named: dict[str, Any], is_class: bool
) -> str:
    """Says why a function cannot be called with these arguments; an empty text if it is unclear."""
    positions = code.co_varnames[: code.co_argcount]
    own = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    if not code.co_flags & inspect.CO_VARKEYWORDS:
        for name in named:
            if name not in own:
                known = _all_names(owner) if is_class else list(own)
                return f"no argument is called {name!r}; {near_names(name, known)}"
    if len(arguments) > len(positions) and not code.co_flags & inspect.CO_VARARGS:
        found = ", ".join(positions[is_class:]) or "none"
        return f"too many arguments without a name; those that need none: {found}"
    twice = [name for name in positions[: len(arguments)] if name in named]
    if twice:
        return f"the argument {twice[0]!r} is given twice"
    signature = inspect.signature(owner)
    missing = [
        f"{name!r}"
        for name, parameter in signature.parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        and name not in named
        and name not in positions[: len(arguments)]
    ]
    return f"missing: {', '.join(missing)}" if missing else ""


def _all_names(owner: type) -> list[str]:
    """Returns what a class can be called with, that of the classes below it included."""
    names: dict[str, None] = {}
    for found in owner.__mro__:
        function = inspect.unwrap(vars(found).get("__init__", _nothing))
        code = getattr(function, "__code__", None)
        if function is _nothing or code is None:
            continue
        names.update(dict.fromkeys(code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]))
        if not code.co_flags & inspect.CO_VARKEYWORDS:
            break
    return list(names)


def _nothing() -> None:
    """Stands for the ``__init__`` that a class has not."""


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."

"""The JSON Schema engine (jsonschema-rs), wrapped: which schemas it takes, and what it finds in a text.

Owns: parsing a text strictly, the engine's options, the wording of what is found. Leaves to effort.py whether that may
be done on the event loop; where it may not, this file is run as a program, and so imports nothing of ours.

The program. In, on stdin: a line of JSON, the schema; then the text in UTF-8, to the end. Out, on stdout: lines of
JSON, each a list of `[path, message]`, of which the last whole one counts. That a text is invalid is told before what
is wrong is listed, which can take longer than anybody waits. `null`, or no line: it could not be judged.
"""

import faulthandler
import json
import os
import sys
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from jsonschema_rs import ValidationError, Validator

#: Where, as names and indices joined by dots ("" for the whole text), and what is wrong there.
Finding: TypeAlias = tuple[str, str]
#: Where something stands in a schema: the place around it, and its key or index there.
_Place: TypeAlias = tuple["_Place | None", str | int]

#: What is told where there is no time to say more.
UNLISTED: Finding = ("", "does not match the schema; what is wrong could not be listed in time")
#: What is told of one text; paths and messages hold names and values of the client's or the model's own.
FINDINGS_MAX, PATH_CHARS_MAX, MESSAGE_CHARS_MAX = 20, 200, 300
#: Objects in a schema, nearly all of them schemas themselves: compiling one takes microseconds.
OBJECTS_MAX = 2500
#: Different regular expressions in a schema, their text, and what all of them may take once compiled. The last is
#: shared out evenly: some milliseconds to compile.
PATTERNS_MAX, PATTERNS_CHARS_MAX, PATTERNS_BYTES_MAX = 64, 16 * 1024, 2 * 1024 * 1024
#: On the event loop each must do with so much; a date's or an address's takes a kilobyte. See effort.py.
LIGHT_PATTERN_BYTES_MAX = 16 * 1024
#: Compiled schemas that are kept, most recently used: a client sends few, many times.
_COMPILED_MAX = 32
#: What the program may take. A list of findings holds a copy of the value for each.
_PROGRAM_BYTES_MAX = 1024 * 1024 * 1024
#: The program ends itself after so long, should the one who would kill it be gone.
PROGRAM_S_MAX = 5.0

#: Keywords that hold schemas by names of the client's: there a name is no keyword.
_MAPS = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"})
#: Keywords that hold values, in which a name that looks like a reference is none.
_VALUES = frozenset({"enum", "const", "default", "examples"})
_REFERENCES = frozenset({"$ref", "$dynamicRef", "$recursiveRef"})


class SchemaRefused(ValueError):
    """A schema that texts can't be judged by.

    Attributes:
        path: where in the schema, as in a finding.
        message: what is wrong there, for a person.
    """

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path, self.message = path, message


class NotJson(ValueError):
    """A text that is not strictly JSON; the message says why, and where."""


class Undecided(Exception):
    """The engine gave up: whether the text is valid is unknown."""


def accept(schema: dict[str, Any]) -> None:
    """Look through a client's schema before anything is judged by it.

    Raises:
        SchemaRefused: it refers to another document, which would have to be fetched; or is no schema, or too large a
            one, or has regular expressions that the engine can't take.
    """
    compiled(json.dumps(schema))


def _patterns(schema: Any) -> int:
    """How many different regular expressions a schema has.

    Whatever could be one counts, wherever it stands: a reference may make a schema of a default, or of a map.

    Raises:
        SchemaRefused: it refers to another document, or is too large.
    """
    patterns: set[str] = set()
    objects = 0
    # Paths are spelled out only when one is told: a long name above a long list would else be copied for each item.
    waiting: list[tuple[_Place | None, Any, bool, bool]] = [(None, schema, False, False)]
    while waiting:
        place, value, has_names, is_value = waiting.pop()
        if isinstance(value, list):
            waiting += [
                ((place, index), each, False, is_value)
                for index, each in enumerate(value)
                if isinstance(each, dict | list)
            ]
            continue
        objects += 1
        if objects > OBJECTS_MAX:
            raise SchemaRefused("", f"has more than {OBJECTS_MAX} objects")
        for name, each in value.items():
            if isinstance(each, dict | list):
                holds_value = is_value or (not has_names and name in _VALUES)
                waiting.append(((place, name), each, not has_names and name in _MAPS, holds_value))
                if name == "patternProperties" and isinstance(each, dict):
                    patterns.update(each)
            elif name == "pattern" and isinstance(each, str):
                patterns.add(each)
            elif not is_value and name in _REFERENCES and isinstance(each, str) and not each.startswith("#"):
                raise SchemaRefused(_path((place, name)), 'refers to another document; only "#…" is looked up')
    if len(patterns) > PATTERNS_MAX or sum(map(len, patterns)) > PATTERNS_CHARS_MAX:
        raise SchemaRefused(
            "", f"has more than {PATTERNS_MAX} regular expressions, or {PATTERNS_CHARS_MAX} characters of them"
        )
    return len(patterns)


def _path(place: "_Place | None") -> str:
    steps: list[str] = []
    while place is not None:
        place, step = place
        steps.append(str(step)[:PATH_CHARS_MAX])
    return _bounded(".".join(reversed(steps)), PATH_CHARS_MAX)


@lru_cache(_COMPILED_MAX)
def compiled(schema: str, *, light: bool = False) -> "Validator":
    """The engine's form of a schema, given as JSON.

    Args:
        light: take only regular expressions that are matched in a time that grows no faster than the text, and fast.

    Raises:
        SchemaRefused: as `accept` has it; or with `light`, other regular expressions.
    """
    # Late: 15 ms, which clients that only use the models need not wait for.
    import jsonschema_rs

    content = json.loads(schema)
    share = PATTERNS_BYTES_MAX // max(1, _patterns(content))
    options = (
        jsonschema_rs.RegexOptions(size_limit=LIGHT_PATTERN_BYTES_MAX, dfa_size_limit=LIGHT_PATTERN_BYTES_MAX)
        if light
        else jsonschema_rs.FancyRegexOptions(size_limit=share, dfa_size_limit=share)
    )
    try:
        return jsonschema_rs.validator_for(
            content, validate_formats=False, offline=True, mask="it", pattern_options=options
        )
    except jsonschema_rs.ValidationError as error:
        path, message = _finding(error)
        if getattr(error.kind, "format", None) == "regex":
            message = "is no regular expression that the engine takes, or too large a one"
        raise SchemaRefused(path, message) from None
    except ValueError as error:
        raise SchemaRefused("", _bounded(str(error), MESSAGE_CHARS_MAX)) from None


def parsed(text: str) -> Any:
    """A text's JSON as Python values.

    Raises:
        NotJson: it is not JSON; or has a name twice in an object, NaN, a lone surrogate, a number of more than 4,300
            digits, or is nested more than 200 deep.
    """
    import jiter

    try:
        return jiter.from_json(text.encode(), allow_inf_nan=False, cache_mode="none", catch_duplicate_keys=True)
    except UnicodeEncodeError:
        raise NotJson("not valid JSON: a lone surrogate") from None
    except ValueError as error:
        raise NotJson(_bounded(f"not valid JSON: {error}", MESSAGE_CHARS_MAX)) from None


def findings(validator: "Validator", value: Any) -> list[Finding]:
    """The first `FINDINGS_MAX` of the things that are wrong. The engine makes all, with a copy of the value for each.

    Raises:
        Undecided: a regular expression took too long.
    """
    from jsonschema_rs import ValidationErrorKind as kinds  # noqa: N813 - a namespace of classes

    found: list[Finding] = []
    for error in islice(validator.iter_errors(value), FINDINGS_MAX):
        if isinstance(error.kind, kinds.BacktrackLimitExceeded | kinds.RegexEngineFailure):
            raise Undecided
        found.append(_finding(error))
    return found


def _finding(error: "ValidationError") -> Finding:
    path = ".".join(str(step)[:PATH_CHARS_MAX] for step in error.instance_path)
    return _bounded(path, PATH_CHARS_MAX), _bounded(error.message, MESSAGE_CHARS_MAX)


def _bounded(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def main() -> None:
    """Judge one text, as the module says."""
    _end_in_time()
    schema = sys.stdin.buffer.readline().decode()
    try:
        value = parsed(sys.stdin.buffer.read().decode("utf-8", "surrogatepass"))
    except NotJson as error:
        return _tell([("", str(error))])
    validator = compiled(schema)
    if validator.is_valid(value):
        return _tell([])
    _tell([UNLISTED])
    try:
        return _tell(findings(validator, value))
    except Undecided:
        return _tell(None)


def _tell(findings: list[Finding] | None) -> None:
    # ASCII: names may hold what UTF-8 can't carry.
    os.write(1, json.dumps(findings).encode() + b"\n")


def _end_in_time() -> None:
    """Neither outlive our parent, nor take the machine's memory. The engine holds the interpreter, so only the system,
    or a thread that needs no interpreter, can end us."""
    faulthandler.dump_traceback_later(PROGRAM_S_MAX, exit=True)
    if sys.platform == "linux":
        import ctypes
        import resource
        import signal

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        resource.setrlimit(resource.RLIMIT_AS, (_PROGRAM_BYTES_MAX, _PROGRAM_BYTES_MAX))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main()

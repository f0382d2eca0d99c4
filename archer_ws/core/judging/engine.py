"""The JSON Schema engine (jsonschema-rs), wrapped: which schemas it accepts, and which errors it finds in a text.

Owns: parsing a text strictly, the engine's options, the wording of errors. effort.py decides whether the work may be
done on the event loop. If not, this file runs as a program, so it imports no other module of ours.

The program reads from stdin a line of JSON, the schema, and then the text in UTF-8 to the end. It writes to stdout
lines of JSON, each a list of `[path, message]`; the last complete line counts. It first reports that a text is invalid,
and then lists the errors, which can take longer than the caller waits. `null`, or no line, means that the text could
not be checked.
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

#: A path, as names and indices joined by dots ("" for the whole text), and what is wrong there.
Finding: TypeAlias = tuple[str, str]
#: A place in a schema: the place around it, and its key or index there.
_Place: TypeAlias = tuple["_Place | None", str | int]

#: Reported if there is no time to list the errors.
UNLISTED: Finding = ("", "does not match the schema; what is wrong could not be listed in time")
#: The limits of a report on one text: paths and messages contain names and values of the client's or the model's.
FINDINGS_MAX, PATH_CHARS_MAX, MESSAGE_CHARS_MAX = 20, 200, 300
#: The limit of objects in a schema, nearly all of them schemas themselves: compiling one takes microseconds.
OBJECTS_MAX = 2500
#: The limits of different regular expressions in a schema, of their text, and of their compiled size together. The size
#: is divided evenly among them: they compile in a few milliseconds.
PATTERNS_MAX, PATTERNS_CHARS_MAX, PATTERNS_BYTES_MAX = 64, 16 * 1024, 2 * 1024 * 1024
#: The limit of the compiled size of each one on the event loop; one for a date or an address takes a kilobyte. See
#: effort.py.
LIGHT_PATTERN_BYTES_MAX = 16 * 1024
#: The number of compiled schemas in the cache: a client sends a few schemas, many times.
_COMPILED_MAX = 32
#: The memory limit of the program. A list of findings has a copy of the value for each.
_PROGRAM_BYTES_MAX = 1024 * 1024 * 1024
#: The program ends itself after this time, in case the process that would kill it is gone.
PROGRAM_S_MAX = 5.0

#: Keywords that contain schemas by names that the client chose: these names are not keywords.
_MAPS = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"})
#: Keywords that contain values, in which a name that looks like a reference is not one.
_VALUES = frozenset({"enum", "const", "default", "examples"})
_REFERENCES = frozenset({"$ref", "$dynamicRef", "$recursiveRef"})


class SchemaRefused(ValueError):
    """The schema can't be used for checking texts.

    Attributes:
        path: the place in the schema, as in a finding.
        message: what is wrong there, for a person.
    """

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path, self.message = path, message


class NotJson(ValueError):
    """The text is not strictly JSON; the message says why, and where."""


class Undecided(Exception):
    """The engine gave up: it is unknown whether the text is valid."""


def accept(schema: dict[str, Any]) -> None:
    """Check a client's schema before it is used.

    Raises:
        SchemaRefused: it refers to another document, which would have to be fetched; or it is not a schema, is too
            large, or has regular expressions that the engine does not accept.
    """
    compiled(json.dumps(schema))


def _patterns(schema: Any) -> int:
    """The number of different regular expressions in a schema.

    Everything that could be one counts, in any place: a reference may make a default, or a map, into a schema.

    Raises:
        SchemaRefused: it refers to another document, or is too large.
    """
    patterns: set[str] = set()
    objects = 0
    # Paths are built only when one is reported: otherwise a long name above a long list would be copied for each item.
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
        light: accept only regular expressions that match fast, in a time linear in the text.

    Raises:
        SchemaRefused: as for `accept`; with `light`, also for other regular expressions.
    """
    # Imported late: it takes 15 ms, which clients that only use the models do not need.
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
            message = "is not a regular expression that the engine accepts, or is too large"
        raise SchemaRefused(path, message) from None
    except ValueError as error:
        raise SchemaRefused("", _bounded(str(error), MESSAGE_CHARS_MAX)) from None


def parsed(text: str) -> Any:
    """A text's JSON as Python values.

    Raises:
        NotJson: it is not JSON; or it has a name twice in an object, NaN, a lone surrogate, a number of more than 4,300
            digits, or more than 200 levels of nesting.
    """
    import jiter

    try:
        return jiter.from_json(text.encode(), allow_inf_nan=False, cache_mode="none", catch_duplicate_keys=True)
    except UnicodeEncodeError:
        raise NotJson("not valid JSON: a lone surrogate") from None
    except ValueError as error:
        raise NotJson(_bounded(f"not valid JSON: {error}", MESSAGE_CHARS_MAX)) from None


def findings(validator: "Validator", value: Any) -> list[Finding]:
    """The first `FINDINGS_MAX` errors. The engine makes all of them, each with a copy of the value.

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
    """Check one text, as the module's docstring says."""
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
    # ASCII: names may contain what UTF-8 can't encode.
    os.write(1, json.dumps(findings).encode() + b"\n")


def _end_in_time() -> None:
    """End with our parent, and before using up the machine's memory. The engine holds the interpreter's lock, so only
    the system, or a thread that needs no interpreter, can end this process.
    """
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

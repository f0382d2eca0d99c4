"""The protocol's page (schemas/PROTOCOL.md) against the server's models: its tables have what the code has.

How the page is read: a table is known by its first heading cell. Names stand in backticks, and a `?` behind one says
that it may be missing. What a new method, field, error, close code or route needs is a row, or a name in one; the
failure says which and where.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from archer_ws.api.openai.error_object import openai_status
from archer_ws.api.routes import console, pages
from archer_ws.api.routes.ws import socket_route
from archer_ws.core.exceptions import ArcherError
from archer_ws.main import openapi_document
from archer_ws.rpc.close_reasons import CLOSE_CODES
from archer_ws.rpc.messages import NOTIFICATIONS
from archer_ws.schema.catalog import METHODS, definitions

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "schemas" / "PROTOCOL.md"
_NAME = re.compile(r"`([^`]+)`(\?)?")


@dataclass(frozen=True)
class Table:
    """One table of the page."""

    section: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@cache
def tables() -> tuple[Table, ...]:
    """Every table of the page, with the number of its section."""
    found: list[Table] = []
    section, lines = "0", [*PAGE.read_text("utf-8").splitlines(), ""]
    rows: list[tuple[str, ...]] = []
    for line in lines:
        if heading := re.match(r"## (\d+)\.", line):
            section = heading[1]
        if line.startswith("|"):
            rows.append(tuple(cell.strip() for cell in line.strip("|").split("|")))
        elif rows:
            found.append(Table(section, rows[0], tuple(rows[2:])))
            rows = []
    return tuple(found)


def rows_of(head: str) -> dict[str, tuple[str, ...]]:
    """The rows of all tables that begin with this heading cell, by their first cell's name or text."""
    rows = [row for table in tables() if table.head[0] == head for row in table.rows]
    assert rows, f"{PAGE.name} has no table that begins with the heading {head!r}"
    return {(_NAME.match(row[0]) or [None, row[0]])[1] or row[0]: row for row in rows}


def names_in(cell: str) -> set[str]:
    """The backticked names of a cell, with the `?` of those that may be missing."""
    return {name + optional for name, optional in _NAME.findall(cell)}


def differences(where: str, on_page: set[str], in_code: set[str]) -> list[str]:
    """What is lacking on either side, as lines of a failure."""
    return [
        *(f"{where}: the page lacks `{name.rstrip('?')}`{'?' * name.endswith('?')}" for name in in_code - on_page),
        *(f"{where}: the code has no `{name.rstrip('?')}`{'?' * name.endswith('?')}" for name in on_page - in_code),
    ]


def fail_on(problems: list[str]) -> None:
    assert not problems, f"{PAGE.relative_to(ROOT)} and the code differ:\n" + "\n".join(sorted(problems))


@cache
def fields_in_code() -> Mapping[str, set[str]]:
    """Every object that goes over a wire, with its fields; what is left out, or null, on some wire has a `?`."""
    found: dict[str, set[str]] = {}
    optional: dict[str, set[str]] = {}
    known = definitions()
    for schemas in (known.taken, known.socket, known.rest):
        for name, schema in schemas.items():
            if "properties" not in schema and schema.get("type") != "object":
                continue
            properties: dict[str, Any] = schema.get("properties", {})
            found.setdefault(name, set()).update(properties)
            optional.setdefault(name, set()).update(
                field
                for field, described in properties.items()
                if field not in schema.get("required", ())
                or {"type": "null"} in described.get("anyOf", ())
                or described.get("type") == "null"
            )
    return {name: {field + "?" * (field in optional[name]) for field in fields} for name, fields in found.items()}


@cache
def fields_on_page() -> Mapping[str, set[str]]:
    """Every object that the page describes: in a table of its own, or in a row of a table of objects."""
    found = {}
    for table in tables():
        if own := _NAME.fullmatch(table.head[0]):
            found[own[1]] = {name for row in table.rows for name in names_in(row[0])}
        elif "object" in table.head:
            at = table.head.index("object")
            found |= {_NAME.findall(row[at])[0][0]: names_in(row[at + 1]) for row in table.rows}
    return found


def resolved(cell: str) -> set[str]:
    """The fields that a cell names: by themselves, or by the object that has them."""
    names = names_in(cell)
    if len(names) == 1 and (name := next(iter(names))) in fields_on_page():
        return fields_on_page()[name]
    return names


def errors_in_code(base: type[ArcherError] = ArcherError) -> Iterator[type[ArcherError]]:
    """One class for each kind: the one that names it."""
    if "kind" in vars(base):
        yield base
    for child in base.__subclasses__():
        yield from errors_in_code(child)


def test_every_method_is_on_the_page_with_its_params_and_its_result() -> None:
    rows = rows_of("method")
    problems = differences("section 3, methods", set(rows), {method.name for method in METHODS})
    for method in METHODS:
        if method.name not in rows:
            continue
        _, params, result, _ = rows[method.name]
        where = f"section 3, methods, `{method.name}`"
        fields = fields_in_code()
        problems += differences(f"{where}, params", resolved(params), fields[method.params.__name__])
        told = definitions().socket[method.result.__name__]
        if "properties" in told:
            problems += differences(f"{where}, result", resolved(result), fields[method.result.__name__])
        else:
            reference = told.get("additionalProperties")
            values = {reference["$ref"].rpartition("/")[2]} if isinstance(reference, dict) else set()
            problems += differences(f"{where}, result", names_in(result), values)
    fail_on(problems)


def test_every_notification_is_on_the_page_with_its_fields() -> None:
    rows = rows_of("notification")
    problems = differences("section 4, notifications", set(rows), set(NOTIFICATIONS))
    for name, model in NOTIFICATIONS.items():
        if name in rows:
            told = fields_in_code()[model.__name__]
            problems += differences(f"section 4, notifications, `{name}`", names_in(rows[name][1]), told)
    fail_on(problems)


def test_every_object_is_on_the_page_with_its_fields() -> None:
    in_rows = {method.params.__name__ for method in METHODS} | {model.__name__ for model in NOTIFICATIONS.values()}
    results = {method.result.__name__ for method in METHODS}
    problems = []
    for name, fields in fields_in_code().items():
        if name in fields_on_page():
            problems += differences(f"`{name}`", fields_on_page()[name], fields)
        elif fields and name not in in_rows | results:
            problems.append(f"no table and no row for the object `{name}`")
    for name in set(fields_on_page()) - set(fields_in_code()):
        problems.append(f"`{name}`: there is no such object in the code")
    fail_on(problems)


def test_every_enumeration_is_on_the_page_with_its_values() -> None:
    known = definitions()
    values = {
        name: set(listed)
        for schemas in (known.taken, known.socket, known.rest)
        for name, schema in schemas.items()
        if (listed := schema.get("enum") or schema.get("x-known-values"))
    }
    # Its values are the table of errors.
    del values["ErrorKind"]
    rows = rows_of("enumeration")
    problems = differences("section 1, enumerations", set(rows), set(values))
    for name in values.keys() & rows.keys():
        problems += differences(f"section 1, enumerations, `{name}`", names_in(rows[name][1]), values[name])
    fail_on(problems)


def test_every_error_is_on_the_page_as_the_code_has_it() -> None:
    on_page = {
        (_NAME.match(kind) or [kind, kind])[1]: (int(code), int(status), retryable == "yes")
        for code, kind, status, retryable, _ in rows_of("code").values()
    }
    in_code = {error.kind: (error.code, error.http_status, error.retryable) for error in errors_in_code()}
    problems = differences("section 11, errors", set(on_page), set(in_code))
    for kind in on_page.keys() & in_code.keys():
        for what, told, true in zip(("code", "HTTP", "retryable"), on_page[kind], in_code[kind], strict=True):
            if told != true:
                problems.append(f"section 11, errors, `{kind}`, {what}: the page says {told}, the code {true}")
    fail_on(problems)


def test_every_close_code_is_on_the_page_with_its_reason() -> None:
    on_page = {f"{code} {reason.strip('`')}" for code, (_, reason, *_) in rows_of("close code").items()}
    in_code = {f"{code} {reason}" for reason, code in CLOSE_CODES.items()}
    fail_on(differences("section 11, close codes", on_page, in_code))


def routes_in_code() -> dict[str, set[str]]:
    """Every route, with the parameters of its query."""
    routes = {
        f"{method.upper()} {path}": {
            f"?{each['name']}" for each in operation.get("parameters", ()) if each["in"] == "query"
        }
        for path, item in openapi_document()["paths"].items()
        for method, operation in item.items()
    }
    # What the document leaves out.
    routes[f"GET {socket_route.path}"] = routes["GET /openapi.json"] = set()
    for module in (console, pages):
        routes |= {f"GET {getattr(route, 'path_format', '')}": set() for route in module.router.routes}
    return routes


def test_every_route_is_on_the_page_with_its_query() -> None:
    rows, routes = rows_of("route"), routes_in_code()
    problems = differences("section 10, routes", set(rows), {each for each in routes if not each.startswith("HEAD ")})
    for route in rows.keys() & routes.keys():
        told = {name for name in names_in(rows[route][1]) if name.startswith("?")}
        problems += differences(f"section 10, routes, `{route}`", told, routes[route])
    fail_on(problems)


def test_every_status_that_openai_s_dialect_has_of_its_own_is_on_the_page() -> None:
    on_page = {f"{kind} {status}" for kind, (_, status) in rows_of("kind below `/v1`").items()}
    statuses = {error.kind: error.http_status for error in errors_in_code()} | {"cancelled": None}
    in_code = {f"{kind} {openai_status(kind)}" for kind, own in statuses.items() if openai_status(kind) != own}
    fail_on(differences("section 10, statuses below /v1", on_page, in_code))


def cited_sections() -> Iterator[tuple[str, str]]:
    """Where the package names a section of the protocol, and its number."""
    for path in sorted((ROOT / "archer_ws").rglob("*.py")):
        text = re.sub(r"\s+#?:?\s*", " ", path.read_text("utf-8"))
        numbers = re.findall(r"protocol(?:'s page)?,? sections? ([\d, and]+)", text)
        numbers += re.findall(r'@check\(section="(\d+)', text)
        for group in numbers:
            for number in re.findall(r"\d+", group):
                yield path.relative_to(ROOT).as_posix(), number


def test_every_section_that_the_code_cites_is_on_the_page() -> None:
    headings = set(re.findall(r"^## (\d+)\.", PAGE.read_text("utf-8"), re.MULTILINE))
    cited = list(cited_sections())
    assert len(cited) > 100
    fail_on([f"{place} cites section {number}" for place, number in cited if number not in headings])


@pytest.mark.parametrize("table", [table for table in tables() if "`" in "".join(map("".join, table.rows))])
def test_every_row_of_the_page_has_as_many_cells_as_its_heading(table: Table) -> None:
    for row in table.rows:
        assert len(row) == len(table.head), f"section {table.section}: | {' | '.join(row)} |"

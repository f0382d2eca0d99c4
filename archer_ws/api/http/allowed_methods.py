"""The methods that a path supports (RFC 9110, section 10.2.1): those of all its routes. Starlette would name only the
first one's.
"""

from starlette.routing import BaseRoute, Match
from starlette.types import Scope

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def allowed_methods(scope: Scope) -> str:
    """The value of `Allow` for the request's path."""
    routes: list[BaseRoute] = scope["app"].router.routes
    taken = [method for method in _METHODS if any(_takes(route, scope, method) for route in routes)]
    if "GET" in taken:
        taken.insert(1, "HEAD")
    return ", ".join(taken)


def _takes(route: BaseRoute, scope: Scope, method: str) -> bool:
    asked = {"type": "http", "path": scope["path"], "root_path": scope.get("root_path", ""), "method": method}
    match, _ = route.matches({**asked, "headers": []})
    return match is Match.FULL

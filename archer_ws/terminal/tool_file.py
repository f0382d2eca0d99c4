"""`archer-ws chat --tools FILE.py`: the functions of a file, as tools."""

import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from archer_ws.client.errors import ClientError
from archer_ws.client.tools import Tool

_EXAMPLE = 'def get_weather(city: str) -> str:\n    """The weather in a city, now."""\n    return "4 °C and rain"'


def load_tools(path: Path) -> list[Tool[..., Any]]:
    """The functions that `TOOLS` lists in the file; without it, the tools and the public functions that the file
    defines itself.

    Raises:
        ClientError: there are none, or the file can't be run.
    """
    module = _run(path)
    listed = getattr(module, "TOOLS", None)
    if listed is None:
        listed = [value for name, value in vars(module).items() if _is_offered(name, value, module)]
    elif not isinstance(listed, list | tuple) or not all(map(callable, listed)):
        raise ClientError(f"TOOLS in {path} is no list of functions", "Write it like TOOLS = [get_weather].")
    if not listed:
        raise ClientError(f"{path} has no functions", f"Write one, such as:\n{_EXAMPLE}")
    try:
        tools = [each if isinstance(each, Tool) else Tool(each) for each in listed]
    except ClientError as error:
        raise ClientError(f"{path}: {error.message}", error.hint) from error
    names = [each.name for each in tools]
    for name in names:
        if names.count(name) > 1:
            raise ClientError(f"{path} has two tools with the name {name}", "Give one of them another name.")
    return tools


def _is_offered(name: str, value: Any, module: ModuleType) -> bool:
    if name.startswith("_"):
        return False
    function: Callable[..., Any] = value.function if isinstance(value, Tool) else value
    return inspect.isfunction(function) and function.__module__ == module.__name__


def _run(path: Path) -> ModuleType:
    """The file as a module, which can import the files beside it."""
    if not path.is_file():
        raise ClientError(f"there is no file {path}", "Name a Python file whose functions the model may call.")
    spec = importlib.util.spec_from_file_location("archer_tools", path)
    if spec is None or spec.loader is None:
        raise ClientError(f"{path} is no Python file", "Give it a name that ends in .py.")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and annotations look up their module there.
    sys.modules[spec.name] = module
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise ClientError(f"{path} can't be read: {error.msg} (line {error.lineno})", "Correct it.") from error
    except (Exception, SystemExit) as error:
        lines = [each.lineno for each in traceback.extract_tb(error.__traceback__) if each.filename == str(path)]
        where = f" (line {lines[-1]})" if lines else ""
        hint = "Its packages must be installed where archer-ws is." if isinstance(error, ImportError) else "Correct it."
        raise ClientError(f"{path} can't be run: {type(error).__name__}: {error}{where}", hint) from error
    return module

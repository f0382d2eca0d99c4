"""Modules of the package that need one another in a circle can be read, tested and moved only together."""

import grimp


def circles(graph: grimp.ImportGraph) -> list[list[str]]:
    """The sets of modules that each lead back to one another (Tarjan's strongly connected components)."""
    index: dict[str, int] = {}
    lowest: dict[str, int] = {}
    path: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        index[module] = lowest[module] = len(index)
        path.append(module)
        for imported in graph.find_modules_directly_imported_by(module):
            if imported not in index:
                visit(imported)
                lowest[module] = min(lowest[module], lowest[imported])
            elif imported in path:
                lowest[module] = min(lowest[module], index[imported])
        if lowest[module] == index[module]:
            start = path.index(module)
            found.append(sorted(path[start:]))
            del path[start:]

    for module in sorted(graph.modules):
        if module not in index:
            visit(module)
    return sorted(circle for circle in found if len(circle) > 1)


def test_no_modules_import_one_another_in_a_circle() -> None:
    """Late imports and those for type checkers count: what needs them to stand is a circle all the same."""
    graph = grimp.build_graph("archer_ws", cache_dir=None)
    assert len(graph.modules) > 100
    assert circles(graph) == []


def test_a_circle_is_found_and_what_only_leads_to_it_is_not() -> None:
    graph = grimp.ImportGraph()
    for importer, imported in [("a", "b"), ("b", "c"), ("c", "b"), ("c", "d"), ("e", "a"), ("d", "f")]:
        graph.add_import(importer=importer, imported=imported)
    assert circles(graph) == [["b", "c"]]

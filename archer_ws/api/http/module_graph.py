"""Which ES modules a page needs before it is drawn.

Its head tells them, so that a browser asks for all at once, and not for one level of imports after the other.
"""

import re
from pathlib import Path

#: `import … from "./x.js"`, `export … from "./x.js"` and `import "./x.js"`, on lines of their own or, in minified
#: files, without spaces; what is imported later, by `import()`, is none.
_IMPORT = re.compile(
    r"""^(?:import|export)\s*(?:[\w$*{][^"'();]*?\bfrom\s*)?["'](\.[^"']+\.js)["']|from["'](\.[^"']+\.js)["']""",
    re.MULTILINE,
)


def modules_of(entry: Path) -> list[Path]:
    """The modules that this one imports, and those import, itself first; each once.

    Args:
        entry: the file of the first module.
    """
    found: list[Path] = [entry]
    for path in found:
        for names in _IMPORT.findall(path.read_text("utf-8")):
            module = (path.parent / (names[0] or names[1])).resolve()
            if module not in found:
                found.append(module)
    return found

"""Which ES modules a page needs before it is drawn.

The page's head lists them, so that a browser requests all at once instead of one level of imports after the other.
"""

import re
from pathlib import Path

#: `import … from "./x.js"`, `export … from "./x.js"` and `import "./x.js"`, on lines of their own or, in minified
#: files, without spaces. Dynamic imports, by `import()`, are not matched.
_IMPORT = re.compile(
    r"""^(?:import|export)\s*(?:[\w$*{][^"'();]*?\bfrom\s*)?["'](\.[^"']+\.js)["']|from["'](\.[^"']+\.js)["']""",
    re.MULTILINE,
)


def modules_of(entry: Path) -> list[Path]:
    """The modules that this one imports, directly or indirectly, itself first; each once.

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

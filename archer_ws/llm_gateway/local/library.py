"""Why llama.cpp itself can't be loaded, whatever the model: usually a library of the system that the package needs."""

import re

#: What glibc and musl say of a library that is not there.
_MISSING = re.compile(r"^(?:Error loading shared library )?([\w.+-]+\.so[.\d]*): (?:cannot open shared|No such file)")
#: The packages that have the libraries which llama.cpp needs, by their names before the version. Minimal systems, such
#: as images of containers, lack them.
_PACKAGES = {
    "libgomp": "Debian, Ubuntu: apt install libgomp1; Fedora: dnf install libgomp",
    "libstdc++": "Debian, Ubuntu: apt install libstdc++6; Fedora: dnf install libstdc++",
}


def library_trouble(cause: str) -> tuple[str, str]:
    """The message and the hint for the text of an ImportError. Other paths of this machine are left out of both."""
    found = _MISSING.match(cause)
    if found is None:
        return (
            "llama.cpp can't be loaded by this Python",
            "The server's log has the reason; so has python -c 'import xllamacpp'. If the package is damaged, install "
            "it again: pip install --force-reinstall --no-deps -r requirements-local.txt.",
        )
    name = found[1]
    package = _PACKAGES.get(name.partition(".so")[0], "the system's package that has it")
    return (
        f"llama.cpp can't be loaded: this system has no {name}",
        f"Install it ({package}); the next request loads the model. Or choose another provider.",
    )

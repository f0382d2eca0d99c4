"""What a client accepts, according to `Accept` or `Accept-Encoding` (RFC 9110, section 12.4.2)."""


def weights(header: str) -> dict[str, float]:
    """The weight of each named value, from 0 (not acceptable) to 1; names in lower case."""
    found: dict[str, float] = {}
    for entry in header.lower().split(","):
        name, *parameters = (part.strip() for part in entry.split(";"))
        found[name] = next((_weight(part) for part in parameters if part.startswith("q=")), 1.0)
    return found


def _weight(parameter: str) -> float:
    try:
        return float(parameter.removeprefix("q="))
    except ValueError:
        return 0.0

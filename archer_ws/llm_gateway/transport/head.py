"""Heads of HTTP answers that proxies got wrong, put right where the meaning is plain. Pure."""

import re

_LINE_END = re.compile(rb"\r?\n")
_HEAD_END = re.compile(rb"\r?\n\r?\n")
#: Fields that say where the body ends.
_FRAMING = (b"content-length", b"transfer-encoding")


def is_about_framing(head: bytes) -> bool:
    """Whether it is an HTTP answer's head, and says where its body ends."""
    lowered = head.lower()
    return lowered.startswith(b"http/1.") and any(name in lowered for name in _FRAMING)


def mended(raw: bytes) -> bytes | None:
    """What came, with a head that llhttp understands; None where the head is not whole yet.

    Each of these is as the standard, or everybody else, has it:
    - `chunked` counts in whatever spelling and place: names of codings know no case (RFC 9112, section 7), and gateways
      that pass on a field with their own added write it twice, or not last. It overrides a length (section 6.3).
    - Codings beside it become Content-Encoding's: to who reads the body they are the same (section 7.2).
    - A transfer coding that is none (identity, empty) is left out: RFC 2616, section 3.6, had `identity`, which old
      servers still say.
    - A length that is told several times, always the same, is told once (RFC 9112, section 6.3).
    - A line may end in LF alone (section 2.2).
    """
    end = _HEAD_END.search(raw)
    if end is None:
        return None
    status, *lines = _LINE_END.split(raw[: end.start()])
    codings: list[bytes] = []
    lengths: list[bytes] = []
    others: list[bytes] = []
    for line in lines:
        name, _, value = line.partition(b":")
        match name.strip().lower():
            case b"transfer-encoding":
                codings += [item.partition(b";")[0].strip(b' \t"').lower() for item in value.split(b",")]
            case b"content-length":
                lengths += [item.strip() for item in value.split(b",")]
            case _:
                others.append(line)
    if b"chunked" in codings:
        others.append(b"Transfer-Encoding: chunked")
    else:
        others += [b"Content-Length: " + length for length in dict.fromkeys(filter(None, lengths))]
    packed = [coding for coding in codings if coding not in (b"", b"identity", b"chunked")]
    if packed:
        others.append(b"Content-Encoding: " + b", ".join(packed))
    return b"\r\n".join([status, *others, b"", b""]) + raw[end.end() :]

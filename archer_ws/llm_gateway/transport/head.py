"""Corrects heads of HTTP responses that proxies got wrong, if the meaning is clear. Pure."""

import re

_LINE_END = re.compile(rb"\r?\n")
_HEAD_END = re.compile(rb"\r?\n\r?\n")
#: Header fields that say where the body ends.
_FRAMING = (b"content-length", b"transfer-encoding")


def is_about_framing(head: bytes) -> bool:
    """Whether it is the head of an HTTP response that says where its body ends."""
    lowered = head.lower()
    return lowered.startswith(b"http/1.") and any(name in lowered for name in _FRAMING)


def mended(raw: bytes) -> bytes | None:
    """The bytes with a head that llhttp understands; None if the head is not complete yet.

    Each correction follows the standard, or what other clients do:
    - `chunked` counts in any spelling and position: names of codings are case-insensitive (RFC 9112, section 7), and
      gateways that pass on a field and add their own write it twice, or not last. It overrides a length (section 6.3).
    - Other codings move to Content-Encoding: for the reader of the body they are equivalent (section 7.2).
    - A transfer coding without an effect (identity, empty) is removed: RFC 2616, section 3.6, had `identity`, which old
      servers still send.
    - A repeated length with the same value is kept once (RFC 9112, section 6.3).
    - A line may end in LF only (section 2.2).
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

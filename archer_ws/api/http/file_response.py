"""Responses that are files of this package.

Browsers cache them and revalidate each time (RFC 9110, section 13.1.2); clients that accept gzip get it (section
12.5.3).
"""

import gzip
from base64 import urlsafe_b64encode
from functools import lru_cache
from hashlib import sha256

from fastapi import Request, Response

from archer_ws.api.http.accept import weights

#: Compressing shorter files gains nothing: head and content fit into one packet.
GZIP_FROM_BYTES = 1024
#: More than a page and `/docs` have; each is compressed and hashed once.
_KEPT_MAX = 256


def file_response(content: bytes, media_type: str, request: Request) -> Response:
    """The file, or 304 if the browser has this version: so a page never runs with files of another version of the
    server.

    Args:
        content: the file's bytes; they are UTF-8.
        media_type: without a charset.
        request: may name the version that the browser has, and the codings that it accepts.
    """
    digest = _digest(content)
    is_packed = (
        len(content) >= GZIP_FROM_BYTES and weights(request.headers.get("accept-encoding", "")).get("gzip", 0) > 0
    )
    # Each coding is a representation with a tag of its own (RFC 9110, section 8.8.3.3).
    tag = f'"{digest}-gzip"' if is_packed else f'"{digest}"'
    headers = {
        "ETag": tag,
        "Cache-Control": "no-cache",
        "X-Content-Type-Options": "nosniff",
        "Vary": "Accept-Encoding",
    }
    if names_tag(request, tag):
        return Response(status_code=304, headers=headers)
    if is_packed:
        headers["Content-Encoding"] = "gzip"
        content = _packed(content)
    return Response(content, headers=headers, media_type=f"{media_type}; charset=utf-8")


def names_tag(request: Request, tag: str) -> bool:
    """Whether a request's If-None-Match contains the tag or `*`."""
    return bool({tag, "*"} & _tags(request.headers.get("if-none-match", "")))


def _tags(if_none_match: str) -> set[str]:
    """The tags in the header; a proxy may have made one of ours weak."""
    return {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}


@lru_cache(_KEPT_MAX)
def _digest(content: bytes) -> str:
    # 96 bits in 16 letters: the console's first screen is 68 files, and each response has it.
    return urlsafe_b64encode(sha256(content).digest()[:12]).decode()


@lru_cache(_KEPT_MAX)
def _packed(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)

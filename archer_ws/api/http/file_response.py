"""Answers that are files of this package: kept by browsers, but asked for anew each time (RFC 9110, section 13.1.2)."""

from hashlib import sha256

from fastapi import Request, Response


def file_response(content: bytes, media_type: str, request: Request) -> Response:
    """The file, or that the browser has it already: so page and server are of one age.

    Args:
        content: the file's bytes; they are UTF-8.
        media_type: without a charset.
        request: may name the version that the browser has.
    """
    tag = f'"{sha256(content).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
    if names_tag(request, tag):
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type=f"{media_type}; charset=utf-8")


def names_tag(request: Request, tag: str) -> bool:
    """Whether a request's If-None-Match names the tag, or whatever there is."""
    return bool({tag, "*"} & _tags(request.headers.get("if-none-match", "")))


def _tags(if_none_match: str) -> set[str]:
    """The tags a client knows; a proxy may have made a weak one of ours."""
    return {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}

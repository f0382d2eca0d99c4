"""Pictures and documents to send: the smallest of their kinds, and large ones that begin as they should."""

from base64 import b64encode
from typing import Any

#: One pixel.
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PNG_URL = f"data:image/png;base64,{PNG}"
PDF = b64encode(b"%PDF-1.7\n%%EOF\n").decode()
PDF_URL = f"data:application/pdf;base64,{PDF}"
TABLE = "city,people\nOslo,717710\n"
TABLE_URL = f"data:text/csv;base64,{b64encode(TABLE.encode()).decode()}"
WEB_URL = "https://example.com/cat.jpg"


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def image(url: str = PNG_URL, **more: Any) -> dict[str, Any]:
    return {"type": "image", "url": url, **more}


def file(url: str = PDF_URL, **more: Any) -> dict[str, Any]:
    return {"type": "file", "url": url, **more}


def photo(size: int) -> str:
    """The base64 of a JPEG of so many bytes, or what begins as one."""
    return b64encode(b"\xff\xd8\xff\xe0" + bytes(size - 4)).decode()

"""Immutable dataclasses that cost no more than mutable ones, for values that are created for every request."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as lean_dataclass
else:

    def lean_dataclass(*, frozen: bool, **options: Any) -> Any:
        """Like `dataclass(frozen=True)`, but only the type checker refuses assignments: at run time a frozen dataclass
        sets each field by a call, which makes creating one three times as expensive."""
        return dataclass(unsafe_hash=frozen, **options)


__all__ = ["lean_dataclass"]

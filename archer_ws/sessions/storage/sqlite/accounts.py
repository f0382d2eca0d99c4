"""The principals, and how much each has stored; counted in the transaction that changes it."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from archer_ws.sessions.shares import Shares
from archer_ws.sessions.storage.refusals import check_count
from archer_ws.sessions.storage.sqlite.failures import full


@dataclass(frozen=True, slots=True)
class Accounts:
    """The limits that all principals share (see Shares).

    Args:
        sessions_max: the limit of sessions of all principals.
        bytes_max: the approximate limit of the bytes that all sessions take in the file.
        principals: the configured principals.
    """

    sessions_max: int
    bytes_max: int
    principals: Sequence[str] = ()

    def find(self, connection: sqlite3.Connection, principal: str) -> int | None:
        """The principal's number; None if it has nothing stored."""
        row = connection.execute("SELECT pk FROM principal WHERE name = ?", (principal,)).fetchone()
        return None if row is None else int(row[0])

    def make(self, connection: sqlite3.Connection, principal: str) -> int:
        """The principal's number, inserted if it is new."""
        found = self.find(connection, principal)
        if found is not None:
            return found
        made = connection.execute("INSERT INTO principal (name) VALUES (?)", (principal,)).lastrowid
        assert made is not None
        return made

    def check_session(self, connection: sqlite3.Connection, principal: str) -> None:
        """Refuse a new session if there is no room.

        Raises:
            Overloaded: there is none.
        """
        check_count(self._shares(connection, "sessions", self.sessions_max), principal)

    def check_bytes(self, connection: sqlite3.Connection, principal: str, change: int) -> None:
        """Refuse a change by so many bytes if there is no room.

        Raises:
            StorageFull: there is none.
        """
        if change <= 0:
            return
        (taken,) = connection.execute("SELECT total(bytes) FROM principal").fetchone()
        if taken + change <= self.bytes_max // 2:
            return  # The first half is not reserved (see Shares).
        if not self._shares(connection, "bytes", self.bytes_max).has_room(principal, change):
            raise full()

    @staticmethod
    def count(connection: sqlite3.Connection, principal_pk: int, *, sessions: int = 0, size: int = 0) -> None:
        """Count sessions and bytes; negative amounts are given back."""
        connection.execute(
            "UPDATE principal SET sessions = sessions + ?, bytes = bytes + ? WHERE pk = ?",
            (sessions, size, principal_pk),
        )

    def _shares(self, connection: sqlite3.Connection, column: str, total: int) -> Shares:
        shares = Shares(total, self.principals)
        for name, taken in connection.execute(f"SELECT name, {column} FROM principal WHERE {column} > 0"):
            shares.take(name, taken)
        return shares

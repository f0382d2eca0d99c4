"""What a transaction that writes works with."""

import sqlite3
from dataclasses import dataclass

from archer_ws.sessions.storage.sqlite.accounts import Accounts
from archer_ws.sessions.storage.sqlite.search_index import SearchIndex


@dataclass(frozen=True, slots=True)
class Transaction:
    """An open transaction: its connection, the limits, and the index that goes along with the messages."""

    connection: sqlite3.Connection
    accounts: Accounts
    index: SearchIndex

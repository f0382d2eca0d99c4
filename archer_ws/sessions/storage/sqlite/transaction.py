"""What a writing transaction uses."""

import sqlite3
from dataclasses import dataclass

from archer_ws.sessions.storage.sqlite.accounts import Accounts
from archer_ws.sessions.storage.sqlite.search_index import SearchIndex


@dataclass(frozen=True, slots=True)
class Transaction:
    """An open transaction: its connection, the limits, and the search index."""

    connection: sqlite3.Connection
    accounts: Accounts
    index: SearchIndex

"""The file while it is open: its connection and pragmas, what is done when it is damaged, and its upkeep.

All of it runs in the worker's thread. What stands in the tables is others'.
"""

import contextlib
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from archer_ws.core.exceptions import ArcherError
from archer_ws.sessions.storage.sqlite import failures
from archer_ws.sessions.storage.sqlite.folder import Folder
from archer_ws.sessions.storage.sqlite.forgetting import Forgetting
from archer_ws.sessions.storage.sqlite.migrations import check_version, migrate, remove_old_copies
from archer_ws.sessions.storage.sqlite.schema import INDEX, STEPS
from archer_ws.sessions.storage.sqlite.search_index import SearchIndex

log = structlog.get_logger(__name__)

#: Pages of the WAL file after which it is brought into the database, within a commit: damage in the WAL is not told of,
#: so little shall live there.
_CHECKPOINT_PAGES = 500
#: So long after the last write the rest is brought there, in seconds.
CHECKPOINT_AFTER_S = 1.0
#: How often a file that could not be written to or opened is tried again, in seconds.
TRY_AGAIN_S = 1.0
#: What the file may have beyond the limit: answers are kept even where no question is taken any more.
RESERVE_BYTES = 64 * 1024 * 1024
#: How long SQLite itself waits for another program's lock, in ms: one that looks into the file is soon done.
_BUSY_MS = 2000
_CACHE_KIB = 16 * 1024


@dataclass(frozen=True, slots=True)
class FileSettings:
    """How a file is opened.

    Args:
        bytes_max: what the file may take.
        wait_s: how long another process that holds the folder is waited for.
        reserve_bytes: what it may take beyond that, for answers.
        steps: the migrations.
        factory: what the connection is.
        clock: the monotonic time, in seconds.
    """

    bytes_max: int
    wait_s: float = 0.0
    reserve_bytes: int = RESERVE_BYTES
    steps: Sequence[str] = STEPS
    factory: type[sqlite3.Connection] = sqlite3.Connection
    clock: Callable[[], float] = time.monotonic


class OpenDatabase:
    """The database of a folder (see worker.Database)."""

    def __init__(self, folder: Path, settings: FileSettings) -> None:
        self.folder = Folder(folder)
        self.index = SearchIndex()
        self._settings = settings
        self._clock = settings.clock
        self._connection: sqlite3.Connection | None = None
        self._trouble: ArcherError | None = None
        self._try_at = 0.0
        self._checkpoint_at: float | None = None
        self._forgetting = Forgetting(self.index, self._clock)

    @property
    def trouble(self) -> ArcherError | None:
        """What keeps it from storing; from any thread."""
        return self._trouble

    def open(self) -> None:
        """Become the folder's holder, and open the file.

        A disk that is full or can't be written to is no reason not to start: it is tried again.

        Raises:
            StorageUnavailable: another process holds the folder, or its file is newer or another program's.
        """
        try:
            self.folder.hold(self._settings.wait_s)
            self._open_file()
        except (OSError, sqlite3.Error) as error:
            self.folder.release()
            self._in_trouble(error)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Finish what is to be forgotten, bring the WAL file into the database, and let go of both."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._forgetting.finish(connection)
            with contextlib.suppress(sqlite3.Error):
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            with contextlib.suppress(sqlite3.Error):
                connection.close()
        self.folder.release()

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection.

        Raises:
            ArcherError: the file could not be opened, or not yet again.
        """
        if self._connection is None:
            if self._clock() >= self._try_at:
                self._try_again()
            if self._connection is None:
                raise self._trouble or failures.translated(OSError(), self.folder.database)
        return self._connection

    def translated(self, error: Exception, *, writes: bool) -> ArcherError:
        """Our error for whatever a job or a commit raised; one that others would meet too is remembered."""
        ours = failures.translated(error, self.folder.database)
        if error is ours:
            return ours
        if failures.is_trouble(error) and writes:
            self._in_trouble(error)
        else:
            log.error("store_failed", file=str(self.folder.database), exc_info=error)
        return ours

    def stored(self) -> None:
        """A transaction that wrote is on disk."""
        if self._trouble is not None:
            log.info("store_works_again", file=str(self.folder.database))
            self._trouble = None
        if self._checkpoint_at is None:
            self._checkpoint_at = self._clock() + CHECKPOINT_AFTER_S

    def forgotten(self) -> None:
        """Something was deleted, within the transaction that runs: its text is to go from the file, too."""
        self._forgetting.begin(self.connection)

    def next_upkeep(self) -> float | None:
        """When something is due, by the clock."""
        if self._trouble is not None:
            return self._try_at
        return min((at for at in (self._checkpoint_at, self._forgetting.due_at) if at is not None), default=None)

    def upkeep(self) -> None:
        """Do a bit of what is due."""
        now = self._clock()
        if self._trouble is not None:
            if now >= self._try_at:
                self._try_again()
            return
        try:
            if self._forgetting.due_at is not None and now >= self._forgetting.due_at:
                self._forgetting.step(self.connection)
            elif self._checkpoint_at is not None and now >= self._checkpoint_at:
                self._checkpoint_at = None
                self.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except sqlite3.Error as error:
            if failures.is_trouble(error):
                self._in_trouble(error)
            else:
                log.error("store_upkeep_failed", cause=str(error))  # noqa: TRY400 - it tells all
                self._forgetting.give_up()

    def _in_trouble(self, error: Exception) -> None:
        if self._trouble is None:
            log.error("store_in_trouble", cause=f"{type(error).__name__}: {error}", file=str(self.folder.database))
        self._trouble = failures.translated(error, self.folder.database)
        self._try_at = self._clock() + TRY_AGAIN_S

    def _try_again(self) -> None:
        """See whether it can be written to by now."""
        self._try_at = self._clock() + TRY_AGAIN_S
        try:
            if self._connection is None:
                self.folder.hold(0)
                self._open_file()
            connection = self._connection
            assert connection is not None
            connection.execute("BEGIN IMMEDIATE")
            # A blob as large as a few messages, so that the trouble does not end too early.
            connection.execute("INSERT OR REPLACE INTO meta VALUES ('probe', zeroblob(32768))")
            connection.execute("UPDATE meta SET value = NULL WHERE name = 'probe'")
            connection.execute("COMMIT")
        except (OSError, sqlite3.Error, ArcherError) as error:
            if self._connection is not None and self._connection.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
            if self._connection is None:
                self.folder.release()
            self._in_trouble(error)
        else:
            self.stored()

    def _open_file(self) -> None:
        self.folder.make_file()
        try:
            self._connection = self._opened()
        except failures.Damaged as damage:
            aside = self.folder.put_aside()
            log.critical(
                "conversations_damaged",
                cause=str(damage),
                kept_as=str(aside),
                hint="This server begins with no conversations. Stop it and bring a backup back as "
                f"{self.folder.database.name}, if there is one; sqlite3's .recover may read the damaged file. While "
                "that is there, no uploaded file is removed because its time is over: it may belong to it.",
            )
            self.folder.make_file()
            self._connection = self._opened()
        remove_old_copies(self.folder.database)

    def _opened(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.folder.database, isolation_level=None, cached_statements=256, factory=self._settings.factory
        )
        try:
            self._prepare(connection)
        except sqlite3.Error as error:
            connection.close()
            if failures.is_damage(error):
                raise failures.Damaged(str(error)) from error
            raise
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        # The order matters: without the timeout first, the journal's mode fails where another looks into the file.
        connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        check_version(connection, self.folder.database, len(self._settings.steps))
        # Before anything is written: a damaged file is kept as it is.
        wrong_index = self._check(connection)
        # What was deleted can be given back to the disk. In a new file alone: it writes, and a disk may be full.
        if not connection.execute("PRAGMA page_count").fetchone()[0]:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON").fetchall()
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}").fetchall()
        migrate(connection, self.folder.database, self._settings.steps)
        (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
        pages_max = (self._settings.bytes_max + self._settings.reserve_bytes) // page_bytes
        connection.execute(f"PRAGMA max_page_count = {pages_max}").fetchall()
        if wrong_index:
            self.index.is_damaged(connection, wrong_index)
        self.index.open(connection)
        self._forgetting.open(connection)

    def _check(self, connection: sqlite3.Connection) -> str:
        """Look at the file's structure; what is wrong with the search index alone, which newer SQLite looks at, too.

        Raises:
            Damaged: something else is wrong.
        """
        found = [row[0] for row in connection.execute("PRAGMA quick_check(100)") if row[0] != "ok"]
        others = [line for line in found if INDEX not in line]
        if others:
            raise failures.Damaged("; ".join(others[:3]))
        return "; ".join(found[:3])

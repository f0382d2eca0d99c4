"""The open database file: its connection and pragmas, the handling of damage and disk errors, and its upkeep.

Everything runs in the worker's thread. Other modules read and write the tables.
"""

import contextlib
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from archer_ws.core.exceptions import ArcherError
from archer_ws.core.slow_start import told_while_slow
from archer_ws.sessions.storage.sqlite import failures
from archer_ws.sessions.storage.sqlite.folder import SLOW_HINT, Folder
from archer_ws.sessions.storage.sqlite.forgetting import Forgetting
from archer_ws.sessions.storage.sqlite.leftovers import Leftovers
from archer_ws.sessions.storage.sqlite.migrations import check_version, migrate, remove_old_copies
from archer_ws.sessions.storage.sqlite.schema import INDEX, STEPS
from archer_ws.sessions.storage.sqlite.search_index import SearchIndex

log = structlog.get_logger(__name__)

#: A commit checkpoints the WAL file if it has more pages than this. SQLite does not report damage in a WAL file, so it
#: is kept small.
_CHECKPOINT_PAGES = 500
#: How long after a write the rest of the WAL file is checkpointed, in seconds.
CHECKPOINT_AFTER_S = 1.0
#: How often a file that could not be opened or written is tried again, in seconds.
TRY_AGAIN_S = 1.0
#: How far the file may exceed its limit: completions are stored even if new questions are refused.
RESERVE_BYTES = 64 * 1024 * 1024
#: How far it may exceed that while conversations are deleted: a deletion needs room itself, since the search index
#: grows by what is gone until its segments are merged.
DELETION_BYTES = 64 * 1024 * 1024
#: See FileSettings.finish_s.
FINISH_S = 3.0
#: How long SQLite waits for another program's lock, in ms, since a program that only reads is done soon.
_BUSY_MS = 2000
_CACHE_KIB = 16 * 1024


@dataclass(frozen=True, slots=True)
class FileSettings:
    """How a file is opened.

    Args:
        bytes_max: the limit of the file's size, in bytes.
        wait_s: how long to wait for another process to release the folder, in seconds.
        reserve_bytes: how far completions may exceed the limit, in bytes.
        replaces_damaged: whether a damaged file is set aside and a new one begun; if not, it can't be opened.
        finish_s: how long `close` may go on with pending deletions, in seconds; what is left is done after the next
            start. A deletion from a file of 800 MB takes ten seconds, and who stops a server waits as long.
        steps: the migrations.
        factory: the class of the connection.
        clock: a monotonic clock, in seconds.
    """

    bytes_max: int
    wait_s: float = 0.0
    reserve_bytes: int = RESERVE_BYTES
    replaces_damaged: bool = True
    finish_s: float = FINISH_S
    steps: Sequence[str] = STEPS
    factory: type[sqlite3.Connection] = sqlite3.Connection
    clock: Callable[[], float] = time.monotonic


class OpenDatabase:
    """The database in a folder (see worker.Database)."""

    def __init__(self, folder: Path, settings: FileSettings) -> None:
        self.folder = Folder(folder)
        self.index = SearchIndex()
        self._settings = settings
        self._clock = settings.clock
        self._connection: sqlite3.Connection | None = None
        self._trouble: ArcherError | None = None
        #: The open file, and the error if its path names another one, or none.
        self._identity: tuple[int, int] | None = None
        self._gone: ArcherError | None = None
        self._try_at = 0.0
        self._checkpoint_at: float | None = None
        self._is_deleting = False
        self._forgetting = Forgetting(self.index, self._clock)
        #: What is set aside, and removed step by step.
        self.leftovers = Leftovers(self.index, self._forgetting, self._clock)

    @property
    def trouble(self) -> ArcherError | None:
        """Why it can't write at present, or why what it writes will be lost; None if all is well. May be read in any
        thread."""
        return self._trouble or self._gone

    def open(self) -> None:
        """Lock the folder, and open the file.

        If the disk is full or not writable, this succeeds, and opening is retried later: the server starts anyway.

        Raises:
            StorageUnavailable: another process has locked the folder, or the file is of a newer version or another
                program, or damaged and not to be replaced.
        """
        try:
            self.folder.hold(self._settings.wait_s)
            with told_while_slow("the file with the conversations", self.folder.database, SLOW_HINT):
                self._open_file()
        except (OSError, sqlite3.Error) as error:
            self.folder.release()
            self._in_trouble(error)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Finish pending deletions, as far as the time allows, checkpoint the WAL file, close the file and unlock the
        folder."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._is_deleting = True
                self._limit_pages(connection)
                until = self._clock() + self._settings.finish_s
                is_done = self.leftovers.finish(connection, self._settings.finish_s)
                if not self._forgetting.finish(connection, until - self._clock()) or not is_done:
                    log.info("deleted_text_left", hint="The next start goes on with removing it from the file.")
            with contextlib.suppress(sqlite3.Error):
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            with contextlib.suppress(sqlite3.Error):
                connection.close()
        self.folder.release()

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection.

        Raises:
            ArcherError: the file can't be opened at present.
        """
        if self._connection is None:
            if self._clock() >= self._try_at:
                self._try_again()
            if self._connection is None:
                raise self._trouble or failures.translated(OSError(), self.folder.database)
        return self._connection

    def translated(self, error: Exception, *, writes: bool) -> ArcherError:
        """The ArcherError for what a job or a commit raised. An error that affects all requests is remembered as
        `trouble`."""
        self._deletion_over()
        ours = failures.translated(error, self.folder.database)
        if error is ours:
            return ours
        if failures.is_trouble(error) and writes:
            self._in_trouble(error)
        else:
            log.error("store_failed", file=str(self.folder.database), exc_info=error)
        return ours

    def stored(self) -> None:
        """Note that a writing transaction is on disk."""
        self._deletion_over()
        if self._trouble is not None:
            log.info("store_works_again", file=str(self.folder.database))
            self._trouble = None
        if self._checkpoint_at is None:
            self._checkpoint_at = self._clock() + CHECKPOINT_AFTER_S

    def deleting(self) -> None:
        """Give a deletion room in a full file, until its transaction has ended."""
        self._is_deleting = True
        self._limit_pages(self.connection)

    def _deletion_over(self) -> None:
        if self._is_deleting:
            self._is_deleting = False
            if self._connection is not None:
                with contextlib.suppress(sqlite3.Error):  # If the disk fails, the next request reports it.
                    self._limit_pages(self._connection)

    def _limit_pages(self, connection: sqlite3.Connection) -> None:
        settings = self._settings
        size = settings.bytes_max + settings.reserve_bytes + (DELETION_BYTES if self._is_deleting else 0)
        (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
        connection.execute(f"PRAGMA max_page_count = {size // page_bytes}").fetchall()

    def forgotten(self) -> None:
        """Note a deletion within its transaction, so that its text is also removed from the file (see Forgetting)."""
        self._forgetting.begin(self.connection)

    def next_upkeep(self) -> float | None:
        """When `upkeep` is due, in seconds of the clock."""
        if self._trouble is not None:
            return self._try_at
        due = (self._checkpoint_at, self._forgetting.due_at, self.leftovers.due_at)
        return min((at for at in due if at is not None), default=None)

    def upkeep(self) -> None:
        """Run one step of what is due."""
        now = self._clock()
        if self._trouble is not None:
            if now >= self._try_at:
                self._try_again()
            return
        try:
            if (due := self.leftovers.due_at) is not None and now >= due:
                self.deleting()
                self.leftovers.step(self.connection)
            elif self._forgetting.due_at is not None and now >= self._forgetting.due_at:
                self.deleting()
                self._forgetting.step(self.connection)
            elif self._checkpoint_at is not None and now >= self._checkpoint_at:
                self._checkpoint_at = None
                self.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
                self._look_for_file()
        except sqlite3.Error as error:
            if failures.is_trouble(error):
                self._in_trouble(error)
            else:
                log.error("store_upkeep_failed", cause=str(error))  # noqa: TRY400 - the message says all
                self._forgetting.give_up()
                self.leftovers.give_up()
        finally:
            self._deletion_over()

    def _look_for_file(self) -> None:
        """Notice, after a write, that somebody has removed or replaced the file: SQLite goes on without an error."""
        if self.folder.identity() == self._identity:
            if self._gone is not None:
                log.info("conversations_file_back", file=str(self.folder.database))
            self._gone = None
        elif self._gone is None:
            self._gone = failures.gone()
            log.critical("conversations_file_gone", file=str(self.folder.database), hint=self._gone.hint)

    def _in_trouble(self, error: Exception) -> None:
        if self._trouble is None:
            log.error("store_in_trouble", cause=f"{type(error).__name__}: {error}", file=str(self.folder.database))
        self._trouble = failures.translated(error, self.folder.database)
        self._try_at = self._clock() + TRY_AGAIN_S

    def _try_again(self) -> None:
        """Check whether the file can be opened and written again."""
        self._try_at = self._clock() + TRY_AGAIN_S
        try:
            if self._connection is None:
                self.folder.hold(0)
                self._open_file()
            connection = self._connection
            assert connection is not None
            connection.execute("BEGIN IMMEDIATE")
            # As large as a few messages, so that the check does not succeed on a disk that is almost full.
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
            if not self._settings.replaces_damaged:
                raise failures.unreadable(self.folder.database, damage) from damage
            aside = self.folder.put_aside()
            log.critical(
                "conversations_damaged",
                cause=str(damage),
                kept_as=str(aside),
                hint=f"This server starts without conversations. To restore a backup, stop it, {failures.RESTORING}; "
                "sqlite3's .recover may be able to read the damaged file. While the damaged file exists, expired "
                "uploads are not deleted, since its messages may name them.",
            )
            self.folder.make_file()
            self._connection = self._opened()
        self._identity, self._gone = self.folder.identity(), None
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
        # The order matters: without the timeout, setting the journal mode fails while another program reads the file.
        connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        check_version(connection, self.folder.database, len(self._settings.steps))
        # Before anything is written, since a damaged file must stay as it is.
        wrong_index = self._check(connection)
        # Lets free pages be returned to the disk. Only for a new file, since it writes, and the disk may be full.
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
        self._limit_pages(connection)
        if wrong_index:
            self.index.is_damaged(connection, wrong_index)
        self.index.open(connection)
        self._forgetting.open(connection)
        self.leftovers.open(connection)

    def _check(self, connection: sqlite3.Connection) -> str:
        """Check the file's structure. Returns the errors of the search index, which newer versions of SQLite check,
        too.

        Raises:
            Damaged: there is an error outside of the search index.
        """
        found = [row[0] for row in connection.execute("PRAGMA quick_check(100)") if row[0] != "ok"]
        others = [line for line in found if INDEX not in line]
        if others:
            raise failures.Damaged("; ".join(others[:3]))
        return "; ".join(found[:3])

"""A ledger in PostgreSQL, which outlasts that its server is away for a short time."""

import sys
import time
from typing import Any

from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from medtune.config.write import without_password
from medtune.search.failures import NoRoom
from medtune.search.folder import FolderError

CONNECT = {"connect_timeout": 10}  # seconds
PATIENCE = 60.0  # seconds that a server which went away is waited for
PAUSE = 0.5  # seconds between tries to reach it
MAKING = 7_305_116  # of the advisory lock under which the tables are made


def open_database(address: str) -> RDBStorage:
    """Raises FolderError, without the password, where the database cannot be used."""
    shown = without_password(address)
    try:
        storage = _open(address)
    except ImportError:
        raise FolderError(f'the ledger {shown} needs psycopg: pip install "medtune[postgresql]"') from None
    except (SQLAlchemyError, StorageInternalError, RuntimeError) as error:
        raise FolderError(
            f"the ledger {shown} cannot be opened: {_reason(error)}; see cluster.ledger in the sweep file, and for the "
            "password PGPASSWORD or ~/.pgpass"
        ) from None
    _outlast(storage.engine, shown)
    return storage


def _open(address: str) -> RDBStorage:
    """Two processes that make the tables at once would both fail."""
    with create_engine(address, poolclass=NullPool, connect_args=CONNECT).connect() as connection:
        connection.execute(text(f"SELECT pg_advisory_lock({MAKING})"))  # until the connection is closed
        return RDBStorage(address, engine_kwargs={"pool_pre_ping": True, "connect_args": CONNECT})


def _outlast(engine: Engine, shown: str) -> None:
    """What is begun while the server is away waits for it. What it goes away in the middle of ends the sweep: nobody
    knows whether it was done, and `resume` sees."""

    @event.listens_for(engine, "do_connect")
    def connect(dialect: Any, record: Any, arguments: Any, options: Any) -> Any:
        given_up_at = time.monotonic() + PATIENCE
        told = False
        while True:
            try:
                return dialect.connect(*arguments, **options)
            except dialect.loaded_dbapi.OperationalError as error:
                if time.monotonic() > given_up_at:
                    raise _away(shown, error) from None
                if not told:
                    print(f"the ledger {shown} is away: waiting for it, {PATIENCE:.0f} s at most", file=sys.stderr)
                told = True
                time.sleep(PAUSE)

    @event.listens_for(engine, "handle_error")
    def lost(context: Any) -> None:
        if context.is_disconnect and not context.is_pre_ping:
            raise _away(shown, context.original_exception) from None


def _away(shown: str, error: BaseException) -> NoRoom:
    return NoRoom(f"the ledger {shown} is away: {_reason(error)}")


def _reason(error: BaseException) -> str:
    """The server's words, or the driver's, in one line."""
    of_server = getattr(error.__cause__ if isinstance(error, StorageInternalError) else error, "orig", None) or error
    lines = [line.strip() for line in str(of_server).splitlines() if line.strip()]
    return without_password("; ".join(lines[:2]))

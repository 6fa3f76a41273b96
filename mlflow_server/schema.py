"""The tables of a server, and its users: made, or brought to what this version of MLflow and `.env` say."""

import argparse
import os
from pathlib import Path
from typing import Any

from mlflow_server.postgresql import connect
from mlflow_server.settings import ADMIN, DATABASE, HERE, PASSWORDS, WRITER, ServerError, take_settings

WORKSPACE = "default"
# what the role of writers may do, beyond what everybody may: read. Making something takes the workspace itself
WRITES = {
    "workspace": "USE",
    "experiment": "EDIT",
    "run": "MANAGE",  # one that was made twice is deleted
    "logged_model": "EDIT",
    "registered_model": "EDIT",
    "registered_model_version": "EDIT",
}
TURN = 8_150_123  # of PostgreSQL's locks, for one migration at a time


def migrate() -> None:
    """Both may be done again, and by several at once. Raises ServerError."""
    with connect() as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", (TURN,))
        try:
            _upgrade()
            _make_users()
        except ServerError:
            raise
        except Exception as error:
            said = (str(error).strip().splitlines() or [""])[0]
            raise ServerError(f"the database cannot be brought to this version of MLflow: {said}") from error


def _upgrade() -> None:
    """The tables of the runs first: MLflow makes them only where there are no others."""
    import mlflow.db
    from mlflow.server.auth.db.utils import migrate as migrate_users
    from sqlalchemy import create_engine

    upgrade: Any = mlflow.db.upgrade
    upgrade.callback(DATABASE)
    engine = create_engine(DATABASE)
    migrate_users(engine, "head")
    engine.dispose()


def _make_users() -> None:
    """Each with the password that the environment says, whatever it was before."""
    from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

    store: Any = SqlAlchemyStore()
    store.init_db(DATABASE)
    for user, variable in PASSWORDS.items():
        password = os.environ[variable]
        if not store.has_user(user):
            store.create_user(user, password, is_admin=user == ADMIN)
        elif not store.authenticate_user(user, password):
            store.update_user(user, password=password)
    role = _role_of_writers(store)
    writer = store.get_user(WRITER)
    if role.id not in {one.id for one in store.list_user_roles(writer.id)}:
        store.assign_role_to_user(writer.id, role.id)
    store.engine.dispose()


def _role_of_writers(store: Any) -> Any:
    known = [role for role in store.list_roles([WORKSPACE]) if role.name == WRITER]
    role = known[0] if known else store.create_role(WRITER, WORKSPACE, "Makes experiments, runs and models")
    held = {(one.resource_type, one.resource_pattern) for one in store.list_role_permissions(role.id)}
    for kind, permission in WRITES.items():
        if (kind, "*") not in held:
            store.add_role_permission(role.id, kind, "*", permission)
    return role


def main() -> int:
    """`migrate`: before a server of another version starts."""
    parser = argparse.ArgumentParser(
        prog="mlflow_server/migrate", description="Makes or upgrades the tables and users."
    )
    parser.add_argument("folder", type=Path, nargs="?", default=HERE, help="where `.env` is (default: here)")
    take_settings(parser.parse_args().folder)
    migrate()
    print("the tables and the users are there")
    return 0

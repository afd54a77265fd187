"""Says why BrokerFlow must not serve: a login with too much power, or a master key that is not this database's."""

from collections.abc import Sequence

import psycopg

from app.sealing import key_id, proof

OLDEST = 150000

# A member of an owner could switch row security off; CREATEROLE could make itself one; replication reads it all.
_LOGIN = """
select r.rolname,
       array_remove(array[
           case when r.rolsuper then 'SUPERUSER' end,
           case when r.rolbypassrls then 'BYPASSRLS' end,
           case when r.rolcreaterole then 'CREATEROLE' end,
           case when r.rolreplication then 'REPLICATION' end
       ], null),
       array(
           select distinct o.rolname::text
           from pg_catalog.pg_class c
           join pg_catalog.pg_namespace n on n.oid = c.relnamespace
           join pg_catalog.pg_roles o on o.oid = c.relowner
           where n.nspname !~ '^pg_'
             and n.nspname <> 'information_schema'
             and pg_catalog.pg_has_role(r.oid, o.oid, 'MEMBER')
           order by 1
       ),
       pg_catalog.current_setting('log_parameter_max_length') = '0'
from pg_catalog.pg_roles r
where r.rolname = session_user
"""


def login_complaints(app_url: str, *, is_production: bool = False) -> list[str]:
    """Return a sentence for each reason why the service must not run with this login, and how to mend it.

    Raises psycopg.OperationalError when the server does not answer.
    """
    with psycopg.connect(app_url, connect_timeout=5) as connection:
        if connection.info.server_version < OLDEST:
            return ["The server is older than PostgreSQL 15: upgrade it."]
        row = connection.execute(_LOGIN).fetchone()
    if row is None:
        return ["The login's role is gone: create it again."]
    login, powers, owners, is_quiet = row
    return [
        *_power_complaints(login, powers),
        *_owner_complaints(login, owners),
        *([] if is_quiet or not is_production else [_noise_complaint(login)]),
    ]


def master_key_complaints(app_url: str, master_keys: Sequence[bytes], *, is_serving: bool) -> list[str]:
    """Return a sentence for each master key that sealed something in the database and is not configured.

    The first key of a service that is going to serve is made known to the database.
    """
    with psycopg.connect(app_url, connect_timeout=5) as connection:
        row = connection.execute(
            "select secretstore.admit_master_keys(%s, %s)",
            [[key_id(key) for key in master_keys], [proof(key) for key in master_keys]],
        ).fetchone()
        if not is_serving:
            connection.rollback()
    return [missing_master_key(name) for name in (row or ([],))[0]]


def missing_master_key(name: str) -> str:
    """Say that a master key is needed."""
    return (
        f"BROKERFLOW_MASTER_KEY (or master.key in the home folder) lacks the master key {name}, which sealed secrets "
        "or contacts of this database: list it behind the one that is to seal; brokerflow secret rotate-master makes "
        "it needless, and with --lost forgets one that is lost."
    )


def _power_complaints(login: str, powers: list[str]) -> list[str]:
    return [
        f"The login {login} has {power}, so the database would not hold it to the rules: set BROKERFLOW_APP_URL to "
        f"brokerflow_app, or run: alter role {login} no{power.lower()}"
        for power in powers
    ]


def _owner_complaints(login: str, owners: list[str]) -> list[str]:
    return [
        f"The login {login} owns tables of this database, so it could change the rules: set BROKERFLOW_APP_URL to "
        "brokerflow_app."
        if owner == login
        else f"The login {login} is a member of {owner}, which owns tables, so it could change the rules: set "
        f"BROKERFLOW_APP_URL to brokerflow_app, or run: revoke {owner} from {login}"
        for owner in owners
    ]


def _noise_complaint(login: str) -> str:
    return (
        "The server's log would hold digests and contacts if statements were logged: as a superuser, run: "
        f"alter role {login} set log_parameter_max_length = 0"
    )

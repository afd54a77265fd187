"""Says why BrokerFlow must not serve: a login with the wrong powers, or a master key that is not this database's."""

from collections.abc import Sequence
from typing import NamedTuple

import psycopg

from app.sealing import key_id, proof

OLDEST = 150000
FEWEST_MONTHS = 2  # that are made ahead
OPENS_SESSIONS = "open_identity_session"

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
       pg_catalog.current_setting('log_parameter_max_length') = '0',
       array(
           select distinct p.proname::text
           from pg_catalog.pg_proc p
           join pg_catalog.pg_roles o on o.oid = p.proowner
           where o.rolname in ('brokerflow_owner', 'brokerflow_guard', 'brokerflow_vault')
             and pg_catalog.has_schema_privilege(r.oid, p.pronamespace, 'USAGE')
             and pg_catalog.has_function_privilege(r.oid, p.oid, 'EXECUTE')
       ),
       exists (select from pg_catalog.pg_proc p where p.proname = 'open_identity_session')
from pg_catalog.pg_roles r
where r.rolname = session_user
"""

_MONTHS = r"""
select t.oid::regclass::text, count(c.oid)
from pg_catalog.pg_partitioned_table p
join pg_catalog.pg_class t on t.oid = p.partrelid
join pg_catalog.pg_namespace n on n.oid = t.relnamespace
left join pg_catalog.pg_inherits i on i.inhparent = t.oid
left join pg_catalog.pg_class c on c.oid = i.inhrelid
    and substring(c.relname from '_(\d{4}_\d{2})$') > to_char(now() at time zone 'UTC', 'YYYY_MM')
where n.nspname in ('shared', 'agreement')
group by t.oid
order by 1
"""


class Post(NamedTuple):
    """What a login is for: the variable that names it, and the role that it should be."""

    variable: str
    role: str


SERVICE = Post("BROKERFLOW_APP_URL", "brokerflow_app")
LOGINS = Post("BROKERFLOW_LOGIN_URL", "brokerflow_login")


class Login(NamedTuple):
    """What a login is, and what it may do."""

    name: str
    powers: list[str]
    owners: list[str]
    is_quiet: bool
    functions: list[str]
    is_migrated: bool


def login_complaints(app_url: str, *, is_production: bool = False) -> list[str]:
    """Return a sentence for each reason why the service must not run with this login, and how to mend it.

    Raises psycopg.OperationalError when the server does not answer.
    """
    return _complaints(app_url, SERVICE, is_production=is_production)


def provider_login_complaints(login_url: str, *, is_production: bool = False) -> list[str]:
    """Return likewise why it must not open the sessions of identities with this login.

    Raises psycopg.OperationalError when the server does not answer.
    """
    return _complaints(login_url, LOGINS, is_production=is_production)


def _complaints(url: str, post: Post, *, is_production: bool) -> list[str]:
    with psycopg.connect(url, connect_timeout=5) as connection:
        if connection.info.server_version < OLDEST:
            return ["The server is older than PostgreSQL 15: upgrade it."]
        row = connection.execute(_LOGIN).fetchone()
    if row is None:
        return ["The login's role is gone: create it again."]
    login = Login(*row)
    mighty = [*_power_complaints(login, post), *_owner_complaints(login, post)]
    return [
        *(mighty or _reach_complaints(login, post)),
        *([] if login.is_quiet or not is_production else [_noise_complaint(login)]),
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


def month_complaints(app_url: str) -> list[str]:
    """Return a sentence for each table that will soon have no month to write to, and how to mend it.

    It would still take every row, into the partition that catches what belongs to no month.
    """
    with psycopg.connect(app_url, connect_timeout=5) as connection:
        ahead = connection.execute(_MONTHS).fetchall()
    return [
        f"The table {table} has {months} months made ahead: let brokerflow upkeep run every day, with "
        "BROKERFLOW_WORKER_URL set."
        for table, months in ahead
        if months < FEWEST_MONTHS
    ]


def missing_master_key(name: str) -> str:
    """Say that a master key is needed."""
    return (
        f"BROKERFLOW_MASTER_KEY (or master.key in the home folder) lacks the master key {name}, which sealed secrets "
        "or contacts of this database: list it behind the one that is to seal; brokerflow secret rotate-master makes "
        "it needless, and with --lost forgets one that is lost."
    )


def _power_complaints(login: Login, post: Post) -> list[str]:
    return [
        f"The login {login.name} has {power}, so the database would not hold it to the rules: set {post.variable} to "
        f"{post.role}, or run: alter role {login.name} no{power.lower()}"
        for power in login.powers
    ]


def _owner_complaints(login: Login, post: Post) -> list[str]:
    return [
        f"The login {login.name} owns tables of this database, so it could change the rules: set {post.variable} to "
        f"{post.role}."
        if owner == login.name
        else f"The login {login.name} is a member of {owner}, which owns tables, so it could change the rules: set "
        f"{post.variable} to {post.role}, or run: revoke {owner} from {login.name}"
        for owner in login.owners
    ]


def _reach_complaints(login: Login, post: Post) -> list[str]:
    """Keep the two logins apart: one opens sessions on its word and does nothing else, the other all but that."""
    opens = OPENS_SESSIONS in login.functions
    if post is SERVICE and opens:
        return [f"The login {login.name} may open sessions without proof: set {post.variable} to {post.role}."]
    if post is LOGINS and login.is_migrated and not opens:
        return [f"The login {login.name} may not open sessions of identities: set {post.variable} to {post.role}."]
    if post is LOGINS and len(login.functions) > 1:
        return [f"The login {login.name} may do more than open sessions: set {post.variable} to {post.role}."]
    return []


def _noise_complaint(login: Login) -> str:
    return (
        "The server's log would hold digests and contacts if statements were logged: as a superuser, run: "
        f"alter role {login.name} set log_parameter_max_length = 0"
    )

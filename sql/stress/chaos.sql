-- What chaos does with a superuser's connection.

-- name: backends()
-- The connections of the service's role to this database.
select a.pid
from pg_catalog.pg_stat_activity as a
where a.datname = current_database() and a.usename = 'brokerflow_app'
order by a.pid;

-- name: terminate(pid)
-- End one of them.
select pg_terminate_backend(:pid::integer) as is_ended;

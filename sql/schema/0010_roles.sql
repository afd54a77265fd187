-- Who exists: the roles of BrokerFlow. None is a superuser, none bypasses row security.
--
-- Roles belong to the cluster, not to this database: each is created only where it is absent, and the rollback
-- leaves them, because another database may stand on them. The deployer who runs these chapters needs CREATEROLE
-- and the ownership of the database, no more; he becomes a member of the three owning roles, and of the auditor, as
-- whom he asks the oracles.

do $$
declare
    v_name text;
    v_can_log_in boolean;
begin
    for v_name, v_can_log_in in
        values
            ('brokerflow_owner', false),    -- owns every schema, table and rule
            ('brokerflow_guard', false),    -- owns credentials, the context key and the entrances
            ('brokerflow_vault', false),    -- owns the clients' contacts and their accessor
            ('brokerflow_auditor', false),  -- reads everything but contacts and credentials
            ('brokerflow_app', true),       -- the HTTP service
            ('brokerflow_worker', true),    -- makes partitions and archives them, and nothing else
            ('brokerflow_login', true)      -- opens sessions after a login at a provider, and nothing else
    loop
        begin
            if not exists (select from pg_catalog.pg_roles where rolname = v_name) then
                execute format('create role %I %s', v_name, case when v_can_log_in then 'login' else 'nologin' end);
            end if;
        exception
            -- A chapter that runs in another database of this cluster at the same moment was faster.
            when duplicate_object or unique_violation then null;
        end;
    end loop;
end;
$$;

grant brokerflow_owner, brokerflow_guard, brokerflow_vault, brokerflow_auditor to current_user;

-- With statement logging on, parameters would carry digests and contacts into the server's log. Only a superuser
-- (or who was granted the right) may say so; the service refuses to start in production where nobody did.
do $$
declare
    v_name text;
begin
    for v_name in
        select r.rolname from pg_catalog.pg_roles as r
        where r.rolname in ('brokerflow_app', 'brokerflow_worker', 'brokerflow_login')
            and 'log_parameter_max_length=0' <> all (coalesce(r.rolconfig, '{}'))
        order by r.rolname
    loop
        begin
            execute format('alter role %I set log_parameter_max_length = 0', v_name);
        exception
            when insufficient_privilege then
                raise warning 'a superuser should run: alter role % set log_parameter_max_length = 0', v_name;
        end;
    end loop;
end;
$$;

-- A temporary table would shadow unqualified names, and nobody but the named roles has business here.
do $$
begin
    execute format('revoke all on database %I from public', current_database());
    execute format(
        'grant connect on database %I to brokerflow_app, brokerflow_worker, brokerflow_login, brokerflow_auditor', current_database()
    );
end;
$$;

-- The roles stay: they belong to the cluster.
do $$
begin
    execute format('revoke connect on database %I from brokerflow_app, brokerflow_worker, brokerflow_login, brokerflow_auditor', current_database());
    execute format('grant connect, temporary on database %I to public', current_database());
end;
$$;

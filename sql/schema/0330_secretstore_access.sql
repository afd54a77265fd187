-- Who may see what of secrets: the vault everything, the service and the auditor what is not sealed.
-- depends: 0320_secretstore_commands

set local role brokerflow_vault;

alter table secretstore.secrets enable row level security;
alter table secretstore.secrets force row level security;
alter table secretstore.secret_versions enable row level security;
alter table secretstore.secret_versions force row level security;
alter table secretstore.read_grants enable row level security;
alter table secretstore.read_grants force row level security;

-- Forcing binds the vault to these. Nobody else has a policy that writes.
create policy all_vault on secretstore.secrets for all to brokerflow_vault using (true) with check (true);
create policy all_vault on secretstore.secret_versions for all to brokerflow_vault using (true) with check (true);
create policy all_vault on secretstore.read_grants for all to brokerflow_vault using (true) with check (true);

-- Keys and dates are not sealed; a key of an environment sees those of that one. Insert, update and delete are not granted: commands write.
create policy select_member on secretstore.secrets for select to brokerflow_app
using (
    organization_id = (select shared.acting_organization('secrets:read'))
    and ((select shared.current_environment_id()) is null or environment_id = (select shared.current_environment_id()))
);
grant select on secretstore.secrets to brokerflow_app;

-- ciphertext and wrapped_key are granted to nobody: take_reads hands them out.
create policy select_member on secretstore.secret_versions for select to brokerflow_app
using (exists (select from secretstore.secrets as s where s.id = secret_id));
grant select (
    secret_id, version, master_key_id, restores, expires_at, credential_kind, credential_id, created_by, created_at, destroyed_at
)
on secretstore.secret_versions to brokerflow_app;

-- read_grants: nothing is granted.

create policy select_auditor on secretstore.secrets for select to brokerflow_auditor using (true);
create policy select_auditor on secretstore.secret_versions for select to brokerflow_auditor using (true);
grant select on secretstore.secrets to brokerflow_auditor;
grant select (
    secret_id, version, master_key_id, restores, expires_at, credential_kind, credential_id, created_by, created_at, destroyed_at
)
on secretstore.secret_versions to brokerflow_auditor;

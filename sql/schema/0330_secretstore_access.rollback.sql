revoke all on secretstore.secrets, secretstore.secret_versions from brokerflow_app, brokerflow_auditor;
revoke select (secret_id, version, master_key_id, restores, credential_kind, credential_id, created_by, created_at, destroyed_at)
on secretstore.secret_versions from brokerflow_app, brokerflow_auditor;
drop policy select_auditor on secretstore.secret_versions;
drop policy select_auditor on secretstore.secrets;
drop policy select_member on secretstore.secret_versions;
drop policy select_member on secretstore.secrets;
drop policy all_vault on secretstore.read_grants;
drop policy all_vault on secretstore.secret_versions;
drop policy all_vault on secretstore.secrets;
alter table secretstore.read_grants no force row level security;
alter table secretstore.read_grants disable row level security;
alter table secretstore.secret_versions no force row level security;
alter table secretstore.secret_versions disable row level security;
alter table secretstore.secrets no force row level security;
alter table secretstore.secrets disable row level security;

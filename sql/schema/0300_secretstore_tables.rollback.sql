drop table secretstore.read_grants;
drop table secretstore.secret_versions;
drop table secretstore.secrets;
revoke references (id) on shared.organizations from brokerflow_vault;
revoke select (id, organization_id), references (id, organization_id) on shared.environments from brokerflow_vault;
drop policy select_vault on shared.environments;

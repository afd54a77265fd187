drop function shared.record_oracle_results(jsonb);
drop table shared.oracle_results;
revoke usage on schema apiauth from brokerflow_auditor;
drop function apiauth.describe_impersonations();
drop function apiauth.describe_credentials();
drop function agreement.describe_contacts();

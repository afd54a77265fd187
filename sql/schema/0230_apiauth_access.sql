-- Nobody but the guard touches credentials: row security is on and there is no policy and no grant.
-- depends: 0220_apiauth_commands

set local role brokerflow_guard;

alter table apiauth.passwords enable row level security;
alter table apiauth.root_keys enable row level security;
alter table apiauth.sessions enable row level security;
alter table apiauth.logouts enable row level security;
alter table apiauth.impersonations enable row level security;
alter table apiauth.personal_tokens enable row level security;
alter table apiauth.organization_tokens enable row level security;
alter table apiauth.environment_keys enable row level security;
alter table apiauth.used_jwts enable row level security;
alter table apiauth.rate_buckets enable row level security;
alter table apiauth.esign_keys enable row level security;
alter table apiauth.key_halves enable row level security;

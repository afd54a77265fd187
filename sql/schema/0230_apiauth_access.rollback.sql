alter table apiauth.esign_keys disable row level security;
alter table apiauth.rate_buckets disable row level security;
alter table apiauth.used_jwts disable row level security;
alter table apiauth.environment_keys disable row level security;
alter table apiauth.organization_tokens disable row level security;
alter table apiauth.personal_tokens disable row level security;
alter table apiauth.sessions disable row level security;
alter table apiauth.passwords disable row level security;

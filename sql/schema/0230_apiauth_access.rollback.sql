alter table apiauth.esign_keys disable row level security;
alter table apiauth.environment_keys disable row level security;
alter table apiauth.organization_tokens disable row level security;
alter table apiauth.personal_tokens disable row level security;
alter table apiauth.sessions disable row level security;
alter table apiauth.passwords disable row level security;

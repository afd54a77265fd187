drop table apiauth.esign_keys;
drop table apiauth.environment_keys;
drop table apiauth.organization_tokens;
drop table apiauth.personal_tokens;
drop table apiauth.sessions;
drop table apiauth.passwords;

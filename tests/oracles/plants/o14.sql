-- it is not stored as a digest
alter table apiauth.sessions drop constraint sessions_stored_as_digest cascade;
update apiauth.sessions set digest = 'tr_pat_0' where user_id = :referee;

-- it is not stored as a digest
alter table apiauth.personal_tokens drop constraint personal_tokens_stored_as_digest cascade;
update apiauth.personal_tokens set digest = 'tr_pat_0' where id = :token;

-- it is not stored as a digest
alter table apiauth.passwords drop constraint passwords_stored_as_digest cascade;
update apiauth.passwords set key_digest = 'secret';

-- it is not stored as a digest
alter table apiauth.esign_keys drop constraint esign_keys_stored_as_digest cascade;
update apiauth.esign_keys set digest = 'whsec_0';

-- it is not stored as a digest
alter table apiauth.key_halves drop constraint key_halves_stored_as_digest cascade;
insert into apiauth.key_halves (digest) values ('half');

-- it is not stored as a digest
alter table apiauth.device_codes drop constraint device_codes_stored_as_digests cascade;
update apiauth.device_codes set user_digest = 'WDJB-MJHT' where token_id = :device_token;

-- its salt is not 16 bytes
alter table apiauth.passwords drop constraint passwords_salt_is_16_bytes cascade;
update apiauth.passwords set salt = '';

-- another has the same digest
alter table apiauth.sessions drop constraint sessions_digest_key cascade;
update apiauth.sessions set digest = sha256('x');

-- another has the same digest
alter table apiauth.personal_tokens drop constraint personal_tokens_digest_key cascade;
insert into apiauth.personal_tokens (user_id, name, digest, token_hint, scopes, expires_at)
select user_id, name, digest, token_hint, scopes, expires_at
from apiauth.personal_tokens;

-- another has the same digest
alter table apiauth.device_codes drop constraint device_codes_user_digest_key cascade;
update apiauth.device_codes set user_digest = sha256('x');

-- it has no end within 10 minutes
alter table apiauth.device_codes drop constraint device_codes_end_within_10_minutes cascade;
update apiauth.device_codes set expires_at = expires_at + interval '1 day' where token_id = :device_token;

-- it yielded a token unapproved, or after its end
alter table apiauth.device_codes drop constraint device_codes_redeemed_approved_in_time cascade;
update apiauth.device_codes set is_approved = false where token_id = :device_token;

-- it yielded a token unapproved, or after its end
alter table apiauth.device_codes drop constraint device_codes_redeemed_approved_in_time cascade;
update apiauth.device_codes set redeemed_at = expires_at + interval '1 second' where token_id = :device_token;

-- its token is not of the user who approved it
update apiauth.device_codes set user_id = :referee where token_id = :device_token;

-- it has no end within 30 days
alter table apiauth.sessions drop constraint sessions_end_within_30_days cascade;
update apiauth.sessions set expires_at = expires_at + interval '100 days' where user_id = :referee;

-- it has no end within 30 days
alter table apiauth.sessions alter expires_at drop not null;
update apiauth.sessions set expires_at = null where user_id = :referee;

-- it has no end within a year
alter table apiauth.personal_tokens drop constraint personal_tokens_end_within_a_year cascade;
update apiauth.personal_tokens set expires_at = 'infinity' where id = :token;

-- it acted after it had ended
update apiauth.sessions
set created_at = now() - interval '3 days', expires_at = now() - interval '1 day'
where user_id = :referee;

-- it acted after it had ended
update apiauth.personal_tokens set revoked_at = now() - interval '1 hour' where id = :token;

-- it opens the accounts of two users
alter table apiauth.identities drop constraint identities_of_one_user;
insert into apiauth.identities (user_id, issuer, subject)
values (:referrer, 'https://id.example', 'x'), (:referee, 'https://id.example', 'x');

-- its user has another of the same provider
alter table apiauth.identities drop constraint identities_one_a_user_an_issuer;
insert into apiauth.identities (user_id, issuer, subject)
values (:referee, 'https://id.example', 'x'), (:referee, 'https://id.example', 'y');

-- it acted after it had ended
insert into apiauth.ended_tickets (session_id, ended_at, expires_at)
select credential_id, now() - interval '1 hour', now() from shared.audit_log where credential_kind = 'session' limit 1;

-- its contact was granted to a stranger
update agreement.contact_reads set organization_id = :stranger_broker where id = :read;

-- its contact was read while it was not effective
update agreement.contact_reads set consumed_at = granted_at + interval '1 day' where id = :former_read;

-- the contact is not sealed
alter table agreement.contacts drop constraint contacts_ciphertext_is_sealed cascade;
update agreement.contacts set ciphertext = 'Ann' where referral_id = :referral;

-- the contact is neither sealed nor shredded
alter table agreement.contacts drop constraint contacts_key_until_shredded cascade;
update agreement.contacts set wrapped_key = null where referral_id = :referral;

-- nobody is known to have sealed the contact
delete from shared.audit_log where action = 'contact.seal' and subject = 'referral/' || :referral;

-- the contact was shredded without a receipt
update agreement.contacts set wrapped_key = null, shredded_at = now() where referral_id = :referral;

-- the contact was shredded without a receipt
update agreement.contacts set ciphertext = ciphertext || 'x'::bytea where referral_id = :shredded;

-- a timeline does not tell that the contact was shredded
update agreement.agreements set created_at = created_at - interval '1 day' where id = :shredded_agreement;
delete from agreement.timeline_events where type = 'CONTACT_SHREDDED';

-- it belongs to brokerflow_owner
alter table agreement.contacts owner to brokerflow_owner;
grant select on agreement.contacts to brokerflow_vault;

-- row security is not forced on it
alter table agreement.contacts no force row level security;

-- row security is not forced on it
alter table agreement.contacts disable row level security;

-- brokerflow_app was granted SELECT on it
grant select on agreement.contacts to brokerflow_app;

-- everybody was granted SELECT on it
grant select (sealed_at) on agreement.contacts to public;

-- the policy all_vault admits another than the vault
alter policy all_vault on agreement.contacts to brokerflow_vault, brokerflow_app;

-- the policy p admits another than the vault
create policy p on agreement.contacts using (true);

-- brokerflow_app is a member of the vault
grant brokerflow_vault to brokerflow_app;

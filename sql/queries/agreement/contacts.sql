-- name: seal_contact(referral_id, ciphertext, wrapped_key)!
-- Put a sealed contact to a referral of the caller's broker, in place of an earlier one.
select agreement.seal_contact(:referral_id, :ciphertext, :wrapped_key);

-- name: shred_contact(referral_id)!
-- Destroy a contact's key for good.
select agreement.shred_contact(:referral_id);

-- name: grant_contact_read(agreement_id, purpose)<!
-- Grant the caller one read of a contact; to be committed before it is consumed.
-- record: ContactRead
select r.id, r.agreement_id, r.user_id, r.organization_id, r.purpose, r.granted_at, r.consumed_at
from agreement.grant_contact_read(:agreement_id, :purpose) as r;

-- name: consume_contact_read(id)<!
-- Use a grant that was committed before, and get the sealed contact.
-- Refused where it was shredded or never known; the grant stays unused then.
-- record: SealedContact
select c.referral_id as "referral_id!", c.ciphertext as "ciphertext!", c.wrapped_key as "wrapped_key!"
from agreement.consume_contact_read(:id) as c;

-- name: list_contact_reads(agreement_id, after, limit)
-- Who was granted a read of the contact, when and why, newest first.
-- record: ContactRead
-- optional: after
select r.id, r.agreement_id, r.user_id, r.organization_id, r.purpose, r.granted_at, r.consumed_at
from agreement.find_agreement(:agreement_id) as f (agreement_id)
cross join lateral (
    select *
    from agreement.contact_reads as t
    where t.agreement_id = f.agreement_id and t.id < (select coalesce(:after::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
    order by t.id desc
    limit :limit
) as r
order by r.id desc;

-- name: list_wrapped_contacts(after, limit)
-- Keys of contacts as they are wrapped; for the operator, as the vault.
-- record: WrappedContact
-- role: brokerflow_vault
select w.referral_id as "referral_id!", w.wrapped_key as "wrapped_key!"
from agreement.list_wrapped_contacts(:after, :limit) as w;

-- name: rewrap_contacts(referral_ids, wrapped_keys, rewrapped_keys)$
-- Put keys that are wrapped anew in place of those read; for the operator, as the vault.
-- role: brokerflow_vault
select agreement.rewrap_contacts(:referral_ids, :wrapped_keys, :rewrapped_keys) as "count!";

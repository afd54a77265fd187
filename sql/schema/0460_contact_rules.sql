-- Who a client is: sealed by the service, kept by the vault, read once per grant that was committed before.
--
-- What stands here is ciphertext (AES-256-GCM, one data key a contact) and that key, wrapped by a master key which
-- the database never sees. Destroying the wrapped key shreds the contact. The vault does not own the service's
-- master key and the service does not own the vault's rows: either alone reads nothing.
-- depends: 0450_money_rules

set local role brokerflow_owner;

-- Fills in the reader and asks whether the agreement is effective, which is another table's row: it is locked, so
-- that it is still effective when the grant commits. Crosses row security, because that lock would otherwise ask for
-- the right to change the agreement; the party is compared here.
create function agreement.contact_reads_effective_only() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
    if tg_op = 'INSERT' then
        new.user_id := shared.current_user_id();
        new.organization_id := shared.acting_organization('contacts:read');
        new.granted_at := shared.clock();
        new.granted_in := pg_current_xact_id();
        new.consumed_at := null;
    end if;
    perform from agreement.agreements as a
    where a.id = new.agreement_id and a.status = 'effective' and new.organization_id in (a.from_broker_id, a.to_broker_id)
    for share;
    if not found then
        perform shared.refuse('contact_reads_effective_only', 'a contact is read by a party of an effective agreement');
    end if;
    return new;
end;
$$;

comment on function agreement.contact_reads_effective_only() is 'Crosses row security to lock the agreement.';
revoke execute on function agreement.contact_reads_effective_only() from public;

create trigger contact_reads_effective_only
before insert or update on agreement.contact_reads
for each row execute function agreement.contact_reads_effective_only();

comment on trigger contact_reads_effective_only on agreement.contact_reads is
    'Axiom A2: a client''s contact is readable only by a party of an effective agreement. Asked when the read is granted and again when it is used.';

-- Compares the row with what it was and with this transaction.
create function agreement.contact_reads_consumed_once() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    if (old.id, old.agreement_id, old.user_id, old.organization_id, old.purpose, old.granted_at, old.granted_in)
            is distinct from (new.id, new.agreement_id, new.user_id, new.organization_id, new.purpose, new.granted_at, new.granted_in)
        or old.consumed_at is not null
        or old.granted_in = pg_current_xact_id()
        or old.granted_at < shared.clock() - interval '1 minute'
    then
        perform shared.refuse('contact_reads_consumed_once', 'a grant is used once, within a minute, and only after it was committed');
    end if;
    return new;
end;
$$;

create trigger contact_reads_consumed_once
before update on agreement.contact_reads
for each row execute function agreement.contact_reads_consumed_once();

comment on trigger contact_reads_consumed_once on agreement.contact_reads is
    'Axiom A7: every read of a contact has a committed audit row before the value leaves. A grant of the same transaction is refused, so no rollback takes the trace of a value that was seen.';

create trigger contact_reads_never_deleted
before delete on agreement.contact_reads
for each row execute function shared.refuse_change();

create trigger contact_reads_never_emptied
before truncate on agreement.contact_reads
for each statement execute function shared.refuse_change();

comment on trigger contact_reads_never_deleted on agreement.contact_reads is 'Axiom A7: every read of a contact has a committed audit row. It stays.';
comment on trigger contact_reads_never_emptied on agreement.contact_reads is 'Axiom A7: every read of a contact has a committed audit row. TRUNCATE fires no row trigger, so it has its own.';

-- Crosses into the timeline's own types.
create function agreement.contact_reads_tell_timeline() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
    insert into agreement.timeline_events (agreement_id, type, payload)
    values (new.agreement_id, 'PII_VIEWED', jsonb_build_object('read_id', new.id, 'purpose', new.purpose));
    return null;
end;
$$;

comment on function agreement.contact_reads_tell_timeline() is 'Crosses into the timeline.';
revoke execute on function agreement.contact_reads_tell_timeline() from public;

create trigger contact_reads_tell_timeline
after insert on agreement.contact_reads
for each row execute function agreement.contact_reads_tell_timeline();

comment on trigger contact_reads_tell_timeline on agreement.contact_reads is
    'Axiom A7: every read of a contact has a committed audit row. The grant, its event and its audit row are one transaction.';

-- The receipt of a shredding, in the chain of every agreement of the referral. Crosses into the timeline for the
-- vault, and for nobody else.
create function agreement.tell_shredded(referral_id uuid, receipt jsonb) returns void
language plpgsql volatile security definer
set search_path = ''
as $$
begin
    insert into agreement.timeline_events (agreement_id, type, payload)
    select a.id, 'CONTACT_SHREDDED', tell_shredded.receipt
    from agreement.agreements as a where a.referral_id = tell_shredded.referral_id;
    perform shared.write_audit('contact.shred', 'referral/' || tell_shredded.referral_id, detail => tell_shredded.receipt);
end;
$$;

comment on function agreement.tell_shredded(uuid, jsonb) is 'Crosses into the timeline, so that a destroyed contact leaves a receipt.';
revoke execute on function agreement.tell_shredded(uuid, jsonb) from public;
grant execute on function agreement.tell_shredded(uuid, jsonb) to brokerflow_vault;

-- What the vault must see to decide: whose referral it is, and the grant that it consumes.
create policy select_vault on agreement.referrals for select to brokerflow_vault using (true);
create policy select_vault on agreement.agreements for select to brokerflow_vault using (true);
create policy select_vault on agreement.contact_reads for select to brokerflow_vault using (true);
create policy update_vault on agreement.contact_reads for update to brokerflow_vault using (true) with check (true);
grant select (id, broker_id) on agreement.referrals to brokerflow_vault;
grant select (id, referral_id) on agreement.agreements to brokerflow_vault;
grant select, update (consumed_at) on agreement.contact_reads to brokerflow_vault;

set local role brokerflow_vault;

create table agreement.contacts (
    referral_id uuid primary key references agreement.referrals (id) on delete restrict,
    ciphertext bytea not null,
    wrapped_key bytea,
    sealed_at timestamptz not null default shared.clock(),
    shredded_at timestamptz,
    constraint contacts_ciphertext_is_sealed check (octet_length(ciphertext) between 28 and 16384),
    constraint contacts_key_until_shredded check ((wrapped_key is null) = (shredded_at is not null))
);

comment on table agreement.contacts is 'Clients'' contacts, sealed to their referral.';
comment on constraint contacts_key_until_shredded on agreement.contacts is
    'Axiom A2: a client''s contact is readable only through the accessor. A shredded contact has no key, and no longer opens for anybody.';

alter table agreement.contacts enable row level security;
alter table agreement.contacts force row level security;

-- Nobody else has a policy or a grant, and forcing binds the vault to this one.
create policy all_vault on agreement.contacts for all to brokerflow_vault using (true) with check (true);

comment on policy all_vault on agreement.contacts is
    'Axiom A2: a client''s contact is readable only through the accessor. The vault''s functions are the only way in, whoever owns the rest.';

create function agreement.contacts_stay_shredded() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    perform shared.refuse('contacts_stay_shredded', 'a shredded contact stays shredded');
    return null;
end;
$$;

create trigger contacts_stay_shredded
before update on agreement.contacts
for each row when (old.shredded_at is not null)
execute function agreement.contacts_stay_shredded();

comment on trigger contacts_stay_shredded on agreement.contacts is
    'Axiom A2: a client''s contact is readable only through the accessor. Shredding is for good: no later contact takes the place.';

create trigger contacts_closed_to_impersonators
before insert or update on agreement.contacts
for each row execute function shared.refuse_impersonator();

comment on trigger contacts_closed_to_impersonators on agreement.contacts is
    'Axiom A2: a client''s contact is readable only through the accessor. A platform admin who acts as a user neither seals nor shreds one; to read it he lacks the scope.';

create trigger contacts_never_deleted
before delete on agreement.contacts
for each row execute function shared.refuse_change();

create trigger contacts_never_emptied
before truncate on agreement.contacts
for each statement execute function shared.refuse_change();

comment on trigger contacts_never_deleted on agreement.contacts is 'Axiom A2: a client''s contact is readable only through the accessor. It is shredded, with a receipt, not removed.';
comment on trigger contacts_never_emptied on agreement.contacts is 'Axiom A2: a client''s contact is readable only through the accessor. TRUNCATE fires no row trigger, so it has its own.';

-- Crosses into the vault: the referral's own broker seals a contact, and cannot read it back.
create function agreement.seal_contact(referral_id uuid, ciphertext bytea, wrapped_key bytea) returns void
language plpgsql volatile security definer
set search_path = ''
as $$
begin
    perform from agreement.referrals as r
    where r.id = seal_contact.referral_id and r.broker_id = shared.acting_organization('agreements:write');
    if not found then
        perform shared.refuse('contacts_referral_id_fkey', 'no such referral', 'no_data_found');
    end if;
    insert into agreement.contacts (referral_id, ciphertext, wrapped_key)
    values (seal_contact.referral_id, seal_contact.ciphertext, seal_contact.wrapped_key)
    on conflict on constraint contacts_pkey do update
    set ciphertext = excluded.ciphertext, wrapped_key = excluded.wrapped_key, sealed_at = excluded.sealed_at;
    perform shared.write_audit('contact.seal', 'referral/' || seal_contact.referral_id);
end;
$$;

comment on function agreement.seal_contact(uuid, bytea, bytea) is
    'Axiom A2: a client''s contact is readable only through the accessor. Writing it gives no way to read it.';

-- Crosses into the vault.
create function agreement.shred_contact(referral_id uuid) returns void
language plpgsql volatile security definer
set search_path = ''
as $$
declare
    v_contact agreement.contacts;
begin
    select c.* into v_contact
    from agreement.contacts as c
    join agreement.referrals as r on r.id = c.referral_id
    where c.referral_id = shred_contact.referral_id and r.broker_id = shared.acting_organization('agreements:write')
    for no key update of c;
    if not found then
        perform shared.refuse('contacts_referral_id_fkey', 'no such contact', 'no_data_found');
    end if;
    update agreement.contacts as c set wrapped_key = null, shredded_at = shared.clock()
    where c.referral_id = shred_contact.referral_id;
    perform agreement.tell_shredded(shred_contact.referral_id, jsonb_build_object(
        'referral_id', shred_contact.referral_id,
        'ciphertext_sha256', encode(sha256(v_contact.ciphertext), 'hex'),
        'wrapped_key_sha256', encode(sha256(v_contact.wrapped_key), 'hex')
    ));
end;
$$;

comment on function agreement.shred_contact(uuid) is
    'Axiom A2: a client''s contact is readable only through the accessor. Destroys its key for good and leaves a receipt in the chain.';

-- The accessor. Crosses into the vault with a grant that an earlier transaction committed for the very same reader.
create function agreement.consume_contact_read(id uuid)
returns table (referral_id uuid, ciphertext bytea, wrapped_key bytea)
language plpgsql volatile security definer
set search_path = ''
as $$
declare
    v_agreement_id uuid;
begin
    update agreement.contact_reads as r set consumed_at = shared.clock()
    where r.id = consume_contact_read.id
        and r.user_id = shared.current_user_id()
        and r.organization_id = shared.acting_organization('contacts:read')
    returning r.agreement_id into v_agreement_id;
    if not found then
        perform shared.refuse('contact_reads_consumed_once', 'no such grant', 'no_data_found');
    end if;
    return query
    select c.referral_id, c.ciphertext, c.wrapped_key
    from agreement.agreements as a
    join agreement.contacts as c on c.referral_id = a.referral_id
    where a.id = v_agreement_id and c.shredded_at is null;
    if not found then  -- and the grant stays unused
        perform shared.refuse('contacts_referral_id_fkey', 'the referral has no contact: none was given, or it was shredded',
            'no_data_found');
    end if;
end;
$$;

comment on function agreement.consume_contact_read(uuid) is
    'Axiom A2: a client''s contact is readable only through the accessor, only by a party of an effective agreement. It asks for a grant and takes no actor as an argument.';

-- For the operator, as the vault: granted to nobody.
create function agreement.list_wrapped_contacts(after uuid, count integer) returns table (referral_id uuid, wrapped_key bytea)
language sql stable
as $$
    select c.referral_id, c.wrapped_key
    from agreement.contacts as c
    where c.wrapped_key is not null and c.referral_id > list_wrapped_contacts.after
    order by c.referral_id
    limit list_wrapped_contacts.count
$$;

comment on function agreement.list_wrapped_contacts(uuid, integer) is 'Keys of contacts that are not shredded, as they are wrapped.';

-- What was shredded, given again or wrapped anew in the meantime stays as it is.
create function agreement.rewrap_contacts(referral_ids uuid[], wrapped_keys bytea[], rewrapped_keys bytea[]) returns integer
language plpgsql volatile
set search_path = ''
as $$
declare
    v_count integer;
begin
    update agreement.contacts as c set wrapped_key = r.rewrapped_key
    from unnest(rewrap_contacts.referral_ids, rewrap_contacts.wrapped_keys, rewrap_contacts.rewrapped_keys)
        as r (referral_id, wrapped_key, rewrapped_key)
    where c.referral_id = r.referral_id and c.wrapped_key = r.wrapped_key;
    get diagnostics v_count = row_count;
    perform shared.write_audit('contact.rewrap', 'master-key', detail => jsonb_build_object('contacts', v_count));
    return v_count;
end;
$$;

comment on function agreement.rewrap_contacts(uuid[], bytea[], bytea[]) is
    'Puts keys that the operator wrapped by another master key, each in place of the one that he read; leaves an audit row a batch.';

revoke execute on function
    agreement.seal_contact(uuid, bytea, bytea), agreement.shred_contact(uuid), agreement.consume_contact_read(uuid)
from public;
grant execute on function
    agreement.seal_contact(uuid, bytea, bytea), agreement.shred_contact(uuid), agreement.consume_contact_read(uuid)
to brokerflow_app;

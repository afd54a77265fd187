-- name: create_invitation(organization_id, email, role, lifetime)<!
-- Invite an address to an organization.
-- record: Invitation
select i.id, i.organization_id, i.email, i.role, i.state, i.invited_by, i.created_at, i.expires_at, i.settled_at
-- It grows with the members of the organization: whether the address is one of theirs is asked of each.
from shared.create_invitation(:organization_id, :email, :role, :lifetime) as i;

-- name: list_invitations(organization_id, before, limit)
-- List the invitations of an organization that the caller administers, newest first.
-- record: Invitation
-- optional: before
select i.id, i.organization_id, i.email, i.role, i.state, i.invited_by, i.created_at, i.expires_at, i.settled_at
from shared.invitations as i
where i.organization_id = :organization_id and (select shared.can_administer(:organization_id))
    and i.id < (select coalesce(:before::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
order by i.id desc
limit :limit;

-- name: revoke_invitation(organization_id, id)^
-- Take an invitation back.
-- record: Invitation
update shared.invitations as i
set state = 'revoked'
where i.id = :id and i.organization_id = :organization_id and (select shared.can_administer(:organization_id))
returning i.id, i.organization_id, i.email, i.role, i.state, i.invited_by, i.created_at, i.expires_at, i.settled_at;

-- name: list_received_invitations(before, limit)
-- List the invitations that the caller may accept, newest first.
-- record: ReceivedInvitation
-- optional: before
select
    i.id as "id!", i.organization_id as "organization_id!", i.organization as "organization!", i.title as "title!", i.role as "role!",
    i.created_at as "created_at!", i.expires_at as "expires_at!"
from shared.received_invitations() as i
where i.id < (select coalesce(:before::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
order by i.id desc
limit :limit;

-- name: answer_invitation(id, state)^
-- Accept or decline an invitation of the caller's address.
-- record: Invitation
update shared.invitations as i
set state = :state
where i.id = :id and i.address = (select shared.current_address())
returning i.id, i.organization_id, i.email, i.role, i.state, i.invited_by, i.created_at, i.expires_at, i.settled_at;

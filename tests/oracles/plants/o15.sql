-- he has 2 votes for maps.v2
alter table vote.votes drop constraint votes_one_a_user_an_api;
insert into vote.votes (user_id, api_identifier) select id, 'maps.v2' from shared.users limit 1;
insert into vote.votes (user_id, api_identifier) select user_id, api_identifier from vote.votes where api_identifier = 'maps.v2';

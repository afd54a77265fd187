drop table vote.votes;

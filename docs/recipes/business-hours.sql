create table tickets (id bigint primary key, opened_at timestamptz, closed_at timestamptz);
create table answers (ticket_id bigint);
create table office_hours (opens timestamptz, closes timestamptz);
create index on office_hours (opens);
-- Open in the hours up to 20 hours ago, and again from an hour ago on.
insert into office_hours values
  (now() - interval '28 hours', now() - interval '20 hours'), (now() - interval '1 hour', now() + interval '7 hours');
insert into tickets values
  (1, now() - interval '30 hours', now() - interval '27 hours'),
  (2, now() - interval '20 hours', now() - interval '19 hours'),
  (3, now() - interval '10 hours', now() - interval '9 hours');
insert into answers values (1);
-- broken: tickets sessions_with_gap 1
delete from answers;
-- mended
insert into answers values (1), (2), (3);

create table scores (id text primary key, value float8);
create table job_executions (id text primary key, status text, output_score_id text, created_at timestamptz, ended_at timestamptz);
insert into scores select 's' || n, 0.5 from generate_series(1, 5) n;
insert into job_executions
select 'j' || n, 'completed', 's' || n, now() - interval '2 days', now() - interval '1 day' from generate_series(1, 5) n;
insert into job_executions values ('j9', 'failed', null, now() - interval '2 days', now() - interval '1 day');
-- broken: evaluations sessions_with_gap 2
update job_executions set output_score_id = null where id = 'j1';
delete from scores where id = 's2';
-- mended
update job_executions set output_score_id = 's1' where id = 'j1';
insert into scores values ('s2', 0.5);

create table reports (id bigint primary key, created_at timestamptz, finished_at timestamptz);
create table summaries (report_id bigint, model text, written_at timestamptz default now());
insert into reports select n, now() - interval '2 days', now() - interval '47 hours' from generate_series(1, 6) n;
insert into summaries (report_id, model) values (1, 'v1.10'), (2, 'v1.10.3'), (3, '1.12'), (4, '2.0'), (5, 'v1.11'), (6, 'v10');
-- broken: reports outdated_sessions summaries 2
-- broken: reports sessions_with_gap 2
update summaries set model = 'v1.9' where report_id = 1;
update summaries set model = 'latest' where report_id = 2;
-- mended
update summaries set model = 'v1.12' where report_id < 3;

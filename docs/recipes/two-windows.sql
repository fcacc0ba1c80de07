create table documents (id bigint primary key, is_draft boolean default false, created_at timestamptz, imported_on date);
create table pages (document_id bigint);
insert into documents
select n, false, now() - interval '20 hours', current_date from generate_series(1, 5) n
union all
select n, false, now() - interval '200 days', current_date - 150 from generate_series(6, 10) n;
insert into pages select n from generate_series(1, 9) n;
-- broken: today sessions_with_gap 3
-- broken: imported gap_ratio 0.4
delete from pages where document_id < 4;
-- mended
insert into pages values (1), (2), (3);

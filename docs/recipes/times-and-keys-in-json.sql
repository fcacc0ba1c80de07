create table uploads (body jsonb, began_ms bigint, ended_ms bigint);
create table thumbnails (path text, made_ms bigint);
insert into uploads
select jsonb_build_object('id', n, 'state', case when n = 6 then 'failed' else 'done' end),
  extract(epoch from now() - interval '2 days') * 1000, extract(epoch from now() - interval '47 hours') * 1000
from generate_series(1, 6) n;
insert into thumbnails
select 'uploads/' || n || '/small.png', extract(epoch from now() - interval '46 hours') * 1000 from generate_series(1, 5) n;
-- broken: uploads sessions_with_gap 2
delete from thumbnails where path in ('uploads/2/small.png', 'uploads/3/small.png');
-- mended
insert into thumbnails
select 'uploads/' || n || '/small.png', extract(epoch from now()) * 1000 from generate_series(2, 3) n;

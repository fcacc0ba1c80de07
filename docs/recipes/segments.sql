create table orders (id bigint primary key, tenant text, state text, created_at timestamptz, shipped_at timestamptz);
create table invoices (order_id bigint);
insert into orders
select n, 'tenant ' || n % 3, 'shipped', now() - interval '2 days', now() - interval '1 day' from generate_series(1, 30) n;
insert into invoices select n from generate_series(1, 30) n;
-- broken: orders segment_gap_ratio 0.3
delete from invoices where order_id in (3, 6, 9, 10);
-- mended
insert into invoices values (3), (6), (9), (10);

create table orders (id bigint primary key, state text, is_test boolean not null, created_at timestamptz, shipped_at timestamptz);
create table invoices (order_id bigint);
insert into orders
select n, 'shipped', n > 6, now() - interval '2 days', now() - interval '1 day' from generate_series(1, 9) n;
insert into invoices select n from generate_series(1, 6) n;
-- broken: orders sessions_with_gap 1
delete from invoices where order_id = 1;
-- mended
insert into invoices values (1);

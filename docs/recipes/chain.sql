create table orders (id bigint primary key, state text, created_at timestamptz, shipped_at timestamptz);
create table invoices (id bigint primary key, order_id bigint, total numeric, issued_at timestamptz);
create table payments (invoice_id bigint);
insert into orders select n, 'shipped', now() - interval '4 days', now() - interval '3 days' from generate_series(1, 6) n;
insert into invoices select n, n, 10, now() - interval '3 days' from generate_series(1, 6) n;
insert into payments select n from generate_series(1, 6) n;
-- broken: orders sessions_with_gap 1
-- broken: invoices sessions_with_gap 2
delete from payments where invoice_id in (1, 2, 3);
delete from invoices where id = 1;
-- mended
insert into invoices values (1, 1, 10, now());
insert into payments values (2), (3);

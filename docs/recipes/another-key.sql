create table orders (id bigint primary key, number text unique, state text, created_at timestamptz, shipped_at timestamptz);
create table parcels (order_id bigint);
create table receipts (order_number text);
insert into orders
select n, 'A-' || n, 'shipped', now() - interval '2 days', now() - interval '1 day' from generate_series(1, 20) n;
insert into parcels select n from generate_series(1, 20) n;
insert into receipts select 'A-' || n from generate_series(1, 20) n;
-- broken: orders sessions_with_gap 2
-- broken: orders unlinked_records receipts 1
delete from receipts where order_number in ('A-3', 'A-7');
insert into receipts values ('B-1');
-- mended
insert into receipts values ('A-3'), ('A-7');
delete from receipts where order_number = 'B-1';

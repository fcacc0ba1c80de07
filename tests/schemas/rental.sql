-- Expected: rental (rental_id), rental_date to return_date, records payment by rental_id.
create table customer (
  customer_id serial primary key, first_name text, email text, activebool boolean not null default true,
  create_date date not null default current_date, last_update timestamptz, active int
);
create table film (film_id serial primary key, title text, rental_duration int, last_update timestamptz);
create table inventory (inventory_id serial primary key, film_id int not null references film, last_update timestamptz);
create table staff (staff_id serial primary key, name text, active boolean not null default true, last_update timestamptz);
create table rental (
  rental_id serial primary key, rental_date timestamptz not null, inventory_id int not null references inventory,
  customer_id int not null references customer, return_date timestamptz, staff_id int not null references staff,
  last_update timestamptz not null default now()
);
create table payment (
  payment_id serial, customer_id int not null references customer, staff_id int not null references staff,
  rental_id int not null references rental, amount numeric(5, 2) not null, payment_date timestamptz not null,
  primary key (payment_date, payment_id)
) partition by range (payment_date);
create table payment_old partition of payment for values from (minvalue) to ('2026-01-01');
create table payment_new partition of payment for values from ('2026-01-01') to (maxvalue);
insert into customer (first_name) select 'c' || n from generate_series(1, 20) n;
insert into film (title) select 'f' || n from generate_series(1, 20) n;
insert into inventory (film_id) select n from generate_series(1, 20) n;
insert into staff (name) values ('a'), ('b');
insert into rental (rental_date, inventory_id, customer_id, return_date, staff_id)
select now() - n * interval '2 hours', 1 + n % 20, 1 + n % 20,
  case when n > 30 then now() - n * interval '2 hours' + interval '1 day' end, 1 + n % 2
from generate_series(1, 900) n;
insert into payment (customer_id, staff_id, rental_id, amount, payment_date)
select customer_id, staff_id, rental_id, 2.99, rental_date + interval '5 minutes' from rental where rental_id % 80 <> 0;

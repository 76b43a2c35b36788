-- Run once by the official Postgres image, after it created the warehouse database.
create database airflow;

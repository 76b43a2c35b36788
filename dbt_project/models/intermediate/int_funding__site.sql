with verdicts as (

    select * from {{ ref('int_funding__verdict') }}

),

claims as (

    select * from {{ ref('int_funding__claim') }}

),

services as (

    select * from {{ ref('int_evse__service') }}

),

taken as (

    select distinct claims.charger_key
    from claims
    inner join verdicts on verdicts.asset_id = claims.asset_id
    where verdicts.is_claim_taken and claims.charger_key is not null

),

-- The chargers that no id speaks of.
chargers as (

    select
        site_key,
        count(distinct charger_key) as charger_count
    from services
    where charger_key not in (select taken.charger_key from taken)
    group by site_key

),

listed as (

    select
        near_site_key as site_key,
        count(*) as row_count,
        count(distinct (program, round)) as round_count
    from verdicts
    where near_site_key is not null
    group by near_site_key

),

-- A row of the list stands for one charger: which one is known only when the rows are enough for all that are there.
judged as (

    select
        listed.site_key,
        case
            when listed.round_count > 1 then 'several_rounds_at_site'
            when coalesce(chargers.charger_count, 0) > listed.row_count then 'more_chargers_than_rows'
            when coalesce(chargers.charger_count, 0) < listed.row_count then 'fewer_chargers_than_rows'
        end as reason
    from listed
    left join chargers on chargers.site_key = listed.site_key

)

select
    site_key,
    reason,
    reason is null or reason = 'fewer_chargers_than_rows' as is_matched
from judged

"""The hard split's APIs: their values are booleans, small digits and a few options, shared by many APIs.

Each value still follows from the request: whom or where it is for, how many, and which of two wordings it uses.
"""

from rolewise.generator.apis import Api
from rolewise.generator.arguments import few, few_more, option, person, place

HARD_APIS = (
    Api(
        "laundry",
        "wash_linen",
        "Wash linen",
        {
            "who": person("linen_owner"),
            "loads": few("wash_loads"),
            "bleach": option("bleach_used", with_bleach=True, without_bleach=False),
        },
        ("wash {loads} loads for {who} {bleach}", "have {who} given {loads} clean baskets, done {bleach}"),
    ),
    Api(
        "laundry",
        "iron_shirts",
        "Iron shirts",
        {
            "who": person("shirt_owner"),
            "shirts": few_more("shirt_total"),
            "heat": option("iron_heat", on_a_hot_iron="high", on_a_mild_iron="low"),
        },
        ("iron {shirts} shirts of {who} {heat}", "do {shirts} shirts for {who} {heat}"),
    ),
    Api(
        "stage",
        "hold_seats",
        "Hold theatre seats",
        {
            "house": place("playhouse"),
            "seats": few("seat_total"),
            "aisle": option("aisle_wanted", on_the_aisle=True, away_from_the_aisle=False),
        },
        ("hold {seats} seats at {house} {aisle}", "keep {seats} places {aisle} in the {house} theatre"),
    ),
    Api(
        "stage",
        "rent_costumes",
        "Rent costumes",
        {
            "who": person("wearer"),
            "pieces": few_more("costume_total"),
            "cut": option("costume_cut", in_a_roomy_cut="large", in_a_snug_cut="small"),
        },
        ("rent {pieces} costumes {cut} for {who}", "find {who} costumes {cut}, {pieces} of them"),
    ),
    Api(
        "library",
        "lend_books",
        "Lend books",
        {
            "who": person("borrower"),
            "books": few("book_total"),
            "renewal": option("renewable", with_renewal=True, without_renewal=False),
        },
        ("lend {who} {books} books {renewal}", "let {who} take {books} volumes home {renewal}"),
    ),
    Api(
        "library",
        "open_room",
        "Open a reading room",
        {
            "room": place("reading_room"),
            "desks": few_more("desk_total"),
            "shift": option("room_shift", before_noon="early", past_teatime="late"),
        },
        ("open the {room} room with {desks} desks {shift}", "unlock {desks} desks in the {room} room {shift}"),
    ),
    Api(
        "post",
        "send_cards",
        "Send postcards",
        {
            "who": person("addressee"),
            "cards": few("card_total"),
            "signed": option("signature_asked", against_signature=True, without_signature=False),
        },
        ("send {who} {cards} postcards {signed}", "mail {cards} cards to {who} {signed}"),
    ),
    Api(
        "post",
        "fetch_crates",
        "Collect crates",
        {
            "where": place("pickup_site"),
            "crates": few("crate_total"),
            "care": option("care_needed", as_fragile_goods="high", as_sturdy_goods="low"),
        },
        ("collect {crates} crates at {where} {care}", "pick {crates} crates up from {where} {care}"),
    ),
    Api(
        "sport",
        "rent_court",
        "Rent a tennis court",
        {
            "club": place("court_site"),
            "hours": few("court_hours"),
            "lights": option("floodlit", with_floodlights=True, without_floodlights=False),
        },
        ("rent a court at {club} for {hours} hours {lights}", "get us {hours} hours of tennis at {club} {lights}"),
    ),
    Api(
        "sport",
        "string_rackets",
        "String rackets",
        {
            "who": person("player"),
            "rackets": few_more("racket_total"),
            "tension": option("string_tension", strung_tight="high", strung_loose="low"),
        },
        ("prepare {rackets} rackets for {who}, {tension}", "have {rackets} rackets of {who} {tension}"),
    ),
    Api(
        "pets",
        "board_cats",
        "Board cats",
        {
            "who": person("cat_owner"),
            "cats": few("cat_total"),
            "brush": option("brushing", with_brushing=True, without_brushing=False),
        },
        ("take in {cats} cats of {who} {brush}", "board {cats} cats for {who} {brush}"),
    ),
    Api(
        "pets",
        "walk_dogs",
        "Walk dogs",
        {
            "park": place("walk_site"),
            "dogs": few("dog_total"),
            "hour": option("walk_hour", at_breakfast="early", at_bedtime="late"),
        },
        ("walk {dogs} dogs round {park} {hour}", "take {dogs} dogs out to {park} {hour}"),
    ),
    Api(
        "picnic",
        "pack_hampers",
        "Pack picnic hampers",
        {
            "spot": place("picnic_site"),
            "hampers": few_more("hamper_total"),
            "guests": option("hamper_size", for_a_crowd="large", for_a_couple="small"),
        },
        ("pack {hampers} hampers {guests} at {spot}", "bring {hampers} hampers {guests} over to {spot}"),
    ),
    Api(
        "picnic",
        "lay_rugs",
        "Lay out rugs",
        {
            "spot": place("rug_site"),
            "rugs": few("rug_total"),
            "shade": option("in_shade", in_the_shade=True, in_the_sun=False),
        },
        ("lay {rugs} rugs out {shade} at {spot}", "spread {rugs} rugs {shade} by {spot}"),
    ),
    Api(
        "survey",
        "count_birds",
        "Count birds",
        {
            "where": place("count_site"),
            "rounds": few("count_rounds"),
            "photos": option("photographed", with_photographs=True, without_photographs=False),
        },
        ("count birds at {where} in {rounds} rounds {photos}", "do {rounds} bird counts around {where} {photos}"),
    ),
)
